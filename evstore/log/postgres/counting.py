"""What the rows of some queries are: counts and heartbeats, as the contract has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evstore.keys import Key
from evstore.log.shapes import Instance
from evstore.model import Operation
from evstore.tally import (
    HOURS_A_DAY,
    Activity,
    Actor,
    Busy,
    Changes,
    Day,
    Partition,
    Storage,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


def activity_of(rows: Iterable[tuple[Any, ...]]) -> Activity:
    """Return the counts that the rows of activity.sql are."""
    types: dict[str, Changes] = {}
    hours = [0] * HOURS_A_DAY
    actors: list[Actor] = []
    resources: list[Busy] = []
    days: list[Day] = []
    groups: dict[str, int] = {}
    all_ = (0, 0, 0)
    for row in rows:
        way, type_, operation, actor, mesh, name, hour, day, events, *rest = row
        transactions, bytes_, groups[way] = rest
        match way:
            case "all":
                all_ = (events, transactions, bytes_)
            case "type":
                changes = types.setdefault(type_, Changes())
                changes.add(Operation(operation), events)
            case "actor":
                actors.append(Actor(actor=actor, events=events))
            case "resource":
                key = Key(type=type_, mesh=mesh, name=name)
                resources.append(Busy(key=key, events=events))
            case "hour":
                hours[hour] = events
            case _:
                days.append(Day(date=day, events=events, bytes=bytes_))
    return Activity(
        events=all_[0],
        transactions=all_[1],
        bytes=all_[2],
        types={name: types[name] for name in sorted(types)},
        actors=actors,
        actors_count=groups.get("actor", 0),
        resources=resources,
        resources_count=groups.get("resource", 0),
        hours=hours,
        days=sorted(days, key=lambda each: each.date),
    )


def storage_of(rows: Iterable[tuple[Any, ...]], *, snapshot_bytes: int) -> Storage:
    """Return what the rows of storage.sql say, and what snapshots take."""
    return Storage(
        partitions=[
            Partition(name=name, table_bytes=table, index_bytes=index)
            for name, table, index in rows
        ],
        snapshot_bytes=snapshot_bytes,
    )


def instances_of(rows: Iterable[tuple[Any, ...]]) -> list[Instance]:
    """Return the instances that the rows of instances.sql or running.sql are."""
    return [
        Instance(
            id=row[0],
            position=row[1],
            digest=row[2],
            code_version=row[3],
            knows=row[4],
            projections=tuple(row[5]),
            seen_at=row[6],
        )
        for row in rows
    ]
