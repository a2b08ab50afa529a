"""PgBouncer from Debian's package, in transaction mode, before a server of the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import msgspec
import pytest

from evstore.clock import boot_microseconds
from servers import unavailable

if TYPE_CHECKING:
    from evstore import Config

_PROGRAM: Final = "/usr/sbin/pgbouncer"
_SECONDS_MAX: Final = 30
_PORT: Final = 6432  # nothing listens on it: it is part of the name of the socket
# Sessions go round: each transaction most likely meets another one than the last.
_SETTINGS: Final = """\
[databases]
* = host={host} port={port}

[pgbouncer]
pool_mode = transaction
server_round_robin = 1
default_pool_size = {sessions}
max_client_conn = 500
auth_type = trust
auth_file = {folder}/users.txt
listen_port = {listen_port}
unix_socket_dir = {folder}
"""


class Pooler:
    """PgBouncer on a socket in a folder of its own.

    It runs as the user who may open the server's socket.
    """

    def __init__(
        self, folder: Path, host: str, port: int, *, sessions: int = 5
    ) -> None:
        self._folder = folder
        self._program = shutil.which("pgbouncer") or _PROGRAM
        if not Path(self._program).exists():
            unavailable("no PgBouncer here: apt-get install -y pgbouncer")
        self._process: subprocess.Popen[bytes] | None = None
        settings = _SETTINGS.format(
            host=host,
            port=port,
            folder=folder,
            listen_port=_PORT,
            sessions=sessions,
        )
        (folder / "pgbouncer.ini").write_text(settings)
        (folder / "users.txt").write_text('"kuma" ""\n"postgres" ""\n')
        self._owner: int | None = None
        if os.geteuid() == 0:
            self._owner = Path(host).stat().st_uid
            for path in (folder, *folder.iterdir()):
                os.chown(path, self._owner, -1)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        path = self._folder / f".s.PGSQL.{_PORT}"
        with (self._folder / "pgbouncer.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, str(self._folder / "pgbouncer.ini")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                user=self._owner,
                extra_groups=None if self._owner is None else [],
            )
        deadline = boot_microseconds() + _SECONDS_MAX * 1_000_000
        with socket.socket(socket.AF_UNIX) as probe:
            while probe.connect_ex(str(path)):
                if self._process.poll() is not None or boot_microseconds() > deadline:
                    pytest.fail((self._folder / "pgbouncer.log").read_text())
                time.sleep(0.01)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it at once, and with it all connections through it."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
            self._process = None
            # It does not take over the socket of one that was killed.
            for left in self._folder.glob(".s.PGSQL.*"):
                left.unlink()

    def config(self, direct: Config) -> Config:
        """Return a configuration that leads through it to the same database."""
        postgres = msgspec.structs.replace(
            direct.postgres, host=str(self._folder), port=_PORT
        )
        return msgspec.structs.replace(direct, postgres=postgres)
