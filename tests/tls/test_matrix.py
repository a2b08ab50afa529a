"""Each mode of TLS against each kind of server: connected, or refused and why."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from evstore.config import TlsMode
from evstore.errors import UnavailableError
from tls.kinds import ENCRYPTED, PASSWORD, Kind, Servers, connects, refused, settings

if TYPE_CHECKING:
    from servers import DebianServer
    from tls.kinds import Make

pytestmark = pytest.mark.slow

CONNECTS: Final = None
NEEDS_TLS: Final = (
    r"no pg_hba\.conf entry .*Set store\.postgres\.tls\.mode to verifyFull"
)
HAS_NO_TLS: Final = r"does not support SSL.* store\.postgres\.tls\.mode to disable"
NOT_TRUSTED: Final = r"certificate verify failed.* store\.postgres\.tls\.caPath"
OTHER_NAME: Final = (
    r"db\.example\.com.* does not match host name.* Set store\.postgres\.host"
    r".* store\.postgres\.tls\.mode to verifyCa"
)
# Of the modes in their order: disable, verifyNone, verifyCa, verifyFull.
MATRIX: Final = {
    Kind.PLAIN: (CONNECTS, HAS_NO_TLS, HAS_NO_TLS, HAS_NO_TLS),
    Kind.RIGHT: (NEEDS_TLS, CONNECTS, CONNECTS, CONNECTS),
    Kind.OTHER_AUTHORITY: (NEEDS_TLS, CONNECTS, NOT_TRUSTED, NOT_TRUSTED),
    Kind.WRONG_HOST: (NEEDS_TLS, CONNECTS, CONNECTS, OTHER_NAME),
    Kind.EXPIRED: (NEEDS_TLS, CONNECTS, NOT_TRUSTED, NOT_TRUSTED),
    Kind.SELF_SIGNED: (NEEDS_TLS, CONNECTS, NOT_TRUSTED, NOT_TRUSTED),
    Kind.NO_CHAIN: (NEEDS_TLS, CONNECTS, NOT_TRUSTED, NOT_TRUSTED),
}
CELLS: Final = [
    pytest.param(kind, mode, expected, id=f"{mode}-{kind.name}")
    for kind, row in MATRIX.items()
    for mode, expected in zip(TlsMode, row, strict=True)
]


def test_the_matrix_is_whole() -> None:
    assert set(MATRIX) == set(Kind)


@pytest.mark.parametrize("user", ["kuma", "kuma_scram"])
@pytest.mark.parametrize(("kind", "mode", "expected"), CELLS)
async def test_a_mode_meets_a_server(
    servers: Servers, kind: Kind, mode: TlsMode, expected: str | None, user: str
) -> None:
    server = servers[kind]
    config = settings(server.port, mode, user=user, ca_path=str(servers.root.ca_path))
    if expected is CONNECTS:
        await connects(config, server)
    else:
        assert re.search(expected, await refused(config))


@pytest.mark.parametrize("mode", ENCRYPTED)
async def test_a_certificate_that_has_signed_itself_may_be_the_authority(
    servers: Servers, mode: TlsMode
) -> None:
    server = servers[Kind.SELF_SIGNED]
    itself = str(servers.shown[Kind.SELF_SIGNED].cert_path)
    await connects(settings(server.port, mode, ca_path=itself), server)


@pytest.mark.parametrize("mode", [TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL])
async def test_a_missing_intermediate_authority_may_come_from_the_client(
    servers: Servers, mode: TlsMode
) -> None:
    server = servers[Kind.NO_CHAIN]
    both = servers.root.ca_path.with_name("both.crt")
    both.write_bytes(
        servers.authority.ca_path.read_bytes() + servers.root.ca_path.read_bytes()
    )
    await connects(settings(server.port, mode, ca_path=str(both)), server)


@pytest.mark.parametrize("mode", [TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL])
async def test_an_address_is_a_host_name_that_must_match_as_well(
    make: Make, right: DebianServer, mode: TlsMode
) -> None:
    config = make(mode, host="127.0.0.1")
    if mode is TlsMode.VERIFY_CA:
        await connects(config, right)
    else:
        assert "store.postgres.host" in await refused(config)


async def test_a_user_who_must_not_use_tls_connects_in_plain_only(
    make: Make, right: DebianServer
) -> None:
    await connects(make(TlsMode.DISABLE, user="kuma_plain"), right)
    for mode in ENCRYPTED:
        message = await refused(make(mode, user="kuma_plain"))
        assert "set store.postgres.tls.mode to disable" in message


@pytest.mark.parametrize("mode", TlsMode)
async def test_a_server_that_is_not_there_is_unavailable(
    make: Make, mode: TlsMode
) -> None:
    config = make(mode)
    elsewhere = config.__replace__(postgres=config.postgres.__replace__(port=1))
    assert "localhost:1 cannot be used now" in await refused(
        elsewhere, UnavailableError
    )


@pytest.mark.parametrize("user", ["kuma", "kuma_scram"])
async def test_a_wrong_password_is_refused_and_not_shown(make: Make, user: str) -> None:
    wrong = f"{PASSWORD} staple"
    message = await refused(make(TlsMode.VERIFY_FULL, user=user, password=wrong))
    assert "Check store.postgres.user and store.postgres.password" in message
    message = await refused(make(TlsMode.VERIFY_FULL, user=user, password=""))
    assert "Give store.postgres.password" in message


async def test_a_missing_database_and_a_missing_role_are_refused(make: Make) -> None:
    config = make(TlsMode.VERIFY_FULL)
    nowhere = config.__replace__(
        postgres=config.postgres.__replace__(db_name="nowhere")
    )
    assert re.search("nowhere.* Check store.postgres.dbName", await refused(nowhere))
    message = await refused(make(TlsMode.VERIFY_FULL, user="nobody"))
    assert re.search("nobody.* Check store.postgres.user", message)
