"""Reading the log: chunks through the pool, one streamed pass for a replay."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import msgspec
from psycopg import IsolationLevel, sql

from evstore.log.contract import CHUNK_BYTES_MAX, CHUNK_EVENTS
from evstore.log.failures import ForeignLogError
from evstore.model import ANY, Filter, Head, StoredEvent

from . import statements
from .connections import begin_session, deadline, parameters, translated
from .pool import Pool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from uuid import UUID

    from evstore.config import PostgresConfig

    from .connections import Connection

POSITION_MAX: Final = 2**63 - 1

_decode_events = msgspec.json.Decoder(list[StoredEvent]).decode
_decode_event = msgspec.json.Decoder(StoredEvent).decode


def decode(text: bytes | str) -> list[StoredEvent]:
    """Return the events of a chunk as the server put it together."""
    return _decode_events(text)


class Reader:
    """Reads of the log that do not have to wait for the writer.

    A server that says nothing for `seconds` while it is asked is unavailable. With
    `replica`, also one that takes no writes is read from.
    """

    def __init__(
        self,
        config: PostgresConfig,
        identity: UUID,
        *,
        seconds: float,
        replica: bool = False,
    ) -> None:
        self._config = config
        self.seconds = seconds
        self.identity = identity
        self.replica = replica
        purpose = "replica" if replica else "reader"
        found = parameters(config, purpose=purpose, primary=not replica)
        self._pool = Pool(config, found, self._configure)
        self._foreign: WeakSet[Connection] = WeakSet()

    async def open(self) -> None:
        """Open the pool; connections are made when they are needed."""
        await self._pool.open()

    async def aclose(self) -> None:
        """Close the pool and its connections."""
        await self._pool.aclose()

    async def run(self) -> None:
        """Look after idle connections until cancelled."""
        await self._pool.run()

    async def _configure(self, connection: Connection) -> None:
        # Of transactions, in their BEGIN: a pooler's sessions keep the role's own setting.
        await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
        with deadline(connection, self._config.connection_timeout):
            await begin_session(connection, statements.SESSION_READER)
            cursor = await connection.execute(statements.IDENTITY)
            row = await cursor.fetchone()
        if row is None or row[0] != self.identity:
            # Whoever asks over it is told; the pool itself would only try again.
            self._foreign.add(connection)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Lend a connection to this log, for what is no single statement.

        Raises:
            ForeignLogError: another log is behind the address now.
        """
        with translated(self._config):
            async with self._pool.connection() as connection:
                if connection in self._foreign:
                    # Closed, so that the pool makes another: the log may be back.
                    await connection.close()
                    raise ForeignLogError
                yield connection

    async def row(
        self, statement: bytes, binds: dict[str, Any] | None = None
    ) -> tuple[Any, ...] | None:
        """Return the first row of a statement."""
        async with self.connection() as connection:
            with deadline(connection, self.seconds):
                cursor = await connection.execute(statement, binds)
                return await cursor.fetchone()

    async def rows(
        self,
        statement: bytes,
        binds: dict[str, Any] | None = None,
        *,
        binary: bool = False,
    ) -> list[tuple[Any, ...]]:
        """Return all rows of a statement; times only in binary.

        As text, a session that a pooler lends writes them as the role has it.
        """
        async with self.connection() as connection:
            with deadline(connection, self.seconds):
                cursor = await connection.execute(statement, binds, binary=binary)
                return await cursor.fetchall()

    async def place(self, statement: bytes, binds: dict[str, Any]) -> Head | None:
        """Return the place that a statement finds."""
        row = await self.row(statement, binds)
        if row is None:
            return None
        return Head(position=row[0], hash=row[1], time=row[2])

    async def read(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        where: Filter = ANY,
        reverse: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[list[StoredEvent]]:
        """Yield chunks of events; see the log's contract.

        Each chunk is a statement of its own, so that a slow consumer holds neither a
        connection nor a transaction.
        """
        low = min(after, POSITION_MAX)
        high = POSITION_MAX if until is None else min(until, POSITION_MAX)
        left = limit
        while low < high and left != 0:
            count = CHUNK_EVENTS if left is None else min(CHUNK_EVENTS, left)
            row = await self.row(
                statements.READ_BACK if reverse else statements.READ,
                {
                    "after": low,
                    "until": high,
                    "type": where.type,
                    "mesh": where.mesh,
                    "name": where.name,
                    "actor": where.actor,
                    "operation": where.operation,
                    "reason": where.reason,
                    "count": count,
                    "bytes": CHUNK_BYTES_MAX,
                },
            )
            assert row is not None, "the statement returns one row"
            found, edge, text = row
            if not found:
                return
            yield decode(text)
            left = None if left is None else left - found
            if reverse:
                high = edge - 1
            else:
                low = edge

    async def replay(
        self, *, after: int, until: int
    ) -> AsyncGenerator[list[StoredEvent]]:
        """Yield all events with `after < position <= until`, streamed by one COPY."""
        query = sql.SQL(statements.REPLAY).format(  # pyright: ignore[reportArgumentType]
            after=sql.Literal(after),
            until=sql.Literal(until),
            count=sql.Literal(CHUNK_EVENTS),
            bytes=sql.Literal(CHUNK_BYTES_MAX),
        )
        # As bytea, the text comes as it is: msgspec decodes UTF-8 itself.
        async with aclosing(self.copy(query, ["int8", "bytea"])) as rows:
            async for first, text in rows:
                if text is not None:
                    yield decode(text)
                    continue
                last = min(first + CHUNK_EVENTS, until)
                async for piece in self.read(after=first, until=last):
                    yield piece

    async def copy(
        self, query: sql.Composed, types: Sequence[str]
    ) -> AsyncGenerator[tuple[Any, ...]]:
        """Yield the rows of a query, streamed by one COPY, as of one moment."""
        copy_out = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
        async with self.connection() as connection:
            with deadline(connection, self.seconds) as limit:
                async with connection.cursor() as cursor, cursor.copy(copy_out) as copy:
                    copy.set_types(types)
                    async for row in copy.rows():
                        limit.stop()
                        try:
                            yield row
                        finally:
                            limit.start()

    async def previous(
        self, places: Sequence[tuple[str, int]]
    ) -> list[StoredEvent | None]:
        """Return the last event of each key before a position; see the log's contract."""
        if not places:
            return []
        keys = [key.split("/") for key, _ in places]
        types, meshes, names = zip(*keys, strict=True)
        rows = await self.rows(
            statements.PREVIOUS,
            {
                "types": list(types),
                "meshes": list(meshes),
                "names": list(names),
                "bounds": [min(position, POSITION_MAX) for _, position in places],
            },
        )
        return [None if text is None else _decode_event(text) for (text,) in rows]

    async def pick(self, positions: Sequence[int]) -> list[StoredEvent]:
        """Return the events at some positions; see the log's contract."""
        wanted = [each for each in positions if each <= POSITION_MAX]
        row = await self.row(statements.PICK, {"positions": wanted})
        assert row is not None, "the statement returns one row"
        return decode(row[0])

    def connections(self) -> dict[str, int]:
        """Return the fields of `Connections` that are about the pool."""
        return self._pool.stats()

    async def latest(self, *, where: Filter, until: int) -> list[StoredEvent]:
        """Return the last event of each key; see the log's contract."""
        rows = await self.rows(
            statements.LATEST,
            {
                "type": where.type,
                "mesh": where.mesh,
                "name": where.name,
                "until": until,
            },
        )
        return [event for (text,) in rows for event in decode(text)]
