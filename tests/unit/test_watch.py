"""The tail: the newest events, for watchers that keep up, and the way for the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from events import History, create, creations, key, update
from evstore.errors import CompactedError, DivergedError
from evstore.log import MemoryLog
from evstore.model import ANY, Filter
from evstore.watching.tail import SLICE_EVENTS_MAX, TAIL_BYTES_MAX, Tail
from evstore.watching.watcher import Batch, Watcher

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evstore.bookmark import Bookmark
    from evstore.commit.changes import Change
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


def test_a_tail_forgets_the_oldest_events_beyond_its_number(history: History) -> None:
    tail = published(history, [2, 2, 2, 2], events_max=5)
    assert tail.after(3) == history.events[3:]
    assert tail.after(2) is None
    assert tail.position == 8


def test_a_tail_hands_out_no_more_than_a_slice_at_a_time(history: History) -> None:
    tail = published(history, [SLICE_EVENTS_MAX, 3, 7], events_max=10_000)
    assert tail.after(0) == history.events[:SLICE_EVENTS_MAX]
    assert tail.after(5) == history.events[5 : SLICE_EVENTS_MAX + 5]


def test_a_tail_forgets_the_oldest_events_beyond_its_bytes(
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
    assert tail.after(6) == history.events[6:]
    assert tail.after(11) == []


def test_after_a_divergence_nothing_of_before_is_known(history: History) -> None:
    tail = published(history, [2, 2], events_max=100)
    generation = tail.generation
    tail.diverge(3)
    assert tail.generation != generation
    assert tail.position == 3
    assert tail.after(2) is None
    assert tail.after(3) == []


def test_a_compaction_is_told_apart_from_a_divergence(history: History) -> None:
    tail = published(history, [2, 2], events_max=100)
    begun = tail.generation
    tail.check_unbroken(begun)
    tail.compact(9, CompactedError(oldest=8))
    with pytest.raises(CompactedError, match="begins at position 8") as told:
        tail.check_unbroken(begun)
    assert told.value.oldest == 8
    assert tail.position == 9
    compacted = tail.generation
    tail.check_unbroken(compacted)
    tail.diverge(7)
    # Who began before both has also read what may never have been.
    for generation in (begun, compacted):
        with pytest.raises(DivergedError):
            tail.check_unbroken(generation)
    diverged = tail.generation
    tail.compact(12, CompactedError(oldest=11))
    with pytest.raises(DivergedError):
        tail.check_unbroken(compacted)
    with pytest.raises(CompactedError):
        tail.check_unbroken(diverged)


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


async def test_only_those_wait_no_longer_whose_filter_lets_something_through(
    history: History,
) -> None:
    tail = Tail(0, events_max=100)
    woken: dict[str, int] = {}
    filters = {
        "any": ANY,
        "type": Filter(type="Dataplane"),
        "foreign": Filter(type="Mesh"),
        "mesh": Filter(mesh="default"),
        "name": Filter(name="b"),
        "key": Filter(type="Dataplane", mesh="default", name="b"),
        "other": Filter(type="Dataplane", mesh="other"),
    }

    async def wait(name: str) -> None:
        woken[name] = await tail.wait(filters[name])

    async with anyio.create_task_group() as tasks:
        for name in filters:
            tasks.start_soon(wait, name)
        await anyio.wait_all_tasks_blocked()
        tail.publish(creations(history, "a"))
        await anyio.wait_all_tasks_blocked()
        assert woken == dict.fromkeys(("any", "type", "mesh"), 0)
        tail.publish(creations(history, "xyz"))
        tail.publish(creations(history, "bc"))
        await anyio.wait_all_tasks_blocked()
        # Up to position 4 nothing passed.
        assert (woken["name"], woken["key"]) == (4, 4)
        assert woken.keys() & {"foreign", "other"} == set()
        tail.close()
    assert (woken["foreign"], woken["other"]) == (6, 6)


async def test_a_wait_that_times_out_has_looked_at_all_that_was_published(
    history: History,
) -> None:
    tail = Tail(0, events_max=100)
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            assert await tail.wait(Filter(type="Mesh"), seconds=0.05) == 3

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        tail.publish(creations(history, "abc"))


async def test_who_stops_waiting_leaves_nothing_behind() -> None:
    tail = Tail(0, events_max=100)
    for number in range(3):
        with anyio.move_on_after(0.001):
            await tail.wait(Filter(name=f"n{number}"))
    assert not any(waiting.calls for waiting in tail._waiting.values())


def watcher(  # noqa: PLR0913
    log: MemoryLog,
    tail: Tail,
    history: History,
    *,
    where: Filter = ANY,
    after: int | Bookmark | None = 0,
    labels: dict[str, str] | None = None,
    bookmarks: bool = False,
) -> Watcher:
    return Watcher(
        log,
        tail,
        lambda: history.projections,
        where=where,
        labels=labels or {},
        after=after,
        bookmarks=bookmarks,
    )


async def follow(
    log: MemoryLog,
    tail: Tail,
    history: History,
    *,
    count: int,
    where: Filter = ANY,
    after: int = 0,
) -> list[StoredEvent]:
    found: list[StoredEvent] = []
    one = watcher(log, tail, history, where=where, after=after)
    with anyio.fail_after(10):
        while len(found) < count and (batch := await one.following()) is not None:
            found += batch.events
    await one.aclose()
    return found[:count]


async def add(log: MemoryLog, tail: Tail, history: History, change: Change) -> None:
    place = history.head
    events = history.transaction(change)
    await log.append(events, after=place)
    tail.publish(events)


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
        found.extend(await follow(log, tail, history, count=12 - after, after=after))

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
    found = await follow(log, tail, history, count=2, where=Filter(name="b"))
    assert [event.position for event in found] == [2, 4]


async def test_a_slow_watcher_reads_from_the_log_and_misses_nothing(
    log: MemoryLog, history: History
) -> None:
    tail = Tail(0, events_max=2)
    await grow(log, tail, history, ["a"])
    one = watcher(log, tail, history)
    found = await batch_of(one)
    for number in range(10):
        await grow(log, tail, history, [f"n{number}"])
    while len(found) < 11:
        found += await batch_of(one)
    assert found == history.events


async def batch_of(one: Watcher) -> list[StoredEvent]:
    with anyio.fail_after(10):
        batch = await one.following()
    assert batch is not None
    return batch.events


async def test_a_bookmark_never_leads_events(
    log: MemoryLog, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the watcher reads from the log, the tail and the log move on."""
    # One is due at any time: no other rule holds back a wrong one.
    monkeypatch.setattr("evstore.watching.watcher.BOOKMARK_SECONDS", 0.0)
    tail = Tail(0, events_max=1)
    await grow(log, tail, history, ["a", "b"])
    barrier, reading = anyio.Event(), anyio.Event()
    read = log.read

    async def slow_read(**wanted: Any) -> AsyncGenerator[list[StoredEvent]]:
        async for chunk in read(**wanted):
            yield chunk
        reading.set()
        await barrier.wait()

    log.read = slow_read  # type: ignore[method-assign]
    one = watcher(log, tail, history, bookmarks=True)
    first = await one.following()
    assert first is not None
    assert [event.position for event in first.events] == [1, 2]
    assert first.bookmark is not None
    assert first.bookmark.position == 2
    seen: list[Batch | None] = []

    async def go_on() -> None:
        seen.append(await one.following())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(go_on)
            await reading.wait()
            await grow(log, tail, history, ["c", "d"])
            barrier.set()
            await anyio.wait_all_tasks_blocked()
    (second,) = seen
    assert second is not None
    # Not the head as it is by now, but what was looked at, with its events.
    assert second.bookmark is not None
    assert [event.position for event in second.events] == [3, 4]
    assert second.bookmark.position == 4


