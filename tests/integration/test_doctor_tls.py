"""What `evstore doctor` says over TLS, on the oldest server that is supported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from doctoring import as_user, checks
from evstore.config import Config, PostgresConfig, StoreType, TlsConfig, TlsMode
from evstore.maintenance import doctor, migrate_up
from unit.test_doctor_postgres import CHECKS

if TYPE_CHECKING:
    from tls.server import SecureServer


def config_of(server: SecureServer, mode: TlsMode, user: str = "kuma") -> Config:
    """Return the settings for a role in a mode of TLS."""
    checked = mode in (TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL)
    ca_path = str(server.ca_path) if checked else ""
    return Config(
        type=StoreType.POSTGRES,
        postgres=PostgresConfig(
            host="localhost",
            port=server.port,
            user=user,
            password=server.password,
            db_name=server.db_name,
            tls=TlsConfig(mode=mode, ca_path=ca_path),
        ),
    )


@pytest.mark.parametrize(
    ("mode", "user", "status", "words"),
    [
        (TlsMode.VERIFY_FULL, "kuma", "ok", "TLSv1.3, TLS_"),
        (TlsMode.VERIFY_CA, "kuma", "ok", "TLSv1.3, TLS_"),
        (TlsMode.VERIFY_NONE, "kuma", "warn", "can pose as the server"),
        (TlsMode.DISABLE, "kuma_plain", "ok", "not encrypted"),
    ],
)
async def test_the_negotiated_tls_is_told(
    debian_postgres: SecureServer, mode: TlsMode, user: str, status: str, words: str
) -> None:
    found = (await checks(config_of(debian_postgres, mode, user)))["tls"]
    assert (found.status, words in found.found) == (status, True), found


async def test_every_check_can_be_made(debian_postgres: SecureServer) -> None:
    config = config_of(debian_postgres, TlsMode.VERIFY_FULL)
    await migrate_up(config)
    found = await doctor(config)
    assert [each.check for each in found] == CHECKS
    told = {each.check: each.status for each in found if each.check != "rights"}
    assert set(told.values()) == {"ok"}, found


async def test_a_password_that_is_refused_is_not_shown(
    debian_postgres: SecureServer,
) -> None:
    config = config_of(debian_postgres, TlsMode.VERIFY_FULL)
    (found,) = await doctor(as_user(config, "kuma", password="hunter2 wrong"))
    assert (found.check, found.status) == ("reachable", "fail")
    assert "hunter2" not in repr(found)
