"""The writer: the only connection that appends, two appends in flight at most.

How an append ends is told apart here, once, by SQLSTATE: refused for sure, or no answer.
Classes 08 and 57P, a broken socket, a warning and whatever ends the session count as no
answer.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - a timer that needs no task
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from psycopg import errors as pg

from evstore.clock import OffsetClock, boot_microseconds
from evstore.errors import DivergedError, StoreError, UnavailableError
from evstore.log.contract import CHUNK_BYTES_MAX
from evstore.log.failures import (
    BusyError,
    ForeignLogError,
    HeadMovedError,
    InDoubtError,
    RejectedError,
    StampError,
)

from . import binary, statements
from .connections import connect, deadline, translate, translated
from .notices import Notices
from .reader import decode
from .wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from uuid import UUID

    import psycopg

    from evstore.config import Config
    from evstore.model import Head, StoredEvent

    from .connections import Connection
    from .wire import RoundTrip, Step

READ_ON_EVENTS: Final = 2_000
# What turn.sql lets a waiter wait.
TURN_SECONDS_MAX: Final = 5.0
SOON_SECONDS: Final = 0.002
_UNANSWERED: Final = ("08", "57P")
# A server that dies of a full disk says so, and not whether the commit got through.
_LAST_WORDS: Final = ("FATAL", "PANIC")
_LOST_RACE: Final = (
    pg.UniqueViolation,
    pg.SerializationFailure,
    pg.DeadlockDetected,
)
_NEVER_STORABLE: Final = ("22", "23", "54")

_APPEND: Final = statements.prepared("append", statements.APPEND)
_READ_ON: Final = statements.prepared("read_on", statements.READ_ON)
_SETTLE: Final = statements.prepared("settle", statements.SETTLE)
_TURN: Final = statements.prepared("turn", statements.TURN)
# Under a stricter level the snapshot would be older than the lock.
_BEGIN: Final = statements.prepared(
    "begin", b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
)
_COMMIT: Final = statements.prepared("commit", b"COMMIT")
_ROLLBACK: Final = statements.prepared("rollback", b"ROLLBACK")
_NOTIFY: Final = statements.prepared("notify", b"NOTIFY evstore")
_MAKE_PARTITION: Final = statements.prepared(
    "make_partition", b"SELECT evstore.ensure_partition(%(events)b::bigint)"
)
# Behind the statements of a commit: its warnings are to be heard, whatever a role has set.
_ALOUD: Final = statements.prepared(
    "aloud", b"SELECT set_config('client_min_messages', 'warning', true)"
)
_ALL: Final = (
    *(_APPEND, _READ_ON, _SETTLE, _TURN),
    *(_BEGIN, _COMMIT, _ROLLBACK, _MAKE_PARTITION, _NOTIFY),
)
_NOTHING: Final[Mapping[str, bytes]] = {}
_YES: Final = b"t"


class Writer:
    """Appends to the log, and reads on from a place, over one connection.

    The connection is opened when it is needed and again after it broke. Only one task
    at a time may use a writer; `send` may be called while an append is in flight.
    """

    def __init__(self, config: Config, identity: UUID, clock: OffsetClock) -> None:
        self._config = config.postgres
        self._notices = Notices(enabled=config.evstore.notify)
        self._seconds = config.evstore.limits.append_timeout
        self._identity = identity
        self._clock = clock
        self._wire: Wire | None = None
        self._without_partition = 0

    async def aclose(self) -> None:
        """Close the connection."""
        if self._wire is not None:
            await self._wire.aclose()
            self._wire = None

    def abort(self) -> None:
        """Break the connection off, without a word to the server."""
        if self._wire is not None:
            self._wire.cut()

    def is_own(self, process: int) -> bool:
        """Whether a server process id is that of this writer's session."""
        return (
            self.connected
            and self._wire is not None
            and (self._wire.process == process)
        )

    @property
    def connected(self) -> bool:
        """Whether there is a connection that has not broken."""
        return self._wire is not None and not self._wire.closed

    async def connect(self) -> Wire:
        """Return the connection, opened anew where it broke.

        Raises:
            DivergedError: another log is behind the address now.
            UnavailableError: the server cannot be reached.
        """
        if self._wire is not None and not self._wire.closed:
            return self._wire
        await self.aclose()
        wire = Wire(await self._open())
        try:
            with translated(self._config):
                await wire.prepare(_ALL, seconds=self._seconds)
        except BaseException:
            await wire.aclose()
            raise
        self._wire = wire
        return wire

    async def _open(self) -> Connection:
        """Open a connection to our log, with the settings of the session."""
        connection = await connect(
            self._config, purpose="writer", settings=statements.SESSION_WRITER
        )
        try:
            with translated(self._config), deadline(connection, self._seconds):
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
        return connection

    # Appending.

    def send(
        self,
        events: Sequence[StoredEvent],
        *,
        after: Head,
        landed: Callable[[Exception | None], None],
    ) -> bool:
        """Begin an append at once, where that is possible; see the log's contract."""
        if not self.connected or self._without_partition:
            return False
        assert self._wire is not None, "connected"
        append = self._prepare(events, after)
        self._wire.send(
            (_APPEND, append.binds),
            *_aloud(self._wire),
            seconds=self._seconds,
            landed=lambda trip: landed(self._verdict(trip, append)),
        )
        return True

    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        """Append in a transaction of its own; see the log's contract."""
        wire = await self._ready()
        await self._append(wire, self._prepare(events, after))

    async def _append(self, wire: Wire, append: _Append, *more: Step) -> None:
        try:
            steps = ((_APPEND, append.binds), *_aloud(wire), *more)
            trip = await wire.run(*steps, seconds=self._seconds)
        except BaseException:
            # Cancelled while it was under way: nobody heard the answer.
            wire.cut()
            raise
        error = self._verdict(trip, append)
        if error is not None:
            raise error from trip.error

    def _prepare(
        self, events: Sequence[StoredEvent], after: Head, *, in_turn: bool = False
    ) -> _Append:
        notifies = self._notices.due()
        binds = {
            "after": binary.integer(after.position),
            "hash": after.hash,
            "last_time": binary.integer(events[-1].time),
            "notify": b"on" if notifies else b"off",
            "in_turn": binary.TRUE if in_turn else binary.FALSE,
            **binary.columns(events),
        }
        return _Append(binds, len(events), notifies, boot_microseconds())

    def _verdict(self, trip: RoundTrip, append: _Append) -> Exception | None:
        """Return how an append ended, None where the events stand in the log."""
        error = self._refusal(trip, append)
        if error is not None and append.notifies:
            self._notices.undone()
        elif error is None and not append.notifies and self._notices.owed():
            # Whoever was woken by the one before may have looked too early.
            asyncio.get_running_loop().call_later(SOON_SECONDS, self._pay)
        return error

    def _pay(self) -> None:
        """Notify by itself, unless an append has done so meanwhile."""
        if self._wire is not None and self.connected and self._notices.due():
            self._wire.send(
                (_NOTIFY, _NOTHING), seconds=self._seconds, landed=lambda _: None
            )

    def _refusal(self, trip: RoundTrip, append: _Append) -> Exception | None:
        if trip.error is not None:
            return self._outcome(trip.error, append.events)
        if trip.warned:
            return InDoubtError("the server warned while appending")
        turn, follows, stamped, inserted, now = trip.row(0)
        self._clock.measure(int(now), sent=append.sent, received=boot_microseconds())
        if follows == turn == stamped == _YES:
            assert int(inserted) == append.events, f"{int(inserted)} rows inserted"
            return None
        if follows != _YES:
            return HeadMovedError()
        return BusyError() if turn != _YES else StampError()

    def _outcome(self, error: psycopg.Error, count: int) -> Exception:
        state = error.sqlstate
        if state is None or state.startswith(_UNANSWERED) or _ends_session(error):
            return InDoubtError(str(error))
        if isinstance(error, _LOST_RACE):
            return HeadMovedError()
        if isinstance(error, pg.ProgramLimitExceeded) and self._notices.mute():
            return HeadMovedError()
        if isinstance(error, pg.CheckViolation) and not error.diag.constraint_name:
            # Nothing was applied: the next try makes the partition first.
            self._without_partition = count
            return HeadMovedError()
        if state.startswith(_NEVER_STORABLE):
            return RejectedError(error.diag.message_primary or str(error))
        if state == pg.ReadOnlySqlTransaction.sqlstate:
            # The server was demoted: the next attempt looks for the primary.
            self.abort()
        return translate(error, self._config)

    async def _ready(self) -> Wire:
        """Return the connection, with a partition for what is to be appended."""
        wire = await self.connect()
        if self._without_partition:
            binds = {"events": binary.integer(self._without_partition)}
            await self._run(wire, (_MAKE_PARTITION, binds))
            self._without_partition = 0
        return wire

    # Reading, and turns.

    async def read_on(self, after: Head) -> list[StoredEvent]:
        """Return whole transactions after a place; see the log's contract."""
        return await self.read_in(await self.connect(), after)

    async def settle(self) -> None:
        """Commit something behind what is visible; see the log's contract."""
        wire = await self.connect()
        trip = await self._run(wire, (_SETTLE, _NOTHING), *_aloud(wire))
        if trip.warned:
            message = "the server did not say that the log is safe"
            raise UnavailableError(message)

    @asynccontextmanager
    async def turn(self, after: Head) -> AsyncGenerator[Turn]:
        """Wait for the right to append next, and read what is new."""
        wire = await self._ready()
        turn = Turn(self, wire)
        try:
            turn.following = await self.begin_turn(wire, after)
            yield turn
        finally:
            if not turn.ended:
                await self._give_up_turn(wire)

    async def begin_turn(self, wire: Wire, after: Head) -> list[StoredEvent]:
        """Take the lock, and read behind it, in one round trip."""
        trip = await self._run(
            wire,
            (_BEGIN, _NOTHING),
            (_TURN, _NOTHING),
            (_READ_ON, _place(after)),
            more=TURN_SECONDS_MAX,
        )
        return _following(trip.row(2), after)

    async def read_in(self, wire: Wire, after: Head) -> list[StoredEvent]:
        """Read on over a connection, inside a turn or outside."""
        trip = await self._run(wire, (_READ_ON, _place(after)))
        return _following(trip.row(0), after)

    async def append_in_turn(
        self, wire: Wire, events: Sequence[StoredEvent], after: Head
    ) -> None:
        """Append inside a turn and commit, in one round trip."""
        append = self._prepare(events, after, in_turn=True)
        await self._append(wire, append, (_COMMIT, _NOTHING))

    async def _give_up_turn(self, wire: Wire) -> None:
        """End the transaction and its lock for certain, whatever went wrong."""
        try:
            await self._run(wire, (_ROLLBACK, _NOTHING))
        except StoreError:
            await self.aclose()

    async def _run(self, wire: Wire, *steps: Step, more: float = 0.0) -> RoundTrip:
        """Bound the wait for what changes nothing: a lost answer means unavailable."""
        trip = await wire.run(*steps, seconds=self._seconds + more)
        if trip.error is not None:
            raise translate(trip.error, self._config) from trip.error
        return trip