async def test_a_bookmark_comes_now_and_then_where_nothing_passes(
    log: MemoryLog, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evstore.watching.watcher.BOOKMARK_SECONDS", 0.05)
    tail = Tail(0, events_max=100)
    one = watcher(log, tail, history, where=Filter(type="Mesh"), bookmarks=True)
    places: list[int] = []

    async def watching() -> None:
        while batch := await one.following():
            assert not batch.events
            assert batch.bookmark is not None
            places.append(batch.bookmark.position)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watching)
            for number in range(20):
                await grow(log, tail, history, [f"a{number}"])
            while not places:  # noqa: ASYNC110 - a timer of the watcher's own
                await anyio.sleep(0.01)
            await anyio.sleep(0.15)
            # Nothing more happened: nothing more is told.
            assert places == [20]
            tail.close()


async def test_the_bookmark_behind_what_exists_covers_nothing_that_follows(
    log: MemoryLog, history: History
) -> None:
    """While the state is searched for labels, the log moves on."""
    tail, red = Tail(0, events_max=100), {"team": "red"}
    await add(log, tail, history, create(key("a"), labels=red))
    one = watcher(log, tail, history, after=None, labels=red, bookmarks=True)
    found: list[StoredEvent | Bookmark] = []

    async def watching() -> None:
        while len(found) < 4 and (batch := await one.following()):
            found.extend(batch.events)
            if batch.bookmark:
                found.append(batch.bookmark)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watching)
            await anyio.lowlevel.checkpoint()
            await add(log, tail, history, create(key("b"), labels=red))
    assert [each.position for each in found] == [1, 1, 2, 2]


async def test_no_bookmark_is_inside_a_transaction(
    log: MemoryLog, history: History
) -> None:
    tail = Tail(0, events_max=10_000)
    await grow(log, tail, history, [f"n{n}" for n in range(SLICE_EVENTS_MAX + 20)])
    one = watcher(log, tail, history, bookmarks=True)
    first, second = await one.following(), await one.following()
    assert first is not None
    assert second is not None
    assert (len(first.events), first.bookmark) == (SLICE_EVENTS_MAX, None)
    assert second.bookmark is not None
    assert second.bookmark.position == SLICE_EVENTS_MAX + 20


@pytest.mark.parametrize("after", [0, 2])
async def test_a_watch_of_a_log_that_lost_its_end_diverges(
    log: MemoryLog, history: History, after: int
) -> None:
    tail = Tail(0, events_max=100)
    await grow(log, tail, history, ["a", "b"])
    failed = anyio.Event()

    async def watching() -> None:
        with pytest.raises(DivergedError):
            await follow(log, tail, history, count=10, after=after)
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
        found.extend(await follow(log, tail, history, count=10))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watching)
        await anyio.wait_all_tasks_blocked()
        tail.close()
    assert found == history.events
