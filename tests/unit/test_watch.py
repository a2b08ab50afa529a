"""The tail: the newest events, for watchers that keep up, and the way for the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from events import History, create, creations, key, update
from evstore.errors import DivergedError
from evstore.log import MemoryLog
from evstore.model import ANY, Filter
from evstore.watch import TAIL_BYTES_MAX, Tail, watch

if TYPE_CHECKING:
    from evstore.model import StoredEvent


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def history(log: MemoryLog) -> History:
    return History(log.genesis)


def published(history: History, sizes: list[int], *, events_max: int) -> Tail:
    """Return a tail to which transactions of these sizes were published."""
    tail = Tail(0, events_max=events_max)
    for number, size in enumerate(sizes):
        names = [f"t{number}-{index}" for index in range(size)]
        tail.publish(creations(history, names))
    return tail


def test_a_tail_gives_what_follows_any_position(history: History) -> None:
    tail = published(history, [1, 3, 2], events_max=100)
    assert tail.position == 6
    for position in range(8):
        assert tail.after(position) == history.events[position:]


def test_a_tail_that_began_later_does_not_know(history: History) -> None:
    creations(history, "abc")
    tail = Tail(3, events_max=100)
    assert tail.after(3) == []
    assert tail.after(2) is None
    tail.publish(creations(history, "de"))
    assert tail.after(0) is None
    assert tail.after(2) is None
    assert tail.after(3) == history.events[3:]
    assert tail.after(4) == history.events[4:]
    assert tail.after(5) == []


def test_a_tail_forgets_the_oldest_transactions_beyond_its_events(
    history: History,
) -> None:
    tail = published(history, [2, 2, 2, 2], events_max=5)
    assert tail.after(4) == history.events[4:]
    assert tail.after(3) is None
    assert tail.position == 8


def test_a_tail_forgets_the_oldest_transactions_beyond_its_bytes(
    history: History,
) -> None:
    tail = Tail(0, events_max=10_000)
    blob = "x" * (TAIL_BYTES_MAX // 4)
    for number in range(6):
        tail.publish(history.transaction(create(key(f"n{number}"), {"blob": blob})))
    kept = tail.after(3)
    assert kept == history.events[3:]
    assert tail.after(2) is None
    assert sum(event.size for event in kept) <= TAIL_BYTES_MAX


def test_a_transaction_larger_than_the_tail_is_read_from_the_log(
    history: History,
) -> None:
    tail = published(history, [1, 10], events_max=5)
    assert tail.position == 11
    assert tail.after(1) is None
    assert tail.after(11) == []


def test_after_a_divergence_nothing_of_before_is_known(history: History) -> None:
    tail = published(history, [2, 2], events_max=100)
    generation = tail.generation
    tail.diverge(3)
    assert tail.generation != generation
    assert tail.position == 3
    assert tail.after(2) is None
    assert tail.after(3) == []


async def test_what_is_published_wakes_all_who_wait(history: History) -> None:
    tail = Tail(0, events_max=100)
    woken = []

    async def wait(number: int) -> None:
        await tail.changed()
        woken.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(wait, number)
        await anyio.wait_all_tasks_blocked()
        assert woken == []
        tail.publish(creations(history, "a"))
    assert sorted(woken) == [0, 1, 2]


async def follow(
    log: MemoryLog,
    tail: Tail,
    *,
    count: int,
    where: Filter = ANY,
    after: int = 0,
) -> list[StoredEvent]:
    found: list[StoredEvent] = []
    with anyio.fail_after(10):
        async for event in watch(
            log, tail, where=where, after=after, generation=tail.generation
        ):
            found.append(event)
            if len(found) == count:
                break
    return found


async def grow(
    log: MemoryLog, tail: Tail, history: History, names: list[str]
) -> list[StoredEvent]:
    place = history.head
    events = creations(history, names)
    await log.append(events, after=place)
    tail.publish(events)
    return events


@pytest.mark.parametrize("events_max", [1, 3, 100])
@pytest.mark.parametrize("after", [0, 1, 4, 7])
async def test_a_watch_yields_each_event_once_from_log_and_tail(
    log: MemoryLog, history: History, events_max: int, after: int
) -> None:
    tail = Tail(0, events_max=events_max)
    for number in range(4):
        await grow(log, tail, history, [f"a{number}", f"b{number}"])
    found: list[StoredEvent] = []

    async def watching() -> None:
        found.extend(await follow(log, tail, count=12 - after, after=after))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watching)
        await anyio.wait_all_tasks_blocked()
        await grow(log, tail, history, ["x", "y"])
        await anyio.wait_all_tasks_blocked()
        await grow(log, tail, history, ["z", "zz"])
    assert found == history.events[after:]


@pytest.mark.parametrize("events_max", [1, 100])
async def test_a_watch_filters(
    log: MemoryLog, history: History, events_max: int
) -> None:
    tail = Tail(0, events_max=events_max)
    await grow(log, tail, history, ["a", "b", "c"])
    place = history.head
    events = history.transaction(update(key("b"), {"n": 1}))
    await log.append(events, after=place)
    tail.publish(events)
    found = await follow(log, tail, count=2, where=Filter(name="b"))
    assert [event.position for event in found] == [2, 4]


async def test_a_slow_watcher_reads_from_the_log_and_misses_nothing(
    log: MemoryLog, history: History
) -> None:
    tail = Tail(0, events_max=2)
    await grow(log, tail, history, ["a"])
    watching = watch(log, tail, where=ANY, after=0, generation=tail.generation)
    found = [await anext(watching)]
    for number in range(10):
        await grow(log, tail, history, [f"n{number}"])
    async for event in watching:
        found.append(event)
        if event.position == 11:
            break
    assert found == history.events


@pytest.mark.parametrize("after", [0, 2])
async def test_a_watch_of_a_log_that_lost_its_end_diverges(
    log: MemoryLog, history: History, after: int
) -> None:
    tail = Tail(0, events_max=100)
    await grow(log, tail, history, ["a", "b"])
    failed = anyio.Event()

    async def watching() -> None:
        with pytest.raises(DivergedError):
            await follow(log, tail, count=10, after=after)
        failed.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watching)
        await anyio.wait_all_tasks_blocked()
        tail.diverge(1)
    assert failed.is_set()


async def test_a_closed_tail_ends_the_watches_after_its_last_event(
    log: MemoryLog, history: History
) -> None:
    tail = Tail(0, events_max=100)
    await grow(log, tail, history, ["a", "b"])
    found: list[StoredEvent] = []

    async def watching() -> None:
        found.extend(await follow(log, tail, count=10))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watching)
        await anyio.wait_all_tasks_blocked()
        tail.close()
    assert found == history.events
