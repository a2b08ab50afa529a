"""Reading: order, bounds, filters, limits and chunks."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from events import History, collected, create, creations, delete, key, update
from evstore.log import Log, MemoryLog
from evstore.log.contract import CHUNK_BYTES_MAX, CHUNK_EVENTS
from evstore.log.current import CurrentLog
from evstore.model import ANY, Filter, Operation

if TYPE_CHECKING:
    from evstore.model import StoredEvent

MIB = 1024 * 1024


async def mixed(log: Log, history: History) -> list[StoredEvent]:
    """Append some events that differ in everything that a filter looks at."""
    for type_, mesh, name in product(("Mesh", "Zone"), ("", "m", "m1"), ("a", "a.b")):
        here = key(name, type_, mesh)
        history.transaction(create(here), create(key("x")), actor="alice")
        history.transaction(delete(key("x")), actor="ali")
        history.transaction(update(here, {"n": 1}), actor="")
    await log.append(history.events, after=log.genesis)
    return history.events


def expected(
    events: list[StoredEvent],
    where: Filter = ANY,
    *,
    after: int = 0,
    until: int | None = None,
    reverse: bool = False,
    limit: int | None = None,
) -> list[StoredEvent]:
    last = len(events) if until is None else until
    found = []
    for event in events:
        type_, mesh, name = event.key.split("/")
        if after < event.position <= last and all(
            wanted is None or wanted == actual
            for wanted, actual in (
                (where.type, type_),
                (where.mesh, mesh),
                (where.name, name),
                (where.actor, event.actor),
            )
        ):
            found.append(event)
    return (found[::-1] if reverse else found)[:limit]


async def test_an_empty_log_reads_as_nothing(log: Log) -> None:
    for reverse in (False, True):
        assert await collected(log.read(reverse=reverse)) == []
        assert await collected(log.read(after=5, until=9, reverse=reverse)) == []
    assert await collected(log.replay(after=0, until=0)) == []
    where = Filter(type="Mesh", mesh="", name="a")
    assert await collected(log.read(where=where)) == []


@pytest.mark.parametrize("reverse", [False, True])
async def test_every_combination_of_filters_lets_through_what_it_says(
    log: Log,
    history: History,
    reverse: bool,  # noqa: FBT001
) -> None:
    events = await mixed(log, history)
    for type_, mesh, name, actor in product(
        (None, "Zone", "Zon"), (None, "", "m"), (None, "a", "x"), (None, "", "ali")
    ):
        where = Filter(type=type_, mesh=mesh, name=name, actor=actor)
        read = await collected(log.read(where=where, reverse=reverse))
        assert read == expected(events, where, reverse=reverse), where


async def test_operations_and_reasons_are_filtered_as_well(
    log: Log, history: History
) -> None:
    here = key("a")
    history.transaction(create(here), reason="100% of it")
    history.transaction(update(here, {"n": 1}), reason="rollout 42")
    history.transaction(update(here, {"n": 2}))
    history.redaction(here)
    history.transaction(delete(here), reason="Rollout 42\nback")
    await log.append(history.events, after=log.genesis)
    for where, positions in (
        (Filter(operation=Operation.UPDATED), [2, 3]),
        (Filter(operation=Operation.REDACTED), [4]),
        (Filter(reason="42"), [2, 5]),
        (Filter(reason="ollout 42\nb"), [5]),
        (Filter(reason="rollout"), [2]),  # as it is written
        (Filter(reason="%"), [1]),  # no pattern
        (Filter(reason=""), [1, 2, 3, 4, 5]),
        (Filter(reason="42", operation=Operation.DELETED, name="a"), [5]),
        (Filter(reason="42", operation=Operation.CREATED), []),
    ):
        for reverse in (False, True):
            read = await collected(log.read(where=where, reverse=reverse))
            found = [event.position for event in read]
            assert found == (positions[::-1] if reverse else positions), where
            assert all(where.accepts(event) for event in read)


@pytest.mark.parametrize("reverse", [False, True])
async def test_bounds_exclude_after_and_include_until(
    log: Log,
    history: History,
    reverse: bool,  # noqa: FBT001
) -> None:
    events = await mixed(log, history)
    head = len(events)
    key_filter = Filter(type="Mesh", mesh="m", name="a")
    for after, until, where in product(
        (0, 1, 11, 17, head, head + 7),
        (0, 1, 11, 17, head, head + 7, None),
        (ANY, key_filter),
    ):
        read = log.read(after=after, until=until, where=where, reverse=reverse)
        wanted = expected(events, where, after=after, until=until, reverse=reverse)
        assert await collected(read) == wanted, (after, until, where)


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_limit_counts_what_the_filter_lets_through(
    log: Log,
    history: History,
    reverse: bool,  # noqa: FBT001
) -> None:
    events = await mixed(log, history)
    for limit, where in product((0, 1, 5, 10_000), (ANY, Filter(actor="ali"))):
        read = log.read(where=where, reverse=reverse, limit=limit)
        wanted = expected(events, where, reverse=reverse, limit=limit)
        assert await collected(read) == wanted, (limit, where)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("where", [ANY, Filter(type="Dataplane")])
async def test_more_than_a_chunk_comes_in_chunks_whole_and_in_order(
    log: Log,
    history: History,
    where: Filter,
    reverse: bool,  # noqa: FBT001
) -> None:
    count = 2 * CHUNK_EVENTS + 1
    events = creations(history, (f"n{number}" for number in range(count)))
    await log.append(events, after=log.genesis)
    chunks = [chunk async for chunk in log.read(where=where, reverse=reverse)]
    assert [len(chunk) for chunk in chunks] == [CHUNK_EVENTS, CHUNK_EVENTS, 1]
    assert sum(chunks, []) == (events[::-1] if reverse else events)  # noqa: RUF017


async def test_a_limit_beyond_a_chunk_is_kept(log: Log, history: History) -> None:
    events = creations(history, (f"n{number}" for number in range(2 * CHUNK_EVENTS)))
    await log.append(events, after=log.genesis)
    limit = CHUNK_EVENTS + 1
    assert await collected(log.read(limit=limit)) == events[:limit]
    read = log.read(limit=limit, reverse=True)
    assert await collected(read) == events[: -limit - 1 : -1]


@pytest.mark.parametrize("way", ["read", "reverse", "replay"])
async def test_large_events_come_whole_and_in_order(
    log: Log, history: History, way: str
) -> None:
    count = 20
    for number in range(count):
        history.transaction(create(key(f"n{number}"), {"blob": "x" * MIB}))
    await log.append(history.events, after=log.genesis)
    match way:
        case "read":
            reading = log.read()
        case "reverse":
            reading = log.read(reverse=True)
        case _:
            reading = log.replay(after=0, until=count)
    chunks = [chunk async for chunk in reading]
    read = [event for chunk in chunks for event in chunk]
    assert read == (history.events[::-1] if way == "reverse" else history.events)
    if not isinstance(log, MemoryLog | CurrentLog):
        # What is in this process's memory already need not be cut by bytes.
        size_max = CHUNK_BYTES_MAX + max(event.size for event in read)
        assert max(sum(event.size for event in chunk) for chunk in chunks) <= size_max


@pytest.mark.parametrize("far", [2**62, 2**63, 2**64, 2**70])
async def test_bounds_may_lie_past_every_position(
    log: Log, history: History, far: int
) -> None:
    await log.append(creations(history, "ab"), after=log.genesis)
    assert await collected(log.read(after=far)) == []
    assert await collected(log.read(after=far, until=far + 1, reverse=True)) == []
    assert await collected(log.read(after=1, until=far)) == history.events[1:]


async def test_a_read_may_be_left_early_and_begun_again(
    log: Log, history: History
) -> None:
    events = creations(history, (f"n{number}" for number in range(2 * CHUNK_EVENTS)))
    await log.append(events, after=log.genesis)
    for _ in range(3):
        reading = log.read()
        async for chunk in reading:
            assert chunk == events[:CHUNK_EVENTS]
            break
        await reading.aclose()  # type: ignore[attr-defined]  # a generator has it
    assert await log.head() == history.head


async def test_without_until_a_read_sees_what_comes_while_it_is_under_way(
    log: Log, history: History
) -> None:
    first = creations(history, (f"n{number}" for number in range(CHUNK_EVENTS)))
    await log.append(first, after=log.genesis)
    seen: list[StoredEvent] = []
    async for chunk in log.read():
        seen += chunk
        if len(seen) == CHUNK_EVENTS:
            await log.append(creations(history, "z"), after=first[-1].head)
    assert seen == history.events


async def test_a_replay_is_the_same_as_a_read(log: Log, history: History) -> None:
    await mixed(log, history)
    place = history.head
    more = creations(history, (f"n{number}" for number in range(CHUNK_EVENTS)))
    await log.append(more, after=place)
    head = len(history.events)
    for after, until in ((0, head), (0, 1), (7, 8), (7, 7), (3, head - 1), (0, 0)):
        replayed = await collected(log.replay(after=after, until=until))
        assert replayed == await collected(log.read(after=after, until=until))
        assert replayed == history.events[after:until]
