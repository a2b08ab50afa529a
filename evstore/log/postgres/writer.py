"""The writer: the only connection that appends, one append in flight.

How an append ends is told apart here, once, by SQLSTATE: refused for sure, or no answer.
Only classes 08 and 57P, a broken socket and a warning count as no answer.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import errors as pg

from evstore.clock import OffsetClock, boot_microseconds
from evstore.errors import DivergedError, StoreError, UnavailableError
from evstore.log.contract import (
    CHUNK_BYTES_MAX,
    BusyError,
    ForeignLogError,
    HeadMovedError,
    InDoubtError,
    RejectedError,
    StampError,
)

from . import arrays, statements
from .connections import connect, cut, deadline, translate, translated
from .reader import decode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Sequence
    from uuid import UUID

    from evstore.config import Config
    from evstore.model import Head, StoredEvent

    from .connections import Connection

READ_ON_EVENTS: Final = 2_000
# What turn.sql lets a waiter wait.
TURN_SECONDS_MAX: Final = 5.0
_ENSURE_PARTITION: Final = "SELECT evstore.ensure_partition(%s)"
# Under a stricter level the snapshot would be older than the lock.
_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_UNANSWERED: Final = ("08", "57P")
_LOST_RACE: Final = (
    pg.UniqueViolation,
    pg.SerializationFailure,
    pg.DeadlockDetected,
)
MUTED_MICROSECONDS: Final = 60_000_000
_NEVER_STORABLE: Final = ("22", "23", "54")


class Writer:
    """Appends to the log, and reads on from a place, over one connection.

    The connection is opened when it is needed and again after it broke. Only one task
    at a time may use a writer.
    """

    def __init__(self, config: Config, identity: UUID, clock: OffsetClock) -> None:
        self._config = config.postgres
        self._notify = "on" if config.evstore.notify else "off"
        self._seconds = config.evstore.limits.append_timeout
        self._identity = identity
        self._clock = clock
        self._connection: Connection | None = None
        self._warned = False
        self._muted_until = 0

    @property
    def _muted(self) -> bool:
        return boot_microseconds() < self._muted_until

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    def abort(self) -> None:
        """Break the connection off, without a word to the server."""
        if self._connection is not None:
            cut(self._connection)

    def is_own(self, process: int) -> bool:
        """Whether a server process id is that of this writer's session."""
        connection = self._connection
        return connection is not None and connection.info.backend_pid == process

    async def connection(self) -> Connection:
        """Return the connection, opened anew where it broke.

        Raises:
            DivergedError: another log is behind the address now.
            UnavailableError: the server cannot be reached.
        """
        if self._connection is not None and not self._connection.closed:
            return self._connection
        await self.aclose()
        connection = await connect(self._config, purpose="writer")
        try:
            with self._bounded(connection):
                await connection.execute(statements.SESSION_WRITER)
                sent = boot_microseconds()
                cursor = await connection.execute(statements.IDENTITY)
                row = await cursor.fetchone()
        except BaseException:
            await connection.close()
            raise
        if row is None or row[0] != self._identity:
            await connection.close()
            raise ForeignLogError
        self._clock.measure(row[2], sent=sent, received=boot_microseconds())
        connection.add_notice_handler(self._notice)
        arrays.register(connection)
        self._connection = connection
        return connection

    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        """Append in a transaction of its own; see the log's contract."""
        connection = await self.connection()
        try:
            await self._insert(connection, events, after)
        except _NoPartitionError:
            await self._make_partition(connection, len(events))
            # Nothing was applied: the caller tries again, now with a partition.
            raise HeadMovedError from None

    async def read_on(self, after: Head) -> list[StoredEvent]:
        """Return whole transactions after a place; see the log's contract."""
        return await self._read_on(await self.connection(), after)

    async def settle(self) -> None:
        """Commit something behind what is visible; see the log's contract."""
        connection = await self.connection()
        try:
            with self._answered(connection):
                await connection.execute(statements.SETTLE)
        except InDoubtError as error:
            message = "the server did not say that the log is safe"
            raise UnavailableError(message) from error

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[Turn]:
        """Wait for the right to append next."""
        connection = await self.connection()
        turn = Turn(self, connection)
        try:
            with self._bounded(connection, more=TURN_SECONDS_MAX):
                await connection.execute(_BEGIN)
                await connection.execute(statements.TURN, prepare=True)
            yield turn
        finally:
            if not turn.ended:
                await self._give_up_turn(connection)

    async def _give_up_turn(self, connection: Connection) -> None:
        """End the transaction and its lock for certain, whatever went wrong."""
        try:
            with self._bounded(connection):
                await connection.execute("ROLLBACK")
        except StoreError:
            await self.aclose()

    async def read_in_turn(
        self, connection: Connection, after: Head
    ) -> list[StoredEvent]:
        """Read on inside a turn."""
        return await self._read_on(connection, after)

    async def append_in_turn(
        self, connection: Connection, events: Sequence[StoredEvent], after: Head
    ) -> None:
        """Append inside a turn, and commit."""
        try:
            await self._insert(connection, events, after, in_turn=True)
        except _NoPartitionError:
            await self._give_up_turn(connection)
            await self._make_partition(connection, len(events))
            raise HeadMovedError from None
        # From here on the server may commit without our hearing of it.
        with self._answered(connection):
            await connection.execute("COMMIT")

    async def _make_partition(self, connection: Connection, events: int) -> None:
        with self._bounded(connection):
            await connection.execute(_ENSURE_PARTITION, (events,))

    async def _read_on(self, connection: Connection, after: Head) -> list[StoredEvent]:
        binds = {
            "after": after.position,
            "hash": after.hash,
            "count": READ_ON_EVENTS,
            "bytes": CHUNK_BYTES_MAX,
        }
        with self._bounded(connection):
            cursor = await connection.execute(statements.READ_ON, binds, prepare=True)
            row = await cursor.fetchone()
        assert row is not None, "the statement returns one row"
        if not row[0]:
            message = (
                f"the log has no event {after.position} with the hash that was read"
            )
            raise DivergedError(message)
        return decode(row[1])

    async def _insert(
        self,
        connection: Connection,
        events: Sequence[StoredEvent],
        after: Head,
        *,
        in_turn: bool = False,
    ) -> None:
        binds = {
            "after": after.position,
            "hash": after.hash,
            "last_time": events[-1].time,
            "notify": "off" if self._muted else self._notify,
            "in_turn": in_turn,
            **_columns(events),
        }
        sent = boot_microseconds()
        with self._answered(connection):
            cursor = await connection.execute(
                statements.APPEND, binds, prepare=True, binary=True
            )
            row = await cursor.fetchone()
        assert row is not None, "the statement returns one row"
        turn, follows, stamped, inserted, now = row
        self._clock.measure(now, sent=sent, received=boot_microseconds())
        if not follows:
            raise HeadMovedError
        if not turn:
            raise BusyError
        if not stamped:
            raise StampError
        if inserted != len(events):
            message = f"{inserted} of {len(events)} rows inserted"
            raise RuntimeError(message)

    @contextmanager
    def _bounded(self, connection: Connection, more: float = 0.0) -> Generator[None]:
        """Bound the wait for what changes nothing: a lost answer means unavailable."""
        with translated(self._config), deadline(connection, self._seconds + more):
            yield

    @contextmanager
    def _answered(self, connection: Connection) -> Generator[None]:
        """Bound the wait for an answer, and say what the lack of one means.

        The deadline shuts the socket: a cancellation at the server could hit a commit
        that waits for its replica, and would make it look like a failure.
        """
        self._warned = False
        try:
            with deadline(connection, self._seconds):
                yield
        except psycopg.Error as error:
            raise self._outcome(error) from error
        except BaseException:
            # Cancelled while the statement was under way: nobody heard the answer.
            cut(connection)
            raise
        if self._warned:
            raise InDoubtError("the server warned while appending")

    def _outcome(self, error: psycopg.Error) -> Exception:
        state = error.sqlstate
        if state is None or state.startswith(_UNANSWERED):
            return InDoubtError(str(error))
        if isinstance(error, _LOST_RACE):
            return HeadMovedError()
        if isinstance(error, pg.ProgramLimitExceeded) and not self._muted:
            # The queue of notifications may be full, because somebody else does not
            # listen. They are only manners: go on without them for a while.
            self._muted_until = boot_microseconds() + MUTED_MICROSECONDS
            return HeadMovedError()
        if isinstance(error, pg.CheckViolation) and not error.diag.constraint_name:
            return _NoPartitionError()
        if state.startswith(_NEVER_STORABLE):
            return RejectedError(error.diag.message_primary or str(error))
        if state == pg.ReadOnlySqlTransaction.sqlstate and self._connection:
            # The server was demoted: the next attempt looks for the primary.
            cut(self._connection)
        return translate(error, self._config)

    def _notice(self, diagnostic: pg.Diagnostic) -> None:
        # For example: a commit that no longer waits for its replica.
        self._warned = self._warned or diagnostic.severity_nonlocalized == "WARNING"


