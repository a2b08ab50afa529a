"""How connections to PostgreSQL are made: one place for parameters and their errors.

libpq reads nothing behind our back: every parameter that has a default in a file or an
environment variable and that could change where we connect, or as whom, or how safely,
is given explicitly.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - a timer that must not cancel the statement
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
import psycopg
from anyio import to_thread
from psycopg import pq

from evstore.config.kinds import PASSWORD
from evstore.errors import ConfigError, SchemaError, StoreError, UnavailableError

from . import refusals, statements
from .tls import NO_FILE, tls_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from evstore.config import PostgresConfig


class Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection that is made without a look at libpq's environment variables.

    Parameters that are given win over PG* variables, but some variables have no
    parameter (PGSERVICE, PGTZ, PGDATESTYLE), and a libpq reads more of them with every
    release. They are out of sight while libpq works on the connection, one step of it
    at a time: other tasks never miss them, other threads for microseconds at most.

    `pooled` says that a pooler lends sessions to it, a transaction at a time.
    """

    pooled = False

    @classmethod
    async def connect(cls, conninfo: str = "", **settings: Any) -> Self:
        """Connect; a password that is a callable is called for this connection.

        What is given as `tried` is told how it ended: pools keep that to themselves.
        `each` bounds the time for each host: pools would give all that they have.
        """
        tried: Callable[[Exception | None], None] | None = settings.pop("tried", None)
        if each := settings.pop("each", 0):
            settings["connect_timeout"] = min(each, settings["connect_timeout"])
        password = settings.get("password")
        try:
            if callable(password):
                seconds: float = settings["connect_timeout"]
                settings["password"] = await _called(password, seconds)
            connection = await super().connect(conninfo, **settings)
        except Exception as error:
            if tried is not None:
                tried(error)
            raise
        if tried is not None:
            tried(None)
        return connection

    @classmethod
    def _connect_gen(cls, *args: Any, **kwargs: Any) -> Generator[Any, Any, Self]:
        steps: Generator[Any, Any, Self] = super()._connect_gen(*args, **kwargs)
        answer: Any = None
        while True:
            with _without_environment():
                try:
                    question = steps.send(answer)
                except StopIteration as end:
                    made: Self = end.value
                    return made
            answer = yield question


@contextlib.contextmanager
def _without_environment() -> Generator[None]:
    hidden = {name: os.environ[name] for name in os.environ if name[:2] == "PG"}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


async def _called(password: Callable[[], object], seconds: float) -> str:
    """Return what a password's callable returns now.

    It runs in a thread, for it may well wait for something itself; one that does not
    return in time is left to itself.

    Raises:
        UnavailableError: it failed, or has not returned in time.
        ConfigError: what it has returned is no password.
    """
    setting = "store.postgres.password: its callable"
    found: object = None
    with anyio.move_on_after(seconds) as limit:
        try:
            found = await to_thread.run_sync(password, abandon_on_cancel=True)
        except Exception as error:
            # Only its kind: what it says may hold a part of the secret.
            message = f"{setting} raised {type(error).__name__}"
            raise UnavailableError(message) from error
    if limit.cancelled_caught:
        message = f"{setting} has not returned in {seconds:g} s"
        raise UnavailableError(message)
    try:
        return PASSWORD.text.check(found)
    except ValueError:
        del found  # tracebacks may show a frame's variables
        message = f"{setting} returned what is not {PASSWORD.allowed(written=True)}"
        raise ConfigError(message) from None


_LIBPQ_16: Final = 160_000


def parameters(
    config: PostgresConfig, *, purpose: str, primary: bool = True
) -> dict[str, Any]:
    """Return what to hand to `psycopg.connect` for a connection with this purpose.

    Of several hosts, the first that can be reached is taken; with `primary`, the first
    that takes writes.

    Raises:
        ConfigError: a file of the TLS settings is missing.
    """
    # psycopg itself looks for this one, where its libpq knows it.
    balance = {"load_balance_hosts": "disable"} if pq.version() >= _LIBPQ_16 else {}
    return {
        **balance,
        "host": config.host,
        "hostaddr": "",
        "port": config.port,
        "user": config.user,
        "password": config.password,
        "dbname": config.db_name,
        "connect_timeout": max(2, round(config.connection_timeout)),
        "application_name": f"evstore {purpose}",
        "target_session_attrs": "read-write" if primary else "any",
        "client_encoding": "utf8",
        "options": "",
        **tls_parameters(config.tls),
        "passfile": NO_FILE,
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }


