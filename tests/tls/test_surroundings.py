"""What libpq would find around it, in variables and in the home folder, changes nothing."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import psycopg
import pytest

import evstore
from evstore.config import TlsMode
from tls.kinds import ENCRYPTED, PASSWORD, Kind, Servers, connects, refused, settings

if TYPE_CHECKING:
    from pathlib import Path

    from servers import DebianServer
    from tls.kinds import Make

pytestmark = pytest.mark.slow

ENVIRONMENT = {
    "PGHOST": "nowhere.invalid",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "1",
    "PGUSER": "nobody",
    "PGPASSWORD": "wrong",
    "PGPASSFILE": "/nowhere",
    "PGDATABASE": "nowhere",
    "PGOPTIONS": "-c default_transaction_read_only=on",
    "PGSERVICE": "nowhere",
    "PGSERVICEFILE": "/nowhere",
    "PGSSLMODE": "disable",
    "PGREQUIRESSL": "1",
    "PGSSLROOTCERT": "/nowhere",
    "PGSSLCERT": "/nowhere",
    "PGSSLKEY": "/nowhere",
    "PGSSLCRL": "/nowhere",
    "PGSSLCRLDIR": "/nowhere",
    "PGSSLSNI": "0",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLMINPROTOCOLVERSION": "TLSv9",
    "PGSSLMAXPROTOCOLVERSION": "TLSv1",
    "PGSSLCERTMODE": "require",
    "PGREQUIREAUTH": "none",
    "PGCHANNELBINDING": "nonsense",
    "PGREQUIREPEER": "nobody",
    "PGGSSENCMODE": "require",
    "PGKRBSRVNAME": "nobody",
    "PGTARGETSESSIONATTRS": "standby",
    "PGLOADBALANCEHOSTS": "nonsense",
    "PGCONNECT_TIMEOUT": "nonsense",
    "PGCLIENTENCODING": "SQL_ASCII",
    "PGMINPROTOCOLVERSION": "nonsense",
    "PGMAXPROTOCOLVERSION": "nonsense",
    "PGAPPNAME": "somebody else",
    "PGTZ": "Nowhere/Land",
    "PGDATESTYLE": "nonsense",
}


@pytest.mark.parametrize("variable", ENVIRONMENT)
async def test_the_environment_of_libpq_changes_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, ENVIRONMENT[variable])
    async with evstore.open(make(TlsMode.VERIFY_FULL)) as store:
        await store.upsert("Mesh", "default", change=lambda _: {"not": variable})


@pytest.fixture
def home(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Put files for libpq into the home folder; return what it reads them with."""
    folder = tmp_path / ".postgresql"
    folder.mkdir()
    shutil.copy(servers.stranger.ca_path, folder / "root.crt")
    pair = servers.authority.issue("kuma_cert")
    shutil.copy(pair.cert_path, folder / "postgresql.crt")
    shutil.copy(pair.key_path, folder / "postgresql.key")
    passwords = tmp_path / ".pgpass"
    passwords.write_text(f"*:*:*:*:{PASSWORD}\n", encoding="utf-8")
    passwords.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    return {"host": "localhost", "dbname": "kuma", "connect_timeout": "5"}


def test_libpq_would_read_the_home_folder(
    home: dict[str, str], right: DebianServer, servers: Servers
) -> None:
    asked = {**home, "port": str(right.port), "sslmode": "require"}
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(**asked, user="kuma", password=PASSWORD)
    known = str(servers.root.ca_path)
    for user in ("kuma", "kuma_cert"):
        psycopg.connect(**asked, user=user, sslrootcert=known).close()


async def test_verify_none_checks_nothing_whatever_lies_in_the_home_folder(
    home: dict[str, str], make: Make, right: DebianServer
) -> None:
    del home
    await connects(make(TlsMode.VERIFY_NONE, ca_path=""), right)


@pytest.mark.parametrize("mode", [TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL])
async def test_an_authority_in_the_home_folder_is_not_trusted(
    home: dict[str, str], servers: Servers, mode: TlsMode
) -> None:
    del home
    server = servers[Kind.OTHER_AUTHORITY]
    config = settings(server.port, mode, ca_path=str(servers.root.ca_path))
    assert "certificate verify failed" in await refused(config)


@pytest.mark.parametrize("mode", ENCRYPTED)
async def test_a_certificate_in_the_home_folder_is_not_shown(
    home: dict[str, str], make: Make, mode: TlsMode
) -> None:
    del home
    assert "requires a valid client certificate" in await refused(
        make(mode, user="kuma_cert")
    )


@pytest.mark.parametrize("mode", ENCRYPTED)
async def test_a_password_in_the_home_folder_is_not_used(
    home: dict[str, str], make: Make, mode: TlsMode
) -> None:
    del home
    assert "Give store.postgres.password" in await refused(make(mode, password=""))
