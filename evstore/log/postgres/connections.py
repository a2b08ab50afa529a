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
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from evstore.config.kinds import PASSWORD
from evstore.errors import ConfigError, SchemaError, StoreError, UnavailableError

from . import refusals, statements
from .tls import NO_FILE, tls_parameters

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from evstore.config import PostgresConfig


class Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection that is made without a look at libpq's environment variables.

    Parameters that are given win over PG* variables, but some variables have no
    parameter (PGSERVICE, PGTZ, PGDATESTYLE), and a libpq reads more of them with every
    release. They are out of sight while libpq works on the connection, one step of it
    at a time: other tasks never miss them, other threads for microseconds at most.
    """

    @classmethod
    async def connect(cls, conninfo: str = "", **settings: Any) -> Self:
        """Connect; a password that is a callable is called for this connection."""
        password = settings.get("password")
        if callable(password):
            seconds: float = settings["connect_timeout"]
            settings["password"] = await _called(password, seconds)
        return await super().connect(conninfo, **settings)

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
        message = f"{setting} returned what is not {PASSWORD.allowed(written=True)}"
        raise ConfigError(message) from None


Pool = AsyncConnectionPool[Connection]

_LIBPQ_16: Final = 160_000
# The writer and the listener have connections of their own beside the pool.
_OUTSIDE_POOL: Final = 2


def parameters(config: PostgresConfig, *, purpose: str) -> dict[str, Any]:
    """Return what to hand to `psycopg.connect` for a connection with this purpose.

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
        "target_session_attrs": "read-write",
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


async def connect(config: PostgresConfig, *, purpose: str) -> Connection:
    """Open one connection, in autocommit mode.

    Raises:
        ConfigError: the server refuses user, password or database.
        UnavailableError: the server cannot be reached.
    """
    with translated(config):
        connection = await Connection.connect(
            **parameters(config, purpose=purpose), autocommit=True
        )
        try:
            with deadline(connection, config.connection_timeout):
                await connection.execute(statements.SESSION)
        except BaseException:
            await connection.close()
            raise
        return connection


def make_pool(
    config: PostgresConfig, configure: Callable[[Connection], Awaitable[None]]
) -> Pool:
    """Return a pool for reads, not yet open; it is always bounded."""
    # Two at least: a replay may have to read a piece apart while it streams.
    largest = max(2, config.max_open_connections - _OUTSIDE_POOL)
    return AsyncConnectionPool(
        "",
        connection_class=Connection,
        kwargs={**parameters(config, purpose="reader"), "autocommit": True},
        min_size=min(config.min_open_connections, largest),
        max_size=largest,
        timeout=config.connection_timeout,
        max_lifetime=config.max_connection_lifetime or 3600.0,
        max_idle=config.max_connection_idle_time or 600.0,
        reconnect_timeout=config.connection_timeout,
        configure=configure,
        check=AsyncConnectionPool.check_connection,
        open=False,
        name="evstore reader",
    )


@contextlib.contextmanager
def translated(config: PostgresConfig) -> Generator[None]:
    """Turn the driver's errors into the store's; the driver's own is the cause."""
    try:
        yield
    except (psycopg.Error, PoolTimeout) as error:
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


@contextlib.contextmanager
def deadline(connection: Connection, seconds: float) -> Generator[None]:
    """Shut the socket where a statement takes longer; its execution then fails."""
    timer = asyncio.get_running_loop().call_later(seconds, cut, connection)
    try:
        yield
    finally:
        timer.cancel()
