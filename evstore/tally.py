"""Counts of events: what they are, and how they are made of events. Pure.

Days and hours are those of UTC.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from .clock import to_datetime
from .keys import Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .model import Operation, StoredEvent

HOURS_A_DAY = 24


class Changes(msgspec.Struct, kw_only=True):
    """How often resources of one type were changed, by what was done."""

    created: int = 0
    updated: int = 0
    deleted: int = 0
    redacted: int = 0

    @property
    def events(self) -> int:
        """All of them together."""
        return self.created + self.updated + self.deleted + self.redacted

    def add(self, operation: Operation, count: int) -> None:
        """Count some more of an operation."""
        name = operation.value
        setattr(self, name, getattr(self, name) + count)


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody, and how many events they made."""

    actor: str
    events: int


class Busy(msgspec.Struct, frozen=True, kw_only=True):
    """A resource, and how many events it has; deleted and created again, it is one."""

    key: Key
    events: int


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """A day with events, as 2026-11-23; `bytes` is the size of bodies and metadata."""

    date: str
    events: int
    bytes: int


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in a range of a log, counted.

    `bytes` is what bodies and metadata had when they were appended. `types` are sorted
    by name, `days` by date. `actors` and `resources` are the busiest, most events first,
    then by name; `actors_count` and `resources_count` say how many there are in all.
    """

    events: int
    transactions: int
    bytes: int
    types: dict[str, Changes]
    actors: list[Actor]
    actors_count: int
    resources: list[Busy]
    resources_count: int
    hours: list[int]
    days: list[Day]


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the log's table on disk."""

    name: str
    table_bytes: int
    index_bytes: int


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """What the log takes on disk, its partitions in order of position.

    `snapshot_bytes` is what all snapshots take: no part of the log.
    """

    partitions: list[Partition]
    snapshot_bytes: int

    @property
    def table_bytes(self) -> int:
        """What the events take."""
        return sum(each.table_bytes for each in self.partitions)

    @property
    def index_bytes(self) -> int:
        """What their indexes take."""
        return sum(each.index_bytes for each in self.partitions)


def tally(events: Iterable[StoredEvent], *, top: int) -> Activity:
    """Count events; of actors and resources the `top` busiest are named."""
    types: dict[str, Changes] = {}
    actors: Counter[str] = Counter()
    keys: Counter[str] = Counter()
    hours = [0] * HOURS_A_DAY
    days: dict[str, tuple[int, int]] = {}
    transactions = size = 0
    for event in events:
        moment = to_datetime(event.time)
        date = moment.date().isoformat()
        counted, bytes_ = days.get(date, (0, 0))
        days[date] = (counted + 1, bytes_ + event.size)
        hours[moment.hour] += 1
        size += event.size
        transactions += event.position == event.commit
        actors[event.actor] += 1
        keys[event.key] += 1
        type_ = event.key.partition("/")[0]
        types.setdefault(type_, Changes()).add(event.operation, 1)
    return Activity(
        events=sum(hours),
        transactions=transactions,
        bytes=size,
        types={type_: types[type_] for type_ in sorted(types)},
        actors=[Actor(actor=a, events=count) for a, count in _busiest(actors, top)],
        actors_count=len(actors),
        resources=[
            Busy(key=Key.from_text(key), events=count)
            for key, count in _busiest(keys, top)
        ],
        resources_count=len(keys),
        hours=hours,
        days=[
            Day(date=date, events=count, bytes=bytes_)
            for date, (count, bytes_) in sorted(days.items())
        ],
    )


def _busiest(counts: Mapping[str, int], top: int) -> list[tuple[str, int]]:
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return ordered[:top]
