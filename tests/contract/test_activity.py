"""Counting: every log counts the same of the same events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings, strategies as st

from events import START, History, create, creations, delete, genesis, key, update
from evstore.keys import Key
from evstore.log.postgres import PostgresLog
from evstore.tally import Actor, Busy, Changes, Day, tally

if TYPE_CHECKING:
    from evstore.log import Log

HOUR = 3_600_000_000


async def test_an_empty_range_has_nothing(log: Log, history: History) -> None:
    await log.append(creations(history, "ab"), after=log.genesis)
    for after, until in ((2, 2), (2, 9), (0, 0), (9, 1)):
        found = await log.activity(after=after, until=until, top=3)
        assert found == tally([], top=3)


async def test_events_are_counted_by_type_actor_resource_hour_and_day(
    log: Log, history: History
) -> None:
    midnight = START - START % (24 * HOUR) + 24 * HOUR
    history.transaction(
        *(create(key(name)) for name in "ba"), actor="zoe", time=midnight - 1
    )
    history.transaction(create(key("m", "Mesh", "")), actor="Al", time=midnight)
    history.transaction(update(key("b"), {"x": 1}), actor="al", time=midnight + HOUR)
    history.transaction(delete(key("b")), actor="zoe", time=midnight + HOUR + 1)
    history.redaction(key("a"))
    await log.append(history.events, after=log.genesis)

    found = await log.activity(after=0, until=6, top=2)
    assert (found.events, found.transactions) == (6, 5)
    assert found.bytes == sum(event.size for event in history.events)
    assert list(found.types.items()) == [
        ("Dataplane", Changes(created=2, updated=1, deleted=1, redacted=1)),
        ("Mesh", Changes(created=1)),
    ]
    assert found.actors == [Actor(actor="zoe", events=3), Actor(actor="", events=1)]
    assert found.actors_count == 4
    assert found.resources == [
        Busy(key=Key.from_text(key("b")), events=3),
        Busy(key=Key.from_text(key("a")), events=2),
    ]
    assert found.resources_count == 3
    assert (found.hours[23], found.hours[0], found.hours[1]) == (2, 1, 3)
    assert sum(found.hours) == 6
    assert found.days == [
        Day(date="2023-11-14", events=2, bytes=sum(e.size for e in history.events[:2])),
        Day(date="2023-11-15", events=4, bytes=sum(e.size for e in history.events[2:])),
    ]
    part = await log.activity(after=2, until=3, top=2)
    assert (part.events, part.transactions, list(part.types)) == (1, 1, ["Mesh"])


async def test_the_disk_is_measured_where_there_is_one(
    log: Log, history: History
) -> None:
    await log.append(creations(history, "ab"), after=log.genesis)
    found = await log.storage()
    if not isinstance(log, PostgresLog):
        assert found is None  # no disk, or one that the API server does not show
        return
    assert found is not None
    assert [each.name for each in found.partitions] == ["events_0000000000000000001"]
    assert found.table_bytes > 0
    assert found.index_bytes > 0


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "a.b", "a-b"]),
        st.sampled_from(["Mesh", "Dataplane", "MeshTimeout"]),
        st.sampled_from(["", "default", "de", "d-2"]),
        st.sampled_from(["", "al", "Al", "é", "\u2028", "z" * 50]),
        st.integers(0, 40 * HOUR),
    ),
    max_size=12,
)


@given(steps=EVENTS, top=st.integers(1, 4))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_all_logs_agree(
    steps: list[tuple[str, str, str, str, int]], top: int, log: Log
) -> None:
    start = await log.head()
    history = History(log.genesis if not start.position else genesis(log.identity))
    if start.position:
        async for chunk in log.replay(after=0, until=start.position):
            history.projections.apply(chunk)
    time = max(START, start.time)
    for name, type_, mesh, actor, step in steps:
        time += step % HOUR
        target = key(name, type_, mesh)
        exists = history.projections.resources.get(target) is not None
        change = delete(target) if exists else create(target)
        history.transaction(change, actor=actor, time=time)
    if history.events:
        await log.append(history.events, after=start)
    until = start.position + len(history.events)
    found = await log.activity(after=start.position, until=until, top=top)
    assert found == tally(history.events, top=top)
