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

import psycopg
from psycopg import pq

from evstore.config import TlsMode
from evstore.errors import ConfigError, SchemaError, StoreError, UnavailableError

from . import statements

if TYPE_CHECKING:
    from collections.abc import Generator

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


_SSL_MODES: Final = {
    TlsMode.DISABLE: "disable",
    TlsMode.VERIFY_NONE: "require",
    TlsMode.VERIFY_CA: "verify-ca",
    TlsMode.VERIFY_FULL: "verify-full",
}
_CHECKED: Final = (TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL)
_LIBPQ_16: Final = 160_000
# No file can be below a device: libpq finds nothing there and looks nowhere else.
_NO_FILE: Final = "/dev/null/none"


def parameters(
    config: PostgresConfig, *, purpose: str, primary: bool = True
) -> dict[str, Any]:
    """Return what to hand to `psycopg.connect` for a connection with this purpose.

    Of several hosts, the first that can be reached is taken; with `primary`, the first
    that takes writes.
    """
    tls = config.tls
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
        "sslmode": _SSL_MODES[tls.mode],
        # Where there is a file, libpq checks against it even in the mode `require`.
        "sslrootcert": tls.ca_path if tls.mode in _CHECKED else _NO_FILE,
        "sslcert": tls.cert_path or _NO_FILE,
        "sslkey": tls.key_path or _NO_FILE,
        "sslcrl": _NO_FILE,
        "sslsni": "0" if tls.disable_sslsni else "1",
        "gssencmode": "disable",
        "passfile": _NO_FILE,
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
        connection = await Connection.connect(
            **parameters(config, purpose=purpose), autocommit=True
        )
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
    match sqlstate:
        case "28000" | "28P01" | "3D000":
            return ConfigError(f"{where} refuses the connection: {text}")
        case "42P01" | "3F000" | "42883":
            message = f"{where} is not migrated: {text}"
            return SchemaError(f'{message}. Run "evstore migrate up"')
        case "42501":
            return ConfigError(f"{where}: role {config.user} lacks a right: {text}")
        case _ if _refused(text):
            return ConfigError(f"{where} refuses the connection: {text}")
        case _:
            return UnavailableError(f"{where} cannot be used now: {text}")


def _refused(text: str) -> bool:
    # A refused connection has no SQLSTATE in libpq's error, only the server's text.
    return any(
        sign in text
        for sign in (
            "password authentication failed",
            "no pg_hba.conf entry",
            "no password supplied",
            "certificate",
            "server does not support SSL",
        )
    ) or (("database" in text or "role" in text) and "does not exist" in text)


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
