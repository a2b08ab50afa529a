"""TLS to PostgreSQL: what each mode checks, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import evstore
from evstore import Config
from evstore.config import PostgresConfig, StoreType, TlsConfig, TlsMode
from evstore.errors import ConfigError
from evstore.maintenance import migrate_up
from servers import CertificateAuthority, DebianServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., Config]


@pytest.fixture
def make(debian_postgres: DebianServer) -> Make:
    """Return a maker of configurations; by default they are right."""

    def config(
        mode: TlsMode,
        *,
        host: str = "localhost",
        user: str = "kuma",
        password: str = debian_postgres.password,
        **tls: Any,
    ) -> Config:
        return Config(
            type=StoreType.POSTGRES,
            postgres=PostgresConfig(
                host=host,
                port=debian_postgres.port,
                user=user,
                password=password,
                db_name=debian_postgres.db_name,
                tls=TlsConfig(mode=mode, **tls),
            ),
        )

    return config


@pytest.fixture
def ca(debian_postgres: DebianServer) -> dict[str, str]:
    return {"ca_path": str(debian_postgres.ca_path)}


@pytest.fixture(autouse=True)
async def _migrated(debian_postgres: DebianServer, make: Make) -> None:
    await migrate_up(make(TlsMode.VERIFY_NONE))
    debian_postgres.psql(
        "GRANT USAGE ON SCHEMA evstore TO PUBLIC;"
        " GRANT ALL ON ALL TABLES IN SCHEMA evstore TO PUBLIC;"
        " GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA evstore TO PUBLIC",
        database="kuma",
    )


async def refused(config: Config) -> str:
    """Return what is said where a connection is refused for good."""
    with pytest.raises(ConfigError) as caught:
        async with evstore.open(config):
            pytest.fail("it connected")
    assert not caught.value.retryable
    return str(caught.value)


def encrypted(server: DebianServer) -> set[str]:
    rows = server.psql(
        "SELECT DISTINCT a.application_name || ' ' || s.ssl FROM pg_stat_activity AS a"
        " JOIN pg_stat_ssl AS s USING (pid) WHERE a.application_name LIKE 'evstore %'"
    )
    return set(rows.splitlines())


@pytest.mark.parametrize(
    "mode", [TlsMode.VERIFY_NONE, TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL]
)
async def test_every_connection_is_encrypted(
    debian_postgres: DebianServer, make: Make, ca: dict[str, str], mode: TlsMode
) -> None:
    async with evstore.open(make(mode, **ca)) as store:
        await store.upsert("Mesh", "default", change=lambda _: {"mode": mode})
        await store.head()
        found = encrypted(debian_postgres)
    assert {"evstore writer true", "evstore reader true"} <= found
    assert not any(row.endswith("false") for row in found)


async def test_verify_none_checks_nothing(make: Make, tmp_path: Path) -> None:
    other = CertificateAuthority(tmp_path, "somebody else's CA")
    for host in ("localhost", "127.0.0.1"):
        config = make(TlsMode.VERIFY_NONE, host=host, ca_path=str(other.ca_path))
        async with evstore.open(config) as store:
            assert store.position >= 0


async def test_verify_ca_does_not_check_the_host_name(
    make: Make, ca: dict[str, str]
) -> None:
    async with evstore.open(make(TlsMode.VERIFY_CA, host="127.0.0.1", **ca)) as store:
        assert store.position >= 0


async def test_verify_full_refuses_another_host_name(
    make: Make, ca: dict[str, str]
) -> None:
    message = await refused(make(TlsMode.VERIFY_FULL, host="127.0.0.1", **ca))
    assert "127.0.0.1" in message


@pytest.mark.parametrize("mode", [TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL])
async def test_a_certificate_of_another_authority_is_refused(
    make: Make, tmp_path: Path, mode: TlsMode
) -> None:
    other = CertificateAuthority(tmp_path, "somebody else's CA")
    assert "certificate" in await refused(make(mode, ca_path=str(other.ca_path)))


@pytest.mark.parametrize("mode", [TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL])
async def test_an_authority_that_is_not_there_is_refused(
    make: Make, tmp_path: Path, mode: TlsMode
) -> None:
    missing = str(tmp_path / "missing.crt")
    assert missing in await refused(make(mode, ca_path=missing))


async def test_a_server_that_wants_tls_refuses_plain(make: Make) -> None:
    assert "pg_hba.conf" in await refused(make(TlsMode.DISABLE))


async def test_a_server_that_wants_plain_refuses_tls(make: Make) -> None:
    message = await refused(make(TlsMode.VERIFY_NONE, user="kuma_plain"))
    assert "pg_hba.conf" in message


async def test_disable_is_plain(debian_postgres: DebianServer, make: Make) -> None:
    async with evstore.open(make(TlsMode.DISABLE, user="kuma_plain")) as store:
        await store.head()
        found = encrypted(debian_postgres)
    assert "evstore writer false" in found
    assert not any(row.endswith("true") for row in found)


async def test_a_certificate_of_the_client_is_shown(
    debian_postgres: DebianServer, make: Make, ca: dict[str, str]
) -> None:
    pair = debian_postgres.authority.issue("kuma_mtls")
    config = make(
        TlsMode.VERIFY_FULL,
        user="kuma_mtls",
        cert_path=str(pair.cert_path),
        key_path=str(pair.key_path),
        **ca,
    )
    async with evstore.open(config) as store:
        assert store.position >= 0
    assert "certificate" in await refused(
        make(TlsMode.VERIFY_FULL, user="kuma_mtls", **ca)
    )


async def test_a_wrong_password_is_refused_and_not_shown(
    make: Make, ca: dict[str, str]
) -> None:
    wrong = "hunter2 wrong"
    with pytest.raises(ConfigError, match="kuma") as caught:
        async with evstore.open(make(TlsMode.VERIFY_FULL, password=wrong, **ca)):
            pytest.fail("it connected")
    error: BaseException | None = caught.value
    while error is not None:
        assert wrong not in str(error)
        assert wrong not in repr(error)
        error = error.__cause__ or error.__context__


async def test_a_missing_database_and_a_missing_role_are_refused(
    make: Make,
) -> None:
    config = make(TlsMode.VERIFY_NONE)
    nowhere = config.__replace__(
        postgres=config.postgres.__replace__(db_name="nowhere")
    )
    assert "nowhere" in await refused(nowhere)
    assert "nobody" in await refused(make(TlsMode.VERIFY_NONE, user="nobody"))


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
    make: Make, ca: dict[str, str], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, ENVIRONMENT[variable])
    async with evstore.open(make(TlsMode.VERIFY_FULL, **ca)) as store:
        await store.upsert("Mesh", "default", change=lambda _: {"not": variable})
