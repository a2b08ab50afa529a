"""`evstore dev`: a PostgreSQL of one's own, for as long as the command runs."""

from __future__ import annotations

import shlex
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .session import run, say

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from evstore.config import PostgresConfig

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CHECK_SECONDS: Final = 0.5


class _Stop(BaseException):
    """A signal asks for the end while something is being started."""


def dev(
    folder: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where the server keeps everything."),
    ] = Path(".evstore"),
) -> None:
    """Run a PostgreSQL of your own until Ctrl-C.

    It is migrated and ready to be used. Standard output gets the lines that make other commands use it, and nothing else:
    `evstore dev > env.sh &`, then `. ./env.sh`. It needs the extra evstore[embedded].
    What the folder holds is there again the next time.
    """
    from evstore.embedded import EmbeddedServer
    from evstore.errors import UnavailableError
    from evstore.maintenance import migrate_up

    stop = threading.Event()
    server = EmbeddedServer(folder)
    try:
        _on_signals(_raise_stop)
        say(f"starting PostgreSQL in {server.folder} ...")
        server.start()
        config = server.config()
        report = run(lambda: migrate_up(config))
        _on_signals(lambda _number, _frame: stop.set())
        print("\n".join(exports(config.postgres)), flush=True)
        say(f"ready, at schema version {report.version}; Ctrl-C stops it")
        while not stop.wait(_CHECK_SECONDS):
            if not server.running:
                message = f"PostgreSQL has ended by itself; see {server.log}"
                raise UnavailableError(message)
    except (_Stop, KeyboardInterrupt):
        pass
    finally:
        # A second Ctrl-C must not leave the server in the middle of its shutdown.
        _on_signals(signal.SIG_IGN)
        server.stop()
    say("stopped; the data stays")


def exports(config: PostgresConfig) -> list[str]:
    """Return the lines that make a shell's commands use this database."""
    assert isinstance(config.password, str), "the embedded server asks for none"
    variables = {
        "KUMA_STORE_TYPE": "postgres",
        "KUMA_STORE_POSTGRES_HOST": config.host,
        "KUMA_STORE_POSTGRES_PORT": str(config.port),
        "KUMA_STORE_POSTGRES_USER": config.user,
        "KUMA_STORE_POSTGRES_PASSWORD": config.password,
        "KUMA_STORE_POSTGRES_DB_NAME": config.db_name,
    }
    return [f"export {name}={shlex.quote(text)}" for name, text in variables.items()]


def _on_signals(handler: Callable[[int, FrameType | None], Any] | int) -> None:
    for number in _STOP_SIGNALS:
        signal.signal(number, handler)


def _raise_stop(*_: object) -> None:
    raise _Stop
