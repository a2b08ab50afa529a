"""Servers that the tests start beside the embedded one."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import pytest

from evstore.clock import boot_microseconds

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

_DEBIAN_PROGRAMS: Final = Path("/usr/lib/postgresql")
_DEBIAN_USER: Final = "postgres"
_START_SECONDS_MAX: Final = 30
_STOP_SECONDS_MAX: Final = 30


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


class DebianServer:
    """PostgreSQL from Debian's package, on a free port of 127.0.0.1.

    Its folder, which must exist, holds its data, its log and its socket, through which
    the superuser `postgres` is let in without a password.
    """

    host: Final = "127.0.0.1"

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self.folder: Final = folder
        self.data: Final = folder / "data"
        self._user = _DEBIAN_USER if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self.port: Final = free_port()
        self.own(folder)

    def own(self, *paths: Path) -> None:
        """Hand files over to the user that the server runs as."""
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            for path in paths:
                os.chown(path, entry.pw_uid, entry.pw_gid)

    def initialise(self) -> None:
        """Make the data of a new server, small enough to be copied often."""
        self.run(
            *(self._programs / "initdb", "-D", self.data, "-U", "postgres"),
            *("--no-sync", "--wal-segsize=1", "--encoding=UTF8", "--locale=C.UTF-8"),
        )

    def copy(self, stopped: DebianServer) -> None:
        """Begin with the data of a server that is stopped."""
        self.run("cp", "-a", stopped.data, self.data)

    def start(self, hba: str, settings: Mapping[str, str]) -> None:
        """Start it with this pg_hba.conf, to which `local` lines are added."""
        lines = f"local all all trust\n{hba}"
        (self.data / "pg_hba.conf").write_text(lines, encoding="utf-8")
        given = {
            "fsync": "off",
            "listen_addresses": self.host,
            "port": str(self.port),
            "shared_buffers": "16MB",
            "unix_socket_directories": str(self.folder),
            **settings,
        }
        with (self.folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(self._programs / "postgres", "-D", self.data),
                    *(f"--{name}={value}" for name, value in given.items()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self._user,
                group=self._user,
                extra_groups=self._user and [],
            )
        try:
            self._await_ready(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it, and cut off the clients that it still has."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def psql(self, statement: str, *, database: str = "postgres") -> str:
        """Execute one statement as the superuser and return its rows as plain text."""
        return self.run(
            *(self._programs / "psql", "-X", "-q", "-A", "-t", "-h", self.folder),
            *("-p", str(self.port), "-U", "postgres", "-d", database, "-c", statement),
        )

    def run(self, *words: str | Path) -> str:
        """Run a program as the server's user and return what it printed."""
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            cwd=self.folder,
            user=self._user,
            group=self._user,
            extra_groups=self._user and [],
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip("\n")

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = boot_microseconds() + _START_SECONDS_MAX * 1_000_000
        status = self.data / "postmaster.pid"
        while not (status.exists() and status.read_text().endswith("ready   \n")):
            if process.poll() is not None or boot_microseconds() > deadline:
                pytest.fail((self.folder / "server.log").read_text())
            time.sleep(0.01)


def debian_programs() -> Path:
    """Return the folder of Debian's newest PostgreSQL server, or skip the test."""
    found = [path.parent for path in _DEBIAN_PROGRAMS.glob("*/bin/postgres")]
    if not found:
        unavailable(
            f"no PostgreSQL server below {_DEBIAN_PROGRAMS}:"
            " apt-get install -y postgresql"
        )
    return max(found, key=lambda path: float(path.parent.name))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
