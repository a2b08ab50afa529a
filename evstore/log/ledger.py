"""A log's events in memory, and everything that can be asked of them there.

The memory log is one; the Kubernetes log keeps one as its copy. Positions have no gaps.
They begin at 1, or after the floor of a log that was compacted.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import anyio

from evstore.errors import CompactedError
from evstore.model import ANY, Filter, Head, Operation, StoredEvent
from evstore.tally import tally

from .contract import CHUNK_BYTES_MAX, CHUNK_EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence

    from evstore.tally import Activity


class Ledger:
    """Events in their order, found by position, by time and by key.

    Of a log that was compacted, `base` is the last event of each resource that existed
    at the floor. What is asked about before the floor is a `CompactedError`.
    """

    def __init__(
        self,
        genesis: Head,
        *,
        floor: Head | None = None,
        base: Iterable[StoredEvent] = (),
    ) -> None:
        self.genesis = genesis
        self.floor = floor or genesis
        self._base = {event.key: event for event in base}
        self._events: list[StoredEvent] = []
        self._positions: dict[str, list[int]] = {}

    @property
    def head(self) -> Head:
        """The last place."""
        return self._events[-1].head if self._events else self.floor

    @property
    def top(self) -> int:
        """The last position."""
        return self.floor.position + len(self._events)

    def extend(self, events: Sequence[StoredEvent]) -> None:
        """Add whole transactions that directly follow the head."""
        for event in events:
            self._events.append(event)
            self._positions.setdefault(event.key, []).append(event.position)

    def event(self, position: int) -> StoredEvent:
        """Return the event at a position that is there, after the floor."""
        return self._events[self._index(position)]

    def _index(self, position: int) -> int:
        """Return where the event at a position is, or would be."""
        index = position - self.floor.position - 1
        if index < 0:
            raise self._compacted()
        return index

    def _compacted(self) -> CompactedError:
        oldest = self.floor.position
        message = (
            f"the log was compacted: of what happened up to position {oldest}, "
            "only the state there is left"
        )
        return CompactedError(message, oldest=oldest)

    def _check_range(self, after: int, until: int | None) -> None:
        """Check that no event of a range has been removed."""
        if after < self.floor.position and (until is None or until > after):
            raise self._compacted()

    def replace(self, event: StoredEvent) -> None:
        """Put an event, whose body was redacted, in the place of what it was."""
        self._events[self._index(event.position)] = event

    def compact(self, position: int) -> None:
        """Keep of all events up to a position, which is there, the state alone."""
        count = self._index(position) + 1
        for event in self._events[:count]:
            match event.operation:
                case Operation.REDACTED:
                    continue
                case Operation.DELETED:
                    self._base.pop(event.key, None)
                case _:
                    self._base[event.key] = event
        self.floor = self._events[count - 1].head
        kept, self._events, self._positions = self._events[count:], [], {}
        self.extend(kept)

    def since(self, position: int) -> list[StoredEvent]:
        """Return all events after a position."""
        return self._events[self._index(position + 1) :]

    def following(self, position: int) -> list[StoredEvent]:
        """Return whole transactions after a position, some hundreds of events."""
        first = self._index(position + 1)
        events = self._events[first : first + CHUNK_EVENTS]
        if not events:
            return []
        return self._events[first : self._index(events[-1].commit) + 1]

    def place(self, position: int) -> Head | None:
        """Return the place at a position, None where the log has not got there."""
        if position == 0:
            return self.genesis
        if position == self.floor.position:
            return self.floor
        return None if position > self.top else self.event(position).head

    def commit_of(self, position: int) -> Head | None:
        """Return the place at the end of the transaction that `position` is part of."""
        if position in {0, self.floor.position} or position > self.top:
            return self.place(position)
        return self.place(self.event(position).commit)

    def locate(self, time: int) -> Head:
        """Return the last place whose time is not after `time`."""
        index = bisect_right(self._events, time, key=lambda event: event.time)
        if index:
            return self._events[index - 1].head
        if self.floor.position and time < self.floor.time:
            raise self._compacted()
        return self.floor

    async def read(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        where: Filter = ANY,
        reverse: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[list[StoredEvent]]:
        """Yield events with `after < position <= until`, in chunks, in order.

        In reverse, what is left is yielded before it ends with a `CompactedError`.
        """
        chunk: list[StoredEvent] = []
        size = 0
        left = limit
        if not reverse:
            self._check_range(after, until)
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
        if reverse and left != 0:
            self._check_range(after, until)

    def _range(
        self, after: int, until: int | None, where: Filter, *, reverse: bool
    ) -> Iterator[StoredEvent]:
        """Yield the events that can be meant; one key's own are found by its index."""
        if None not in (where.type, where.mesh, where.name):
            places = self._positions.get(f"{where.type}/{where.mesh}/{where.name}", [])
            first = bisect_right(places, after)
            last = len(places) if until is None else bisect_right(places, until)
            some = places[first:last]
            for position in reversed(some) if reverse else some:
                yield self.event(position)
        elif reverse:
            position = self.top if until is None else min(until, self.top)
            while position > max(after, self.floor.position):
                yield self.event(position)
                position -= 1
        else:
            position = after + 1
            while position <= (self.top if until is None else min(until, self.top)):
                yield self.event(position)
                position += 1

    def latest(self, *, where: Filter, until: int) -> list[StoredEvent]:
        """Return the last event of each key at or before `until`."""
        if max(until, 0) < self.floor.position:
            raise self._compacted()
        return [
            event
            for key in {**self._base, **self._positions}
            if where.accepts_key(key)
            and (event := self._last_of(key, until)) is not None
        ]

    def _last_of(self, key: str, until: int) -> StoredEvent | None:
        if max(until, 0) < self.floor.position:
            raise self._compacted()
        places = self._positions.get(key, [])
        for position in reversed(places[: bisect_right(places, until)]):
            event = self.event(position)
            if event.operation is not Operation.REDACTED:
                return event
        return self._base.get(key)

    def previous(self, places: Sequence[tuple[str, int]]) -> list[StoredEvent | None]:
        """Return for each key and position the last event of the key before it."""
        return [self._last_of(key, position - 1) for key, position in places]

    def pick(self, positions: Sequence[int]) -> list[StoredEvent]:
        """Return the events at these positions, in order of position."""
        old = [each for each in positions if each <= self.floor.position]
        base = {event.position: event for event in self._base.values()} if old else {}
        if not base.keys() >= set(old):
            raise self._compacted()
        return [
            base[each] if each in base else self.event(each)
            for each in sorted(positions)
            if each <= self.top
        ]

    def activity(self, *, after: int, until: int, top: int) -> Activity:
        """Count the events in a range."""
        self._check_range(after, until)
        return tally(self._range(after, until, ANY, reverse=False), top=top)