class Turn:
    """The right to append next: an open transaction that holds the exclusive lock."""

    def __init__(self, writer: Writer, connection: Connection) -> None:
        self._writer = writer
        self._connection = connection
        self.ended = False

    async def read_on(self, after: Head) -> list[StoredEvent]:
        """Read on from a place; nobody else appends until the turn ends."""
        return await self._writer.read_in_turn(self._connection, after)

    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        """Append and end the turn; see the log's contract."""
        await self._writer.append_in_turn(self._connection, events, after)
        self.ended = True


class _NoPartitionError(Exception):
    """The partition for these positions has not been made; nothing was applied."""


def _columns(events: Sequence[StoredEvent]) -> dict[str, Any]:
    """Return one array a column, as the statement takes them."""
    keys = [event.key.split("/") for event in events]
    return {
        "commits": arrays.integers([event.commit for event in events]),
        "times": arrays.integers([event.time for event in events]),
        "txs": arrays.binaries([bytes.fromhex(event.tx) for event in events]),
        "schema_versions": arrays.integers([e.schema_version for e in events]),
        "actors": arrays.words([event.actor for event in events]),
        "operations": arrays.words([event.operation for event in events]),
        "types": arrays.words([key[0] for key in keys]),
        "meshes": arrays.words([key[1] for key in keys]),
        "names": arrays.words([key[2] for key in keys]),
        "salts": arrays.binaries([event.salt for event in events]),
        "hashes": arrays.binaries([event.hash for event in events]),
        "metadatas": arrays.texts([bytes(event.metadata) for event in events]),
        "bodies": arrays.texts([bytes(event.body) for event in events]),
    }
