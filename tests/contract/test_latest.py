"""The last event of each key: what reads of the past are made of."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from events import History, create, creations, delete, key, update
from evstore.model import ANY, Filter, Operation

if TYPE_CHECKING:
    from evstore.log import Log
    from evstore.model import StoredEvent


def expected(events: list[StoredEvent], where: Filter, until: int) -> set[int]:
    found: dict[str, int] = {}
    for event in events[:until]:
        if where.accepts(event) and event.operation is not Operation.REDACTED:
            found[event.key] = event.position
    return set(found.values())


async def test_an_empty_log_has_no_latest_events(log: Log) -> None:
    assert await log.latest(where=ANY, until=10) == []


async def test_each_key_has_its_last_event_at_or_before_a_position(
    log: Log, history: History
) -> None:
    for type_, mesh, name in product(("Mesh", "Zone"), ("", "m", "m1"), ("a", "a.b")):
        here = key(name, type_, mesh)
        history.transaction(create(here))
        history.transaction(update(here, {"n": 1}))
        history.redaction(here)
        history.transaction(update(here, {"n": 2}))
    history.transaction(delete(key("a", "Zone", "m")))
    history.transaction(create(key("a", "Zone", "m")))
    history.transaction(delete(key("a", "Mesh", "m")))
    await log.append(history.events, after=log.genesis)
    head = len(history.events)
    for wanted_type, wanted_mesh, wanted_name, until in product(
        (None, "Zone", "Z"),
        (None, "", "m"),
        (None, "a", "a.b"),
        (0, 1, 3, 20, head - 2, head - 1, head, head + 5),
    ):
        where = Filter(type=wanted_type, mesh=wanted_mesh, name=wanted_name)
        found = await log.latest(where=where, until=until)
        positions = [event.position for event in found]
        assert len(positions) == len(set(positions))
        wanted = expected(history.events, where, until)
        assert set(positions) == wanted, (where, until)
        assert all(event == history.events[event.position - 1] for event in found)


async def test_a_deleted_resource_has_its_deletion(log: Log, history: History) -> None:
    creations(history, "a")
    history.transaction(delete(key("a")))
    await log.append(history.events, after=log.genesis)
    (event,) = await log.latest(where=ANY, until=2)
    assert event.operation is Operation.DELETED
    (event,) = await log.latest(where=ANY, until=1)
    assert event.operation is Operation.CREATED


async def test_a_resource_that_was_created_again_has_its_last_creation(
    log: Log, history: History
) -> None:
    creations(history, "a")
    history.transaction(delete(key("a")))
    history.transaction(create(key("a"), {"again": True}))
    await log.append(history.events, after=log.genesis)
    assert await log.latest(where=ANY, until=3) == history.events[2:]


async def test_redactions_are_passed_over(log: Log, history: History) -> None:
    creations(history, "a")
    history.redaction(key("a"))
    history.redaction(key("a"))
    await log.append(history.events, after=log.genesis)
    assert await log.latest(where=ANY, until=3) == history.events[:1]


async def test_more_keys_than_a_chunk_are_all_there(log: Log, history: History) -> None:
    events = creations(history, (f"n{number}" for number in range(1_001)))
    await log.append(events, after=log.genesis)
    found = await log.latest(where=Filter(type="Dataplane"), until=1_001)
    assert sorted(found, key=lambda event: event.position) == events
