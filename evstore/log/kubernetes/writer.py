"""The writer: appends one after the other, each one object that is there or is not.

The API server has no order between two requests, so the second of two appends in flight
is sent when the first stands: never is there an object past the end of the log.

Nor does it know who waits for a turn. So while one append after the other goes without
a turn, the queue is looked at now and then, beside an append; where somebody waits, the
next one is refused, as `BusyError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from evstore.errors import DivergedError, StoreError
from evstore.log.failures import (
    AppendError,
    BusyError,
    HeadMovedError,
    InDoubtError,
)

from .answers import LostError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyio.abc import TaskGroup

    from evstore.log.contract import Log
    from evstore.model import Head, StoredEvent

    from .feed import Feed, Look
    from .shelf import Shelf
    from .turns import Queue

# After so many appends without a turn the queue is looked at.
LOOK_APPENDS: Final = 8


class _Flight:
    """An append that was begun and has not landed, or how it did."""

    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.failed = False


class Writer:
    """Appends to the log that a feed follows."""

    def __init__(
        self, shelf: Shelf, feed: Feed, queue: Queue, tasks: TaskGroup
    ) -> None:
        self._shelf = shelf
        self._feed = feed
        self._queue = queue
        self._tasks = tasks
        self._last: _Flight | None = None
        # Appends without a turn since the queue was looked at, and what was seen.
        self._unlooked = 0
        self._busy = False

    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        """Append without a turn; see the log's contract."""
        if self._busy:
            self._busy = await self._queue.look()
            if self._busy:
                raise BusyError
        self._unlooked += 1
        if self._unlooked >= LOOK_APPENDS:
            self._unlooked = 0
            self._tasks.start_soon(self._look)
        await self.append_in_turn(events, after=after)

    async def _look(self) -> None:
        self._busy = await self._queue.look()

    async def append_in_turn(
        self, events: Sequence[StoredEvent], *, after: Head
    ) -> None:
        """Append, whoever waits; see the log's contract."""
        if self._feed.head.position < after.position:
            await self._feed.refresh()  # another instance has got further than we
        confirmed = await self._feed.ensure_confirmed()
        if self._feed.head != after:
            raise HeadMovedError
        with self._feed.appending(events[-1].hash):
            await self._create(events, after, confirmed=confirmed)

    async def _create(
        self, events: Sequence[StoredEvent], after: Head, *, confirmed: Look
    ) -> None:
        copy, look = self._feed.copy, self._feed.look()
        first, uid = copy.last_first, copy.uid
        try:
            metadata = await self._shelf.create(
                events, after=after.hash, log=copy.identity
            )
        except LostError as error:
            raise InDoubtError(str(error)) from error
        try:
            if await self._feed.is_void(events[0].position, confirmed=confirmed):
                raise HeadMovedError
            await self._feed.check_before(first, uid, since=confirmed)
            if self._feed.head == after:
                self._feed.adopt(events, metadata, look=look)
            else:
                self._check_there(events[-1])  # the watch was quicker
        except StoreError as error:
            raise InDoubtError(str(error)) from error

    def _check_there(self, last: StoredEvent) -> None:
        """Check that the copy has what was created: it may have been read anew."""
        if self._feed.ledger.place(last.position) != last.head:
            message = f"the log was read anew, and has no event {last.position} of ours"
            raise DivergedError(message)

    def send(
        self,
        events: Sequence[StoredEvent],
        *,
        after: Head,
        landed: Callable[[Exception | None], None],
    ) -> bool:
        """Begin an append; the one before it must land first."""
        flight = _Flight()
        before, self._last = self._last, flight
        if before is not None and before.landed.is_set():
            before = None
        self._tasks.start_soon(self._fly, events, after, before, flight, landed)
        return True

    async def _fly(
        self,
        events: Sequence[StoredEvent],
        after: Head,
        before: _Flight | None,
        flight: _Flight,
        landed: Callable[[Exception | None], None],
    ) -> None:
        error: Exception | None = InDoubtError("the log was closed meanwhile")
        try:
            if before is not None:
                await before.landed.wait()
            error = await self._outcome(events, after, before)
        finally:
            flight.failed = error is not None
            flight.landed.set()
            landed(error)

    async def _outcome(
        self, events: Sequence[StoredEvent], after: Head, before: _Flight | None
    ) -> Exception | None:
        if before is not None and before.failed:
            return HeadMovedError()
        try:
            await self.append(events, after=after)
        except (AppendError, StoreError) as error:
            return error
        return None


class Turn:
    """The right to append next to a log, and what was new in it when that came."""

    def __init__(self, log: Log, writer: Writer, following: list[StoredEvent]) -> None:
        self._log = log
        self._writer = writer
        self.following = following

    async def read_on(self, after: Head) -> list[StoredEvent]:
        """Read on from a place."""
        return await self._log.read_on(after)

    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        """Append; the turn ends with its block."""
        await self._writer.append_in_turn(events, after=after)
