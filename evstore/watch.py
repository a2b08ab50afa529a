"""Following the log: the newest events, kept once for all watchers of a process.

Watchers pull: each has a position and takes what follows it from the tail. One that
falls behind the tail's beginning reads from the log until it has caught up, so a slow
watcher loses nothing, slows nobody and costs no memory.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import anyio

from .errors import DivergedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from .log import Log
    from .model import Filter, StoredEvent

TAIL_BYTES_MAX: Final = 16 * 1024 * 1024


class Tail:
    """The newest events that this process has applied, in whole transactions."""

    def __init__(self, position: int, *, events_max: int) -> None:
        self.position = position
        self.generation = 0
        self.closed = False
        self._events_max = events_max
        self._batches: deque[tuple[Sequence[StoredEvent], int]] = deque()
        self._events = 0
        self._bytes = 0
        self._changed = anyio.Event()

    def publish(self, events: Sequence[StoredEvent]) -> None:
        """Add what was just applied, and wake whoever waits for it."""
        size = sum(event.size for event in events)
        self._batches.append((events, size))
        self._events += len(events)
        self._bytes += size
        while self._events > self._events_max or self._bytes > TAIL_BYTES_MAX:
            oldest, size = self._batches.popleft()
            self._events -= len(oldest)
            self._bytes -= size
        self._move(events[-1].position)

    def diverge(self, position: int) -> None:
        """Begin anew at `position`: what was published before may never have been."""
        self.generation += 1
        self._batches.clear()
        self._events = self._bytes = 0
        self._move(position)

    def close(self) -> None:
        """Nothing more is to come: end the watches."""
        self.closed = True
        self._move(self.position)

    def _move(self, position: int) -> None:
        self.position = position
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def changed(self) -> None:
        """Return when something has been published since the call."""
        await self._changed.wait()

    def after(self, position: int) -> list[StoredEvent] | None:
        """Return the events after `position`; None where the tail begins later."""
        found: list[Sequence[StoredEvent]] = []
        for events, _ in reversed(self._batches):
            if events[-1].position <= position:
                break
            found.append(events)
        if not found:
            return [] if position >= self.position else None
        first = found[-1][0].position
        if first > position + 1:
            return None
        together = [event for events in reversed(found) for event in events]
        return together[position + 1 - first :]


async def watch(
    log: Log, tail: Tail, *, where: Filter, after: int, generation: int
) -> AsyncIterator[StoredEvent]:
    """Yield the events after a position that `where` accepts, in order.

    Goes on until the tail is closed. `generation` is that of the tail when the caller
    learned of `after`.

    Raises:
        DivergedError: the log lost events that this process had applied.
    """
    position = after
    while True:
        _check(tail, generation)
        if position >= tail.position:
            if tail.closed:
                return
            await tail.changed()
            continue
        # Both ways end between transactions: the tail holds whole ones only.
        until = tail.position
        events = tail.after(position)
        if events is not None:
            for event in filter(where.accepts, events):
                yield event
        else:
            chunks = log.read(after=position, until=until, where=where)
            async for event in _catch_up(chunks, tail, generation):
                yield event
        position = until


async def _catch_up(
    chunks: AsyncIterator[list[StoredEvent]], tail: Tail, generation: int
) -> AsyncIterator[StoredEvent]:
    async for chunk in chunks:
        # The log may have diverged while it was read.
        _check(tail, generation)
        for event in chunk:
            yield event


def _check(tail: Tail, generation: int) -> None:
    if tail.generation != generation:
        message = "the log lost events that had been read; list and watch again"
        raise DivergedError(message)
