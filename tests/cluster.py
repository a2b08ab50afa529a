"""A primary and a streaming standby from Debian's package, each on its own address.

`store.postgres.port` is the same on each host, so they differ in their address:
everything in 127.0.0.0/8 is this machine.
"""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest

from evstore.clock import boot_microseconds
from evstore.config import Config, PostgresConfig, StoreType
from processes import frozen, kill_family
from servers import debian_programs

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

PRIMARY: Final = "127.0.0.1"
STANDBY: Final = "127.0.0.2"
_SUPERUSER: Final = "postgres"
_SECONDS_MAX: Final = 30
_HBA: Final = """\
local all         all              trust
host  all         all 127.0.0.0/8  trust
host  replication all 127.0.0.0/8  trust
"""


class Programs:
    """Debian's programs of PostgreSQL, run as its user where the tests run as root."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self._bin: Final = debian_programs()
        self._user: Final = _SUPERUSER if os.geteuid() == 0 else None
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)

    def run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [self._bin / program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=_SECONDS_MAX,
            cwd=self.folder,
            user=self._user,
            group=self._user,
            extra_groups=self._user and [],
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip("\n")

    def spawn(self, path: str, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a program; without a slash in it, it is one of PostgreSQL's."""
        program = path if "/" in path else str(self._bin / path)
        with log.open("ab") as output:
            return subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                user=self._user,
                group=self._user,
                extra_groups=self._user and [],
            )


class Node:
    """One server, which can be stopped, killed and promoted."""

    def __init__(self, programs: Programs, host: str, port: int) -> None:
        self.host: Final = host
        self.port: Final = port
        self.data: Final = programs.folder / f"data-{host}"
        self._programs = programs
        self._log = programs.folder / f"server-{host}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, settings: Mapping[str, str]) -> None:
        """Start the server, and wait until it answers."""
        all_ = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",  # what is killed here is processes, not a machine
            **settings,
        }
        options = [f"--{name}={value}" for name, value in all_.items()]
        self._process = self._programs.spawn(
            "postgres", "-D", str(self.data), *options, log=self._log
        )
        status = self.data / "postmaster.pid"
        deadline = boot_microseconds() + _SECONDS_MAX * 1_000_000
        while not _ready(status, self._process.pid):
            if self._process.poll() is not None or boot_microseconds() > deadline:
                pytest.fail(self._log.read_text())
            time.sleep(0.01)

    def stop(self) -> None:
        """End the server, whatever state it is in."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self.kill()

    def kill(self) -> None:
        """End all of its processes by SIGKILL."""
        assert self._process is not None
        process, self._process = self._process, None
        kill_family(process.pid)
        process.wait()

    def frozen(self) -> AbstractContextManager[None]:
        """Let the server do nothing meanwhile."""
        assert self._process is not None
        return frozen(self._process.pid)

    def promote(self) -> None:
        """Make a standby the primary, and wait until it is."""
        self._programs.run("pg_ctl", "promote", "-w", "-D", str(self.data))

    def psql(self, *statements: str, database: str = _SUPERUSER) -> str:
        """Execute statements as the superuser; return their rows as plain text."""
        commands = [word for each in statements for word in ("-c", each)]
        return self._programs.run(
            *("psql", "-X", "-q", "-A", "-t", "-h", self.host, "-p", str(self.port)),
            *("-U", _SUPERUSER, "-d", database, *commands),
        )

    def until(self, question: str, *, database: str = _SUPERUSER) -> None:
        """Return when the answer to a question is yes."""
        deadline = boot_microseconds() + _SECONDS_MAX * 1_000_000
        while self.psql(f"SELECT ({question})", database=database) != "t":
            if boot_microseconds() > deadline:
                pytest.fail(f"never true: {question}")
            time.sleep(0.02)


class Cluster:
    """A primary and a standby that streams from it; both take any role without password.

    The role and the database are called kuma.
    """

    def __init__(self, folder: Path) -> None:
        programs = Programs(folder)
        port = _free_port(PRIMARY, STANDBY)
        self.programs: Final = programs
        self.primary: Final = Node(programs, PRIMARY, port)
        self.standby: Final = Node(programs, STANDBY, port)

    def start(self) -> None:
        """Make both servers and start them."""
        primary, standby = self.primary, self.standby
        self.programs.run(
            *("initdb", "-D", str(primary.data), "-U", _SUPERUSER, "--no-sync"),
            *("--encoding=UTF8", "--locale=C"),
        )
        (primary.data / "pg_hba.conf").write_text(_HBA)
        primary.start({})
        primary.psql("CREATE ROLE kuma LOGIN", "CREATE DATABASE kuma OWNER kuma")
        self.programs.run(
            *("pg_basebackup", "-h", primary.host, "-p", str(primary.port)),
            *("-U", _SUPERUSER, "-D", str(standby.data), "-R", "-X", "stream"),
            *("--checkpoint=fast", "--no-sync"),
        )
        standby.start({})
        primary.until(
            "EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming')"
        )

    def stop(self) -> None:
        """End both servers."""
        self.standby.stop()
        self.primary.stop()

    def synchronous(self) -> None:
        """Have commits on the primary wait for the standby."""
        self.primary.psql(
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
            "SELECT pg_reload_conf()",
        )
        self.primary.until(
            "EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')"
        )

    def disconnect(self) -> None:
        """Have the standby receive nothing more."""
        self.standby.psql(
            "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"
        )
        self.primary.until("NOT EXISTS (SELECT FROM pg_stat_replication)")

    def fail_over(self) -> None:
        """Kill the primary, and make the standby the new one."""
        self.primary.kill()
        self.standby.promote()

    def config(self, *hosts: str) -> Config:
        """Return the configuration of a store on these hosts; on both by default."""
        return Config(
            type=StoreType.POSTGRES,
            postgres=PostgresConfig(
                host=",".join(hosts or (PRIMARY, STANDBY)),
                port=self.primary.port,
                password="",
            ),
        )


@contextmanager
def running_cluster(folder: Path) -> Generator[Cluster]:
    """Give a cluster in an empty folder."""
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _ready(status: Path, pid: int) -> bool:
    """Whether a server has said that it can answer, in its file of eight lines."""
    try:
        lines = status.read_text().splitlines()
    except FileNotFoundError:
        return False
    return lines[:1] == [str(pid)] and lines[7:] == ["ready   "]


def _free_port(*hosts: str) -> int:
    """Return a port that is free on all of these addresses."""
    with ExitStack() as probes:
        port = 0
        for host in hosts:
            probe = probes.enter_context(socket.socket())
            probe.bind((host, port))
            port = probe.getsockname()[1]
        return port
