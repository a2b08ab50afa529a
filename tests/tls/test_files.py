"""Certificates, keys and authorities that cannot be used: which file, and why."""

from __future__ import annotations

import os
import pty
import pwd
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certificates import write_key
from evstore.config import TlsMode
from tls.kinds import (
    ENCRYPTED,
    PASSWORD,
    Kind,
    Servers,
    connects,
    files,
    refused,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from certificates import Certificate
    from servers import DebianServer
    from tls.kinds import Make

pytestmark = pytest.mark.slow

USER: Final = "kuma_cert"
KEY: Final = r"store\.postgres\.tls\.keyPath"
_SECONDS_MAX: Final = 30

# What both children do first.
ATTEMPT: Final = """
import os, sys
import anyio, evstore
from evstore.config import TlsMode

async def attempt(mode):
    environ = {**os.environ, "KUMA_STORE_POSTGRES_TLS_MODE": mode}
    try:
        async with evstore.open(evstore.load_config(environ=environ)) as store:
            await store.head()
    except evstore.StoreError as error:
        print(mode, type(error).__name__, error)
    else:
        print(mode, "connected")

modes = [mode for mode in TlsMode if mode is not TlsMode.DISABLE]
"""
# Connects as whoever runs it, which also loads all that it needs, and again when it may
# not read the key any more.
DEPRIVED: Final = f"""{ATTEMPT}
async def main():
    for mode in modes:
        await attempt(mode)
    if os.geteuid() == 0:
        user = int(sys.argv[1])
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    else:
        os.chmod(os.environ["KUMA_STORE_POSTGRES_TLS_KEY_PATH"], 0)
    for mode in modes:
        await attempt(mode)

anyio.run(main)
"""
# The first terminal that a new session opens is the one that it can be asked at.
AT_A_TERMINAL: Final = f"""{ATTEMPT}
async def main():
    for mode in modes:
        await attempt(mode)

with open(sys.argv[1], "r+b", buffering=0), open("/dev/tty", "r+b", buffering=0):
    anyio.run(main)
"""


def other_key(path: Path) -> None:
    write_key(path, ec.generate_private_key(ec.SECP256R1()))


def locked_key(path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    write_key(path, key, passphrase=b"open sesame")


def nothing(path: Path) -> None:
    path.unlink()


def no_pem(path: Path) -> None:
    path.write_text("this is no certificate\n", encoding="utf-8")


def readable_by(mode: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.chmod(mode)

    return change


@pytest.mark.parametrize("mode", ENCRYPTED)
@pytest.mark.parametrize(
    ("setting", "damage", "expected"),
    [
        pytest.param(
            "cert_path",
            nothing,
            r"^store\.postgres\.tls\.certPath: '.*\.crt' cannot be read: No such file",
            id="no-certificate",
        ),
        pytest.param(
            "cert_path",
            no_pem,
            r"could not read certificate file.* store\.postgres\.tls\.certPath must",
            id="no-pem-certificate",
        ),
        pytest.param(
            "key_path",
            nothing,
            rf"^{KEY}: '.*\.key' cannot be read: No such file",
            id="no-key",
        ),
        pytest.param(
            "key_path",
            no_pem,
            rf"could not load private key file.* {KEY} must",
            id="no-pem-key",
        ),
        pytest.param(
            "key_path",
            other_key,
            rf"private key file.* {KEY} must be the key of store\.postgres\.tls\.certPath",
            id="other-key",
        ),
        pytest.param(
            "key_path",
            locked_key,
            rf"could not load private key file.* {KEY} must .* without a passphrase",
            id="key-with-passphrase",
        ),
        pytest.param(
            "key_path",
            readable_by(0o644),
            rf"has group or world access.* {KEY} must .*mode 0600",
            id="world-readable-key",
        ),
        pytest.param(
            "key_path",
            readable_by(0o604),
            rf"has group or world access.* {KEY} must .*mode 0600",
            id="key-readable-by-others",
        ),
    ],
)
async def test_a_file_of_the_client_that_cannot_be_used_is_named(
    servers: Servers,
    make: Make,
    *,
    mode: TlsMode,
    setting: str,
    damage: Callable[[Path], None],
    expected: str,
) -> None:
    pair = servers.authority.issue(USER)
    damage(getattr(pair, setting))
    message = await refused(make(mode, user=USER, **files(pair)))
    assert re.search(expected, message)


@pytest.mark.parametrize("mode", ENCRYPTED)
async def test_a_key_that_root_shares_with_a_group_is_used(
    servers: Servers, make: Make, right: DebianServer, mode: TlsMode
) -> None:
    pair = servers.authority.issue(USER)
    pair.key_path.chmod(0o640)
    config = make(mode, user=USER, **files(pair))
    if os.geteuid() == 0:
        await connects(config, right)
    else:
        assert re.search(rf"has group or world access.* {KEY}", await refused(config))


def child(
    program: str, argument: str, *, port: int, ca_path: Path, pair: Certificate
) -> list[str]:
    """Run a program that connects; return the lines that it printed."""
    given = {
        "TYPE": "postgres",
        "POSTGRES_HOST": "localhost",
        "POSTGRES_PORT": str(port),
        "POSTGRES_USER": USER,
        "POSTGRES_PASSWORD": PASSWORD,
        "POSTGRES_TLS_CA_PATH": str(ca_path),
        "POSTGRES_TLS_CERT_PATH": str(pair.cert_path),
        "POSTGRES_TLS_KEY_PATH": str(pair.key_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", program, argument],
        env=os.environ | {f"KUMA_STORE_{name}": text for name, text in given.items()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
        start_new_session=True,
        text=True,
        timeout=_SECONDS_MAX,
    )
    return done.stdout.splitlines()


def test_a_key_that_this_user_may_not_read_is_named(
    servers: Servers, right: DebianServer
) -> None:
    nobody = str(pwd.getpwnam("nobody").pw_uid)
    lines = child(
        DEPRIVED,
        nobody,
        port=right.port,
        ca_path=servers.root.ca_path,
        pair=servers.authority.issue(USER),
    )
    assert lines[:3] == [f"{mode} connected" for mode in ENCRYPTED]
    for mode, line in zip(ENCRYPTED, lines[3:], strict=True):
        refusal = rf"{mode} ConfigError .*could not load private key file.* {KEY} must"
        assert re.match(refusal, line)


def test_nobody_is_asked_for_a_passphrase_at_the_terminal(
    servers: Servers, right: DebianServer
) -> None:
    pair = servers.authority.issue(USER)
    locked_key(pair.key_path)
    ours, theirs = pty.openpty()
    try:
        lines = child(
            AT_A_TERMINAL,
            os.ttyname(theirs),
            port=right.port,
            ca_path=servers.root.ca_path,
            pair=pair,
        )
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)
    finally:
        os.close(theirs)
        os.close(ours)
    for mode, line in zip(ENCRYPTED, lines, strict=True):
        assert re.match(rf"{mode} ConfigError .* {KEY} must", line)


@pytest.mark.parametrize("mode", ENCRYPTED)
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (nothing, r"^store\.postgres\.tls\.caPath: '.*' cannot be read: No such file"),
        (no_pem, r"root certificate file.* store\.postgres\.tls\.caPath must"),
    ],
)
async def test_authorities_that_cannot_be_used_are_named_by_the_modes_that_check(
    make: Make,
    right: DebianServer,
    tmp_path: Path,
    *,
    mode: TlsMode,
    damage: Callable[[Path], None],
    expected: str,
) -> None:
    authorities = tmp_path / "authorities.crt"
    authorities.touch()
    damage(authorities)
    config = make(mode, ca_path=str(authorities))
    if mode is TlsMode.VERIFY_NONE:
        await connects(config, right)
    else:
        assert re.search(expected, await refused(config))


@pytest.mark.parametrize("mode", [TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL])
async def test_a_file_called_system_is_a_file(
    make: Make,
    servers: Servers,
    right: DebianServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    mode: TlsMode,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "'system' cannot be read" in await refused(make(mode, ca_path="system"))
    (tmp_path / "system").write_bytes(servers.root.ca_path.read_bytes())
    await connects(make(mode, ca_path="system"), right)


@pytest.mark.parametrize(
    "damage",
    [
        nothing,
        no_pem,
        locked_key,
        pytest.param(readable_by(0o644), id="readable-by-all"),
        pytest.param(readable_by(0), id="readable-by-nobody"),
    ],
)
async def test_without_tls_no_file_is_looked_at(
    servers: Servers, damage: Callable[[Path], None]
) -> None:
    server = servers[Kind.PLAIN]
    pair = servers.authority.issue(USER)
    damage(pair.key_path)
    unused: dict[str, Any] = {**files(pair), "ca_path": "/nowhere/ca.crt"}
    await connects(settings(server.port, TlsMode.DISABLE, **unused), server)
