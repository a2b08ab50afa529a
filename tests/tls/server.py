"""A server with TLS, for tests that are about something else."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from certificates import CertificateAuthority
from servers import DebianServer, debian_programs, short_folder

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_HBA: Final = """\
hostnossl all kuma_plain 127.0.0.1/32 scram-sha-256
hostssl   all kuma       127.0.0.1/32 scram-sha-256
"""


class SecureServer(DebianServer):
    """PostgreSQL from Debian's package, with a certificate for `localhost`.

    Of two roles with the same password, `kuma` must use TLS and `kuma_plain` must not.
    """

    password: Final = "not a secret"
    db_name: Final = "kuma"

    def __init__(self, programs: Path, folder: Path) -> None:
        super().__init__(programs, folder)
        certificates = folder / "certificates"
        certificates.mkdir()
        self._authority: Final = CertificateAuthority(certificates, "root")
        self.ca_path: Final = self._authority.ca_path

    def begin(self) -> None:
        """Start it, with its roles and an empty database."""
        pair = self._authority.issue("server", hosts=("localhost",))
        self.own(*pair)
        self.initialise()
        settings = {
            "fsync": "on",
            "ssl": "on",
            "ssl_cert_file": str(pair.cert_path),
            "ssl_key_file": str(pair.key_path),
        }
        self.start(_HBA, settings)
        for role in ("kuma", "kuma_plain"):
            self.psql(f"CREATE ROLE {role} LOGIN PASSWORD '{self.password}'")
        self.psql("CREATE DATABASE kuma OWNER kuma")


@contextmanager
def secure_server() -> Generator[SecureServer]:
    """Run such a server in a folder that is then removed."""
    with short_folder() as folder:
        server = SecureServer(debian_programs(), folder)
        try:
            server.begin()
            yield server
        finally:
            server.stop()
