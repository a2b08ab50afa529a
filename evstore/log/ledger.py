"""A log's events in memory, and everything that can be asked of them there.

The memory log is one; the Kubernetes log keeps one as its copy. Positions begin at 1
and have no gaps.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import anyio

from evstore.model import ANY, Filter, Head, Operation, StoredEvent
from evstore.tally import tally

from .contract import CHUNK_BYTES_MAX, CHUNK_EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from evstore.tally import Activity


class Ledger:
    """Events in their order, found by position, by time and by key."""

    def __init__(self, genesis: Head) -> None:
        self.genesis = genesis
        self._events: list[StoredEvent] = []
        self._positions: dict[str, list[int]] = {}

    @property
    def head(self) -> Head:
        """The last place."""
        return self._events[-1].head if self._events else self.genesis

    def __len__(self) -> int:
        return len(self._events)

    def extend(self, events: Sequence[StoredEvent]) -> None:
        """Add whole transactions that directly follow the head."""
        for event in events:
            self._events.append(event)
            self._positions.setdefault(event.key, []).append(event.position)

    def event(self, position: int) -> StoredEvent:
        """Return the event at a position that is there."""
        return self._events[position - 1]

    def replace(self, event: StoredEvent) -> None:
        """Put an event, whose body was redacted, in the place of what it was."""
        self._events[event.position - 1] = event

    def since(self, position: int) -> list[StoredEvent]:
        """Return all events after a position."""
        return self._events[position:]

    def following(self, position: int) -> list[StoredEvent]:
        """Return whole transactions after a position, some hundreds of events."""
        events = self._events[position : position + CHUNK_EVENTS]
        return self._events[position : events[-1].commit] if events else []

    def place(self, position: int) -> Head | None:
        """Return the place at a position, None where the log has not got there."""
        if position == 0:
            return self.genesis
        if position > len(self._events):
            return None
        return self._events[position - 1].head

    def commit_of(self, position: int) -> Head | None:
        """Return the place at the end of the transaction that `position` is part of."""
        if not 0 < position <= len(self._events):
            return self.place(position)
        return self.place(self._events[position - 1].commit)

    def locate(self, time: int) -> Head:
        """Return the last place whose time is not after `time`."""
        index = bisect_right(self._events, time, key=lambda event: event.time)
        return self._events[index - 1].head if index else self.genesis

    async def read(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        where: Filter = ANY,
        reverse: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[list[StoredEvent]]:
        """Yield events with `after < position <= until`, in chunks, in order."""
        chunk: list[StoredEvent] = []
        size = 0
        left = limit
        for event in self._range(after, until, where, reverse=reverse):
            if left == 0:
                break
            if not where.accepts(event):
                continue
            chunk.append(event)
            size += event.size
            left = None if left is None else left - 1
            if len(chunk) == CHUNK_EVENTS or size >= CHUNK_BYTES_MAX:
                yield chunk
                chunk, size = [], 0
                await anyio.lowlevel.checkpoint()
        if chunk:
            yield chunk

    def _range(
        self, after: int, until: int | None, where: Filter, *, reverse: bool
    ) -> Iterator[StoredEvent]:
        """Yield the events that can be meant; one key's own are found by its index."""
        events = self._events
        if None not in (where.type, where.mesh, where.name):
            places = self._positions.get(f"{where.type}/{where.mesh}/{where.name}", [])
            first = bisect_right(places, after)
            last = len(places) if until is None else bisect_right(places, until)
            indexes = [position - 1 for position in places[first:last]]
            for index in reversed(indexes) if reverse else indexes:
                yield events[index]
        elif reverse:
            top = len(events) if until is None else min(until, len(events))
            for index in range(top - 1, after - 1, -1):
                yield events[index]
        else:
            index = after
            while index < (len(events) if until is None else min(until, len(events))):
                yield events[index]
                index += 1

    def latest(self, *, where: Filter, until: int) -> list[StoredEvent]:
        """Return the last event of each key at or before `until`."""
        return [
            event
            for key in self._positions
            if where.accepts_key(key)
            and (event := self._last_of(key, until)) is not None
        ]

    def _last_of(self, key: str, until: int) -> StoredEvent | None:
        places = self._positions.get(key, [])
        for position in reversed(places[: bisect_right(places, until)]):
            event = self._events[position - 1]
            if event.operation is not Operation.REDACTED:
                return event
        return None

    def previous(self, places: Sequence[tuple[str, int]]) -> list[StoredEvent | None]:
        """Return for each key and position the last event of the key before it."""
        return [self._last_of(key, position - 1) for key, position in places]

    def pick(self, positions: Sequence[int]) -> list[StoredEvent]:
        """Return the events at these positions, in order of position."""
        top = len(self._events)
        return [self._events[each - 1] for each in sorted(positions) if each <= top]

    def activity(self, *, after: int, until: int, top: int) -> Activity:
        """Count the events in a range."""
        return tally(self._range(after, until, ANY, reverse=False), top=top)
