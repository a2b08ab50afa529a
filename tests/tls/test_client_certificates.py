"""Servers that ask for a certificate: with none, the right one and wrong ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from evstore.config import TlsMode
from tls.kinds import ENCRYPTED, Kind, Servers, connects, files, refused

if TYPE_CHECKING:
    from tls.kinds import Make

pytestmark = pytest.mark.slow

CONNECTS: Final = None
NEEDS_ONE: Final = (
    r"requires a valid client certificate"
    r".* Give store\.postgres\.tls\.certPath and store\.postgres\.tls\.keyPath"
)
NOT_TRUSTED: Final = r"alert unknown ca.* store\.postgres\.tls\.certPath"
EXPIRED: Final = r"alert certificate expired.* store\.postgres\.tls\.certPath"
OTHER_NAME: Final = (
    r"authentication failed for user"
    r".* store\.postgres\.tls\.certPath must be in the name of"
)
# By what is asked for in pg_hba.conf: cert, clientcert=verify-full, clientcert=verify-ca.
USERS: Final = ("kuma_cert", "kuma_mtls", "kuma_ca")
MATRIX: Final = {
    "none": (NEEDS_ONE, NEEDS_ONE, NEEDS_ONE),
    "right": (CONNECTS, CONNECTS, CONNECTS),
    "another authority": (NOT_TRUSTED, NOT_TRUSTED, NOT_TRUSTED),
    "another name": (OTHER_NAME, OTHER_NAME, CONNECTS),
    "expired": (EXPIRED, EXPIRED, EXPIRED),
    "without chain": (NOT_TRUSTED, NOT_TRUSTED, NOT_TRUSTED),
}
CELLS: Final = [
    pytest.param(shown, user, expected, id=f"{shown}-{user}")
    for shown, row in MATRIX.items()
    for user, expected in zip(USERS, row, strict=True)
]


def certificate(servers: Servers, shown: str, user: str) -> dict[str, str]:
    """Return the settings of a client that shows this certificate."""
    match shown:
        case "none":
            return {}
        case "right":
            return files(servers.authority.issue(user))
        case "another authority":
            return files(servers.stranger.issue(user))
        case "another name":
            return files(servers.authority.issue("somebody else"))
        case "expired":
            return files(servers.authority.issue(user, expired=True))
        case _:
            return files(servers.authority.issue(user, chain=False))


@pytest.mark.parametrize("mode", ENCRYPTED)
@pytest.mark.parametrize(("shown", "user", "expected"), CELLS)
async def test_a_mode_meets_a_server_that_asks_for_a_certificate(
    servers: Servers,
    make: Make,
    *,
    mode: TlsMode,
    shown: str,
    user: str,
    expected: str | None,
) -> None:
    config = make(mode, user=user, **certificate(servers, shown, user))
    if expected is CONNECTS:
        await connects(config, servers[Kind.RIGHT])
    else:
        assert re.search(expected, await refused(config))


@pytest.mark.parametrize("shown", MATRIX)
async def test_a_certificate_lets_nobody_in_without_tls(
    servers: Servers, make: Make, shown: str
) -> None:
    shows = certificate(servers, shown, "kuma_cert")
    message = await refused(make(TlsMode.DISABLE, user="kuma_cert", **shows))
    assert "Set store.postgres.tls.mode to verifyFull" in message
