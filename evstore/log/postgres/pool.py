"""Connections for reads: psycopg_pool's, with the settings that it does not have itself.

Every wait has a limit. A connection is looked at before it is handed out, so one that
died meanwhile costs a read nothing but the time of another connection.
"""

from __future__ import annotations

import random
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import anyio
import psycopg
from psycopg_pool import AsyncConnectionPool, AsyncNullConnectionPool, PoolTimeout

from evstore.errors import StoreError

from .connections import Connection, deadline

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from evstore.config import PostgresConfig

_LIFETIME_SECONDS: Final = 3600.0
_IDLE_SECONDS: Final = 600.0
# The pool itself takes up to so much off a lifetime, at random.
_OWN_JITTER: Final = 0.05
# The writer and the listener have connections of their own beside the pool.
_OUTSIDE_POOL: Final = 2


class Pool:
    """At most `maxOpenConnections` less two, of which `maxIdleConnections` are kept.

    psycopg_pool knows pools that keep all of their connections, and pools that keep none:
    where some are to be kept, there is one of each, and the second is for what the first
    cannot serve at once.
    """

    def __init__(
        self,
        config: PostgresConfig,
        parameters: dict[str, Any],
        configure: Callable[[Connection], Awaitable[None]],
    ) -> None:
        self._config = config
        self._configure = configure
        self._failure: Exception | None = None
        # Two at least: a replay may have to read a piece apart while it streams.
        self._largest = max(2, config.max_open_connections - _OUTSIDE_POOL)
        smallest = min(config.min_open_connections, self._largest)
        kept = min(max(config.max_idle_connections, smallest), self._largest)
        each: int = parameters["connect_timeout"]
        common: dict[str, Any] = {
            "connection_class": Connection,
            "kwargs": {
                **parameters,
                "autocommit": True,
                "tried": self._tried,
                "each": each,
            },
            # Of several hosts, all but the last one may not answer.
            "timeout": config.connection_timeout + each * config.host.count(","),
            "reconnect_timeout": config.connection_timeout,
            "open": False,
            "name": parameters["application_name"],
        }
        self._kept: AsyncConnectionPool[Connection] | None = None
        if kept > 0:
            self._kept = AsyncConnectionPool(
                min_size=smallest,
                max_size=kept,
                max_idle=config.max_connection_idle_time or _IDLE_SECONDS,
                configure=self._begin_kept,
                check=self._check,
                **common,
            )
        self._passing: AsyncConnectionPool[Connection] | None = None
        if kept < self._largest:
            self._passing = AsyncNullConnectionPool(
                max_size=self._largest - max(kept, 0), configure=self._begin, **common
            )

    async def open(self) -> None:
        """Open the pool; connections are made when they are needed."""
        for pool in self._pools:
            await pool.open()

    async def aclose(self) -> None:
        """Close the pool and its connections."""
        for pool in self._pools:
            await pool.close()

    async def run(self) -> None:
        """Check what is idle each `healthCheckInterval`, 0 for never, until cancelled."""
        interval = self._config.health_check_interval
        if self._kept is None or not interval:
            return
        while True:
            await anyio.sleep(interval)
            with suppress(psycopg.Error):  # whoever reads is told
                await self._check_idle(self._kept)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Lend a connection that answers.

        Raises:
            psycopg.OperationalError: there was none within `connectionTimeout` for each
                host; it says why the last one could not be made, if it could not.
            StoreError: the password's callable has failed.
        """
        async with AsyncExitStack() as stack:
            lent = self._choose().connection()
            try:
                connection = await stack.enter_async_context(lent)
            except PoolTimeout as error:
                failure = self._failure
                if failure is None:
                    raise
                if isinstance(failure, StoreError):
                    raise type(failure)(str(failure)) from failure
                raise psycopg.OperationalError(f"{error}: {failure}") from failure
            yield connection

    def stats(self) -> dict[str, int]:
        """Return how many connections there are, idle, wanted and at most."""
        found = [pool.get_stats() for pool in self._pools]
        return {
            "readers": sum(each["pool_size"] for each in found),
            "readers_idle": sum(each["pool_available"] for each in found),
            "readers_wanted": sum(each["requests_waiting"] for each in found),
            "readers_max": self._largest,
        }

    def _tried(self, failure: Exception | None) -> None:
        # Its frames hold the password, and people may get to see them.
        self._failure = failure and failure.with_traceback(None)

    @property
    def _pools(self) -> list[AsyncConnectionPool[Connection]]:
        return [pool for pool in (self._kept, self._passing) if pool is not None]

    def _choose(self) -> AsyncConnectionPool[Connection]:
        if self._kept is None:
            assert self._passing is not None, "there is one of them at least"
            return self._passing
        if self._passing is None:
            return self._kept
        found = self._kept.get_stats()
        grows = found["pool_size"] < found["pool_max"]
        return self._kept if found["pool_available"] or grows else self._passing

    async def _begin(self, connection: Connection) -> None:
        try:
            await self._configure(connection)
        except psycopg.Error as error:
            self._tried(error)
            raise

    async def _begin_kept(self, connection: Connection) -> None:
        await self._begin(connection)
        # The pool reads it next, with nothing in between, for this connection alone.
        assert self._kept is not None, "it is its connection"
        self._kept.max_lifetime = lifetime_of(self._config)

    async def _check(self, connection: Connection) -> None:
        with deadline(connection, self._config.connection_timeout):
            await connection.execute("")

    async def _check_idle(self, pool: AsyncConnectionPool[Connection]) -> None:
        """Have each idle connection checked, and replaced where it is dead or old.

        The pool does that with what it lends and takes back. Its own `check()` is not for
        this: it makes a connection more each time.
        """
        for _ in range(pool.get_stats()["pool_available"]):
            if not pool.get_stats()["pool_available"]:
                return  # all are in use
            async with pool.connection():
                pass


def lifetime_of(config: PostgresConfig) -> float:
    """Return a lifetime that stays `maxConnectionLifetime` or more, with its jitter."""
    least = config.max_connection_lifetime or _LIFETIME_SECONDS
    jitter = random.uniform(0, config.max_connection_lifetime_jitter)  # noqa: S311
    return (least + jitter) / (1 - _OWN_JITTER)