class _Append(NamedTuple):
    """What is sent for an append, and what its answer is judged by."""

    binds: dict[str, bytes]
    events: int
    notifies: bool
    sent: int


class Turn:
    """The right to append next: an open transaction that holds the exclusive lock."""

    def __init__(self, writer: Writer, wire: Wire) -> None:
        self._writer = writer
        self._wire = wire
        self.ended = False
        self.following: list[StoredEvent] = []

    async def read_on(self, after: Head) -> list[StoredEvent]:
        """Read on from a place; nobody else appends until the turn ends."""
        return await self._writer.read_in(self._wire, after)

    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        """Append and end the turn; see the log's contract."""
        await self._writer.append_in_turn(self._wire, events, after)
        self.ended = True


def _aloud(wire: Wire) -> tuple[Step, ...]:
    """Return what a session that is lent needs, so that a commit is warned about."""
    return ((_ALOUD, _NOTHING),) if wire.pooled else ()


def _ends_session(error: psycopg.Error) -> bool:
    """Whether the server ended the session, perhaps in the middle of what was sent."""
    if isinstance(error, pg.IdleInTransactionSessionTimeout):
        # It was waiting for us: what was sent has not arrived.
        return False
    return error.diag.severity_nonlocalized in _LAST_WORDS


def _place(after: Head) -> dict[str, bytes]:
    return {
        "after": binary.integer(after.position),
        "hash": after.hash,
        "count": binary.integer(READ_ON_EVENTS),
        "bytes": binary.integer(CHUNK_BYTES_MAX),
    }


def _following(row: list[bytes], after: Head) -> list[StoredEvent]:
    known, text = row
    if known != _YES:
        message = f"the log has no event {after.position} with the hash that was read"
        raise DivergedError(message)
    return decode(text)
