"""Servers of every kind that the matrix of TLS has, and settings for each of them."""

from __future__ import annotations

import enum
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

import evstore
from certificates import Certificate, CertificateAuthority
from evstore import Config
from evstore.config import PostgresConfig, StoreType, TlsConfig, TlsMode
from evstore.errors import ConfigError, StoreError
from evstore.maintenance import migrate_up
from servers import DebianServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., Config]

PASSWORD: Final = "correct horse battery"
HOST: Final = "localhost"
ENCRYPTED: Final = (TlsMode.VERIFY_NONE, TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL)
ROLES: Final = ("kuma", "kuma_scram", "kuma_cert", "kuma_mtls", "kuma_ca", "kuma_plain")

# The last line is the one of Kong Mesh's documentation.
_HBA_TLS: Final = """\
hostnossl all kuma_plain 0.0.0.0/0 scram-sha-256
hostssl   all kuma_plain 0.0.0.0/0 reject
hostssl   all kuma_scram 0.0.0.0/0 scram-sha-256
hostssl   all kuma_cert  0.0.0.0/0 cert
hostssl   all kuma_mtls  0.0.0.0/0 scram-sha-256 clientcert=verify-full
hostssl   all kuma_ca    0.0.0.0/0 password clientcert=verify-ca
hostssl all all 0.0.0.0/0 password
"""
_HBA_PLAIN: Final = """\
host all kuma_scram 0.0.0.0/0 scram-sha-256
host all all        0.0.0.0/0 password
"""


class Kind(enum.StrEnum):
    """What a server shows to its clients; they trust the root authority."""

    PLAIN = "no TLS at all"
    RIGHT = "the right certificate, with the intermediate authority's"
    OTHER_AUTHORITY = "a certificate of another authority"
    WRONG_HOST = "a certificate for another host name"
    EXPIRED = "a certificate that has expired"
    SELF_SIGNED = "a certificate that has signed itself"
    NO_CHAIN = "the right certificate, without the intermediate authority's"


class Servers:
    """The servers, each started when a test first asks for it."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._stack = ExitStack()
        self._running: dict[Kind, DebianServer] = {}
        self.shown: Final[dict[Kind, Certificate]] = {}
        certificates = folder / "certificates"
        certificates.mkdir()
        self.root: Final = CertificateAuthority(certificates, "root")
        self.authority: Final = CertificateAuthority(
            certificates, "intermediate", parent=self.root
        )
        self.stranger: Final = CertificateAuthority(certificates, "stranger")
        self.hermit: Final = CertificateAuthority(certificates, "hermit")
        self._template: Final = self._migrated()

    def __getitem__(self, kind: Kind) -> DebianServer:
        if kind not in self._running:
            server = DebianServer(self._programs, self._empty(kind.name))
            server.copy(self._template)
            server.start(*self._manner(server, kind))
            self._stack.callback(server.stop)
            self._running[kind] = server
        return self._running[kind]

    def close(self) -> None:
        """Stop all that run."""
        self._stack.close()

    def _empty(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder

    def _manner(self, server: DebianServer, kind: Kind) -> tuple[str, dict[str, str]]:
        """Return pg_hba.conf and the settings of a server of this kind."""
        hosts = (HOST,)
        match kind:
            case Kind.PLAIN:
                return _HBA_PLAIN, {"ssl": "off"}
            case Kind.RIGHT:
                pair = self.authority.issue("server", hosts=hosts)
            case Kind.OTHER_AUTHORITY:
                pair = self.stranger.issue("server", hosts=hosts)
            case Kind.WRONG_HOST:
                pair = self.authority.issue("server", hosts=("db.example.com",))
            case Kind.EXPIRED:
                pair = self.authority.issue("server", hosts=hosts, expired=True)
            case Kind.SELF_SIGNED:
                pair = self.hermit.own(hosts=hosts)
            case Kind.NO_CHAIN:
                pair = self.authority.issue("server", hosts=hosts, chain=False)
        server.own(*pair)
        self.shown[kind] = pair
        return _HBA_TLS, {
            "ssl": "on",
            "ssl_ca_file": str(self.root.ca_path),
            "ssl_cert_file": str(pair.cert_path),
            "ssl_key_file": str(pair.key_path),
        }

    def _migrated(self) -> DebianServer:
        """Return a server with roles and a migrated database, stopped, to copy from."""
        server = DebianServer(self._programs, self._empty("template"))
        server.initialise()
        server.start("", {})
        try:
            for role in ROLES:
                member = "" if role == "kuma" else "IN ROLE kuma"
                server.psql(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' {member}")
            server.psql("CREATE DATABASE kuma OWNER kuma")
            anyio.run(migrate_up, settings(server.port, host=str(server.folder)))
        finally:
            server.stop()
        return server


def settings(
    port: int,
    mode: TlsMode = TlsMode.DISABLE,
    *,
    host: str = HOST,
    user: str = "kuma",
    password: str = PASSWORD,
    **tls: Any,
) -> Config:
    """Return settings for a server; by default they are right."""
    return Config(
        type=StoreType.POSTGRES,
        postgres=PostgresConfig(
            host=host,
            port=port,
            user=user,
            password=password,
            db_name="kuma",
            tls=TlsConfig(mode=mode, **tls),
        ),
    )


def files(pair: Certificate) -> dict[str, str]:
    """Return the settings that give a client its certificate."""
    return {"cert_path": str(pair.cert_path), "key_path": str(pair.key_path)}


async def connects(config: Config, server: DebianServer) -> None:
    """Open a store and read; every connection is as encrypted as the mode says."""
    async with evstore.open(config) as store:
        await store.head()
        rows = server.psql(
            "SELECT DISTINCT a.application_name || ' ' || s.ssl"
            " FROM pg_stat_activity AS a JOIN pg_stat_ssl AS s USING (pid)"
            f" WHERE a.usename = '{config.postgres.user}'"
        )
    found = set(rows.splitlines())
    encrypted = str(config.postgres.tls.mode is not TlsMode.DISABLE).lower()
    assert {f"evstore writer {encrypted}", f"evstore reader {encrypted}"} <= found
    assert all(row.endswith(f" {encrypted}") for row in found), found


async def refused(config: Config, kind: type[StoreError] = ConfigError) -> str:
    """Return what is said where a connection is refused."""
    with pytest.raises(StoreError) as caught:
        async with evstore.open(config):
            pytest.fail("it connected")
    assert type(caught.value) is kind, caught.value
    assert caught.value.retryable is (kind is not ConfigError)
    error: BaseException | None = caught.value
    while error is not None:
        assert PASSWORD not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__
    return str(caught.value)