async def connect(
    config: PostgresConfig, *, purpose: str, settings: bytes = b""
) -> Connection:
    """Open one connection, in autocommit mode, with our `settings` of the session.

    Raises:
        ConfigError: the server refuses user, password or database.
        UnavailableError: the server cannot be reached.
    """
    with translated(config):
        try:
            connection = await Connection.connect(
                **parameters(config, purpose=purpose), autocommit=True
            )
        except psycopg.Error as error:
            # The frames below hold the password, and some reporters of tracebacks print
            # the variables of every frame.
            raise error.with_traceback(None)  # noqa: B904 - it is the same error
        try:
            with deadline(connection, config.connection_timeout):
                await begin_session(connection, settings)
        except BaseException:
            await connection.close()
            raise
        return connection


async def begin_session(connection: Connection, settings: bytes = b"") -> None:
    """Give a new session our settings; leave one that a pooler lends as it is.

    Behind a pooler, statements of one connection go to several sessions, which others
    use as well: nothing that is set or prepared there stays ours. A pooler is known by
    the process id: the one that it tells its clients is not that of the session.
    """
    cursor = await connection.execute(statements.PROCESS, prepare=False)
    row = await cursor.fetchone()
    assert row is not None, "the statement returns one row"
    if row[0] != connection.pgconn.backend_pid:
        connection.pooled = True
        connection.prepare_threshold = None
        return
    await connection.execute(statements.SESSION)
    if settings:
        await connection.execute(settings)


@contextlib.contextmanager
def translated(config: PostgresConfig) -> Generator[None]:
    """Turn the driver's errors into the store's; the driver's own is the cause."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, config) from error


def translate(error: Exception, config: PostgresConfig) -> StoreError:
    """Return the store's error for one of the driver's, outside of an append."""
    where = f"PostgreSQL at {_address(config)}"
    sqlstate = getattr(error, "sqlstate", None)
    # Not the whole of the server's error: its detail may quote a row, secrets included.
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    text = " ".join((primary or str(error)).split()) or type(error).__name__
    advice = refusals.advice(text, config.tls)
    match sqlstate:
        case "28000" | "28P01" | "3D000":
            return ConfigError(_refusal(where, text, advice))
        case "42P01" | "3F000" | "42883":
            message = f"{where} is not migrated: {text}"
            return SchemaError(f'{message}. Run "evstore migrate up"')
        case "42501":
            return ConfigError(f"{where}: role {config.user} lacks a right: {text}")
        case None if advice is not None:
            return ConfigError(_refusal(where, text, advice))
        case _:
            return UnavailableError(f"{where} cannot be used now: {text}")


def _refusal(where: str, text: str, advice: str | None) -> str:
    message = f"{where} refuses the connection: {text}"
    return message if advice is None else f"{message.rstrip('.')}. {advice}"


def _address(config: PostgresConfig) -> str:
    if config.host.startswith("/"):
        return f"{config.host}/.s.PGSQL.{config.port}"
    return f"{config.host}:{config.port}"


def cut(connection: Connection) -> None:
    """Break a connection off at the socket, without a word to the server.

    Unlike a cancellation, it lets the server finish what it was told.
    """
    with (
        contextlib.suppress(psycopg.Error, OSError),
        socket.socket(fileno=os.dup(connection.fileno())) as end,
    ):
        end.shutdown(socket.SHUT_RDWR)


class Deadline:
    """Shuts the socket of a connection that has not answered in so many seconds."""

    def __init__(self, connection: Connection, seconds: float) -> None:
        self.passed = False
        self._connection = connection
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Count from now on."""
        self.stop()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._seconds, self._pass)

    def stop(self) -> None:
        """Stop counting: it is not the server that we wait for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pass(self) -> None:
        self.passed = True
        cut(self._connection)


@contextlib.contextmanager
def deadline(connection: Connection, seconds: float) -> Generator[Deadline]:
    """Shut the socket where a statement takes longer; its execution then fails.

    What waits for several answers starts the deadline again after each.
    """
    limit = Deadline(connection, seconds)
    limit.start()
    try:
        yield limit
    except psycopg.Error as error:
        if limit.passed:
            message = f"no answer in {seconds:g} s"
            raise psycopg.OperationalError(message) from error
        raise
    finally:
        limit.stop()
