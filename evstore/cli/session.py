"""What every command shares: settings, an open store, an event loop, wrong use."""

from __future__ import annotations

import getpass
import logging
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from pathlib import Path

    import typer

    from evstore.config import Config
    from evstore.store.facade import Store

T = TypeVar("T")

_VOLATILE: Final = (
    "store.type is memory: the store begins empty and nothing survives this command;"
    " set KUMA_STORE_TYPE to postgres or kubernetes to keep it"
)


class UsageError(Exception):
    """The command was used wrongly: exit code 2."""


class Settings(msgspec.Struct, kw_only=True):
    """The global options, as a command finds them in its context."""

    config_path: Path | None = None
    debug: bool = False

    def load(self) -> Config:
        """Return the configuration from file and environment."""
        from evstore.config import load_config

        return load_config(self.config_path)


def log_in_lines() -> None:
    """Have what the library logs be lines as all others, without tracebacks.

    That a projection has stopped is left out: the commands that fold some say it. So is
    what the driver warns of: it comes again in the error, or ends without harm.
    """
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    handler = logging.lastResort
    assert handler is not None, "nobody has taken it away"
    handler.setFormatter(_Line())
    handler.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return record.name != "evstore.folds.custom"


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {' '.join(record.getMessage().split())}"


def config_of(context: typer.Context) -> Config:
    """Return the configuration that a command is to use."""
    settings = context.find_object(Settings)
    assert settings is not None, "the root callback has made it"
    return settings.load()


def say(message: str) -> None:
    """Tell the person something that is no part of the output."""
    print(message, file=sys.stderr, flush=True)


def on_terminal() -> bool:
    """Whether a person sees what is written to standard error."""
    return sys.stderr.isatty()


def confirmed(question: str) -> bool:
    """Ask the person at the terminal; Ctrl-C ends that, whatever else is running."""
    # The handler of an event loop would only take note, and wait for the answer.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        say(f"{question} (yes or no)")
        return sys.stdin.readline().strip().lower() in {"y", "yes"}
    finally:
        signal.signal(signal.SIGINT, handler)


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end."""
    import anyio

    return anyio.run(work)


def quiet(config: Config) -> Config:
    """Return the configuration for a command, which is no instance of its own.

    A command leaves neither heartbeat nor snapshot behind, mirrors nothing, does not
    wait for a server that is down, and warns where nothing survives it.
    """
    from evstore.config import MirrorConfig

    if config.type == "memory":
        say(f"warning: {_VOLATILE}")
    config = prompt(config)
    evstore = msgspec.structs.replace(
        config.evstore,
        heartbeat_interval=0,
        snapshots=msgspec.structs.replace(config.evstore.snapshots, every_events=0),
    )
    kubernetes = msgspec.structs.replace(config.kubernetes, mirror=MirrorConfig())
    return msgspec.structs.replace(config, evstore=evstore, kubernetes=kubernetes)


def prompt(config: Config) -> Config:
    """Return the configuration for what does not wait for a server that is down."""
    limits = msgspec.structs.replace(config.evstore.limits, start_timeout=0)
    evstore = msgspec.structs.replace(config.evstore, limits=limits)
    return msgspec.structs.replace(config, evstore=evstore)


@asynccontextmanager
async def open_store(config: Config) -> AsyncGenerator[Store]:
    """Open the store for one command; it knows no types, so all stays as it is stored."""
    from evstore.schemas import AS_STORED
    from evstore.store.opening import open_with

    async with open_with(quiet(config), AS_STORED) as store:
        yield store


def actor_of(config: Config, given: str | None) -> str:
    """Return who acts: as given, else as configured, else the user of this machine."""
    if given is not None:
        return given
    if config.evstore.actor:
        return config.evstore.actor
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return f"uid-{os.getuid()}"
