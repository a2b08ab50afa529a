"""Servers that the tests start beside the embedded one, and their certificates."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from evstore.clock import boot_microseconds, to_datetime, wall_microseconds

if TYPE_CHECKING:
    from collections.abc import Generator

_DEBIAN_PROGRAMS: Final = Path("/usr/lib/postgresql")
_DEBIAN_USER: Final = "postgres"
_START_SECONDS_MAX: Final = 30

_DEBIAN_HBA: Final = """\
local     all postgres   trust
hostnossl all kuma_plain 127.0.0.1/32 scram-sha-256
hostssl   all kuma_mtls  127.0.0.1/32 scram-sha-256 clientcert=verify-full
hostssl   all kuma       127.0.0.1/32 scram-sha-256
"""


def unavailable(reason: str) -> NoReturn:
    """Skip the test on a machine that cannot run it; CI is one that can."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def short_folder() -> Generator[Path]:
    """Make an empty folder that a server can use, whoever runs the tests.

    pytest's own are below one that only its user can enter, and their paths are long.
    """
    folder = Path(tempfile.mkdtemp(prefix="evstore-test-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Certificate(NamedTuple):
    """A certificate and its private key, in PEM files."""

    cert_path: Path
    key_path: Path


class CertificateAuthority:
    """Signs certificates of one day in a folder of its own."""

    def __init__(self, folder: Path, name: str = "evstore test CA") -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._serial = 0
        self.ca_path: Final = folder / "ca.crt"
        authority = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self._write(self.ca_path, authority)

    def issue(self, name: str, *, hosts: tuple[str, ...] = ()) -> Certificate:
        """Issue a certificate: for a server with `hosts`, for a client without."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key.public_key())
        if hosts:
            names = x509.SubjectAlternativeName([_host_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        stem = self._folder / f"{name}-{self._serial}"
        pair = Certificate(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        pair.key_path.touch(mode=0o600)
        pair.key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self._write(pair.cert_path, builder)
        return pair

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = to_datetime(wall_microseconds())
        self._serial += 1
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(self._serial)
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )

    def _write(self, path: Path, builder: x509.CertificateBuilder) -> None:
        signed = builder.sign(self._key, hashes.SHA256())
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


class DebianServer:
    """PostgreSQL from Debian's package, with TLS, on a free port of 127.0.0.1.

    Three roles, each with the same password and the right to create in the database
    `kuma`: `kuma` must use TLS, `kuma_mtls` must show a certificate of its name as
    well, and `kuma_plain` must not use TLS. The server's certificate is for
    `localhost` alone, so that `127.0.0.1` is a host name that does not match.
    """

    host: Final = "127.0.0.1"
    password: Final = "not a secret"
    db_name: Final = "kuma"

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._user = _DEBIAN_USER if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self.port: Final = _free_port()
        (folder / "certificates").mkdir()
        self.authority: Final = CertificateAuthority(folder / "certificates")
        self.ca_path: Final = self.authority.ca_path

    def __enter__(self) -> Self:
        server = self.authority.issue("server", hosts=("localhost",))
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            for path in (self._folder, *self._folder.rglob("*")):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        data = self._folder / "data"
        self._run("initdb", "-D", str(data), "-U", "postgres", "--no-sync")
        (data / "pg_hba.conf").write_text(_DEBIAN_HBA)
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
            "ssl": "on",
            "ssl_ca_file": str(self.ca_path),
            "ssl_cert_file": str(server.cert_path),
            "ssl_key_file": str(server.key_path),
        }
        with (self._folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(self._programs / "postgres", "-D", data),
                    *(f"--{name}={value}" for name, value in settings.items()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                user=self._user,
                group=self._user,
                extra_groups=self._user and [],
            )
        try:
            self._await_ready()
            for role in ("kuma", "kuma_mtls", "kuma_plain"):
                self.psql(f"CREATE ROLE {role} LOGIN PASSWORD '{self.password}'")
            self.psql("CREATE DATABASE kuma OWNER kuma")
            self.psql("GRANT CREATE ON DATABASE kuma TO kuma_mtls, kuma_plain")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(5)  # it waits for clients that the tests have left
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def psql(self, statement: str, *, database: str = "postgres") -> str:
        """Execute one statement as the superuser and return its rows as plain text."""
        return self._run(
            *("psql", "-X", "-q", "-A", "-t", "-h", str(self._folder)),
            *("-p", str(self.port), "-U", "postgres", "-d", database, "-c", statement),
        )

    def _await_ready(self) -> None:
        deadline = boot_microseconds() + _START_SECONDS_MAX * 1_000_000
        status = self._folder / "data" / "postmaster.pid"
        assert self._process is not None
        while not (status.exists() and status.read_text().endswith("ready   \n")):
            if self._process.poll() is not None or boot_microseconds() > deadline:
                pytest.fail((self._folder / "server.log").read_text())
            time.sleep(0.01)

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [self._programs / program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            cwd=self._folder,
            user=self._user,
            group=self._user,
            extra_groups=self._user and [],
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip("\n")


def debian_programs() -> Path:
    """Return the folder of Debian's newest PostgreSQL server, or skip the test."""
    found = [path.parent for path in _DEBIAN_PROGRAMS.glob("*/bin/postgres")]
    if not found:
        unavailable(
            f"no PostgreSQL server below {_DEBIAN_PROGRAMS}:"
            " apt-get install -y postgresql"
        )
    return max(found, key=lambda path: float(path.parent.name))


def _host_name(host: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ip_address(host))
    return x509.DNSName(host)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
