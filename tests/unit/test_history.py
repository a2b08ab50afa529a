"""The past: resources as they were, from the log alone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from events import START, History, create, delete, key, update
from evstore.clock import to_datetime
from evstore.errors import InvalidError, NotFoundError
from evstore.folds.resources import record_of
from evstore.log import MemoryLog
from evstore.model import Filter, Key
from evstore.past.history import resolve, resource_at, resources_at

if TYPE_CHECKING:
    from evstore.commit.changes import Change
    from evstore.model import StoredEvent

A = Key(type="Dataplane", mesh="default", name="a")


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def history(log: MemoryLog) -> History:
    return History(log.genesis)


async def append(log: MemoryLog, history: History) -> list[StoredEvent]:
    head = await log.head()
    await log.append(history.events[head.position :], after=head)
    return history.events


def test_an_event_alone_tells_the_whole_resource(history: History) -> None:
    """The same as the fold of all before it would."""
    steps: list[Change] = [
        create(A.text, {"n": 0}, labels={"l": "1"}),
        update(A.text, {"n": 1}),
        delete(A.text),
        create(A.text, {"n": 2}),
        update(A.text, {"n": 3}),
    ]
    for step in steps:
        (event,) = history.transaction(step)
        assert record_of(event) == history.projections.resources.get(A.text)


def test_an_event_inside_a_transaction_tells_its_incarnation(history: History) -> None:
    events = history.transaction(
        create(A.text), update(A.text, {"n": 1}), delete(A.text), create(A.text)
    )
    records = [record_of(event) for event in events]
    assert [record and record.created_version for record in records] == [1, 1, None, 4]
    assert records[-1] == history.projections.resources.get(A.text)


async def test_a_position_inside_a_transaction_means_the_whole_of_it(
    log: MemoryLog, history: History
) -> None:
    history.transaction(create(A.text), create(key("b")), create(key("c")))
    history.transaction(create(key("d")))
    await append(log, history)
    found = [await resolve(log, at) for at in range(5)]
    assert [head.position for head in found] == [0, 3, 3, 3, 4]
    assert found[1] == found[3] == await log.place(3)


@pytest.mark.parametrize("at", [1, 10, 2**63, 2**70])
async def test_a_position_beyond_the_head_is_refused_and_names_the_head(
    log: MemoryLog, history: History, at: int
) -> None:
    with pytest.raises(InvalidError, match="0") as caught:
        await resolve(log, at)
    assert caught.value.path == "at"
    history.transaction(create(A.text))
    await append(log, history)
    with pytest.raises(InvalidError, match="which is 1"):
        await resolve(log, at + 1)


@pytest.mark.parametrize("at", [-1, True, False])
async def test_what_is_no_position_is_refused(log: MemoryLog, at: int) -> None:
    with pytest.raises(InvalidError) as caught:
        await resolve(log, at)
    assert caught.value.path == "at"


async def test_a_time_means_the_last_transaction_not_after_it(
    log: MemoryLog, history: History
) -> None:
    history.transaction(create(A.text), create(key("b")), time=START)
    history.transaction(create(key("c")), time=START + 10)
    await append(log, history)
    moments = [START - 1, START, START + 9, START + 10, START + 11]
    found = [await resolve(log, to_datetime(each)) for each in moments]
    assert [head.position for head in found] == [0, 2, 2, 3, 3]


async def test_a_time_in_the_future_is_refused(log: MemoryLog) -> None:
    soon = to_datetime(log.clock()) + timedelta(hours=1)
    with pytest.raises(InvalidError, match="future"):
        await resolve(log, soon)


async def test_a_time_without_a_zone_is_refused(log: MemoryLog) -> None:
    naive = to_datetime(START).replace(tzinfo=None)
    with pytest.raises(InvalidError, match="time zone") as caught:
        await resolve(log, naive)
    assert caught.value.path == "at"


async def test_one_resource_is_had_as_it_was(log: MemoryLog, history: History) -> None:
    history.transaction(create(A.text, {"n": 0}))
    history.transaction(create(key("b")))
    history.transaction(update(A.text, {"n": 1}))
    history.transaction(delete(A.text))
    await append(log, history)
    assert [(await resource_at(log, A, at)).version for at in (1, 2, 3)] == [1, 1, 3]
    for at in (0, 4):
        with pytest.raises(NotFoundError, match=f"position {at}") as caught:
            await resource_at(log, A, at)
        assert caught.value.key == A


async def test_all_of_a_filter_are_had_as_they_were_by_name_then_mesh(
    log: MemoryLog, history: History
) -> None:
    places = [("b", "m"), ("a", "m"), ("a", ""), ("a.b", "m"), ("b", "")]
    history.transaction(*(create(key(name, "Zone", mesh)) for name, mesh in places))
    history.transaction(delete(key("a", "Zone", "m")), create(key("z", "Mesh", "")))
    events = await append(log, history)

    async def listed(position: int, mesh: str | None = None) -> list[tuple[str, str]]:
        where = Filter(type="Zone", mesh=mesh)
        records = await resources_at(log, where, position)
        return [
            (name, its_mesh)
            for _, its_mesh, name in (record.key.split("/") for record in records)
        ]

    assert await listed(5) == sorted(places)
    assert await listed(len(events)) == sorted(set(places) - {("a", "m")})
    assert await listed(5, "") == [("a", ""), ("b", "")]
    assert await listed(0) == []
