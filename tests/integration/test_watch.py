"""Watching: every event once, in order, from wherever one begins."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import pytest

import evstore
from evstore import Bookmark, Event, Key
from evstore.errors import DivergedError, InvalidError
from fault.history import limited, until
from integration.conftest import Backend

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evstore import Store


async def fill(store: Store, count: int = 5, prefix: str = "zone") -> None:
    for number in range(count):
        await store.create("Zone", f"{prefix}-{number}", spec={"n": number})


async def take(store: Store, count: int, **where: Any) -> list[Event]:
    events: list[Event] = []
    with anyio.fail_after(10):
        async for event in store.watch(**where):
            events.append(event)
            if len(events) == count:
                break
    return events


@asynccontextmanager
async def watching(store: Store, **where: Any) -> AsyncGenerator[list[Event]]:
    """Watch beside the body, from the call on."""
    events: list[Event] = []
    watcher = store.watch(**where)

    async def collect() -> None:
        async for event in watcher:
            events.append(event)  # noqa: PERF401 - others look at it meanwhile

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect)
        yield events
        tasks.cancel_scope.cancel()


def positions(events: list[Event]) -> list[int]:
    return [event.position for event in events]


async def test_after_0_is_from_the_first_event_on(store: Store) -> None:
    await fill(store)
    async with watching(store, after=0) as events:
        await until(lambda: len(events) == 5)
        await store.create("Mesh", "default", spec={}, actor="alice", reason="why")
        await until(lambda: len(events) == 6)
        assert positions(events) == [1, 2, 3, 4, 5, 6]
        last = events[-1]
        assert (last.operation, last.name, last.actor, last.reason) == (
            *("created", "default"),
            *("alice", "why"),
        )


async def test_without_a_position_it_is_from_now_on(store: Store) -> None:
    await fill(store)
    async with watching(store) as events:
        # Not from when the watcher first gets to run, but from the call.
        await store.create("Zone", "west", spec={})
        await until(lambda: bool(events))
        assert positions(events) == [6]


async def test_after_a_listing_nothing_is_missed_and_nothing_is_doubled(
    store: Store, other: Store
) -> None:
    await fill(other)
    page = await store.list("Zone", consistent=True)
    await fill(other, prefix="later")
    events = await take(store, 5, after=page.position)
    assert [event.name for event in events] == [f"later-{n}" for n in range(5)]


async def test_after_a_position_inside_a_transaction_the_rest_of_it_comes(
    store: Store,
) -> None:
    async with store.transaction() as tx:
        for number in range(4):
            tx.create("Zone", f"zone-{number}", spec={})
    await store.create("Zone", "west", spec={})
    assert positions(await take(store, 3, after=2)) == [3, 4, 5]


async def test_a_transaction_comes_whole(store: Store, other: Store) -> None:
    seen: list[tuple[int, int]] = []
    async with watching(store, after=0) as events:
        for size in (3, 1, 7):
            async with other.transaction() as tx:
                for number in range(size):
                    tx.create("Zone", f"zone-{size}-{number}", spec={})
        await until(lambda: len(events) == 11)
        seen = [(event.position, event.commit) for event in events]
    assert [commit for _, commit in seen] == [3] * 3 + [4] + [11] * 7


async def test_a_watch_is_resumed_where_it_ended(store: Store, other: Store) -> None:
    await fill(store)
    first = await take(store, 3, after=0)
    await fill(other, prefix="later")
    second = await take(store, 7, after=first[-1].position)
    assert positions([*first, *second]) == list(range(1, 11))


async def test_a_watch_is_resumed_after_a_restart(backend: Backend) -> None:
    async with backend.open() as store:
        await fill(store)
        first = await take(store, 3, after=0)
    async with backend.open() as store:
        second = await take(store, 2, after=first[-1].position)
    assert positions([*first, *second]) == [1, 2, 3, 4, 5]


async def test_only_what_is_asked_for_comes(store: Store, other: Store) -> None:
    async with (
        watching(store, type="Dataplane", mesh="a") as typed,
        watching(store, name="web") as named,
        watching(store, type="Dataplane", mesh="a", name="web", after=0) as one,
    ):
        for each, mesh in ((store, "a"), (other, "b")):
            for name in ("web", "api"):
                await each.create("Dataplane", name, mesh=mesh, spec={})
        await store.create("Service", "web", mesh="a", spec={})
        await other.delete("Dataplane", "web", mesh="a")
        await until(lambda: len(typed) == 3 and len(named) == 4 and len(one) == 2)
        assert [event.name for event in typed] == ["web", "api", "web"]
        assert {event.name for event in named} == {"web"}
        assert [event.operation for event in one] == ["created", "deleted"]


async def test_events_of_another_instance_come(store: Store, other: Store) -> None:
    async with watching(store, after=0) as events, watching(other, after=0) as same:
        await fill(store, prefix="a")
        await fill(other, prefix="b")
        await until(lambda: len(events) == len(same) == 10)
        assert events == same
        assert positions(events) == list(range(1, 11))


async def test_a_slow_watcher_falls_out_of_the_tail_and_loses_nothing(
    backend: Backend,
) -> None:
    small = Backend(backend.name, limited(backend.config, tail_events_max=10))
    async with small.open() as store:
        seen: list[int] = []
        async with anyio.create_task_group() as tasks:
            watcher = store.watch(after=0)
            await store.create("Mesh", "default", spec={})
            seen.append((await anext(watcher)).position)
            # It looks away while far more is appended than the tail holds.
            await fill(store, 100)
            assert store._tail.after(1) is None

            async def write() -> None:
                await fill(store, 100, prefix="more")

            tasks.start_soon(write)
            async for event in watcher:
                seen.append(event.position)
                if len(seen) % 20 == 0:
                    await anyio.sleep(0.001)
                if len(seen) == 201:
                    break
    assert seen == list(range(1, 202))


async def test_one_slow_watcher_delays_nobody(store: Store) -> None:
    slow = store.watch(after=0)
    async with watching(store, after=0) as events:
        await store.create("Mesh", "default", spec={})
        assert (await anext(slow)).position == 1
        await fill(store, 50)
        await until(lambda: len(events) == 51)


async def test_changing_what_an_event_holds_changes_nobody_elses(
    store: Store,
) -> None:
    await store.create("Zone", "west", spec={"n": {"deep": 1}})
    (first,) = await take(store, 1, after=0)
    first.spec["n"]["deep"] = 2
    (second,) = await take(store, 1, after=0)
    assert second.spec == {"n": {"deep": 1}}
    assert (await store.get("Zone", "west")).spec == {"n": {"deep": 1}}


async def test_a_deleted_event_has_no_spec(store: Store) -> None:
    await store.create("Zone", "west", spec={"n": 1}, labels={"a": "b"})
    await store.delete("Zone", "west")
    _, deleted = await take(store, 2, after=0)
    assert (deleted.operation, deleted.spec) == ("deleted", None)
    assert deleted.key == Key(type="Zone", name="west")


@pytest.mark.parametrize("after", [-1, 6, 2**63 - 1])
async def test_what_is_no_position_is_invalid(store: Store, after: int) -> None:
    await fill(store)
    with pytest.raises(InvalidError, match="after"):
        await take(store, 1, after=after)


async def test_a_watcher_ends_with_its_store(backend: Backend) -> None:
    async with anyio.create_task_group() as tasks:
        ended = anyio.Event()
        seen: list[int] = []

        async def watch(store: Store) -> None:
            async for event in store.watch(after=0):
                seen.append(event.position)  # noqa: PERF401 - as above
            ended.set()

        async with backend.open() as store:
            tasks.start_soon(watch, store)
            await fill(store)
            await until(lambda: len(seen) == 5)
        with anyio.fail_after(5):
            await ended.wait()
    assert seen == [1, 2, 3, 4, 5]


async def items(store: Store, count: int, **where: Any) -> list[Event | Bookmark]:
    """Return the first events and bookmarks of a watch."""
    with anyio.fail_after(10):
        watch = store.watch(**where)
        found = [await anext(watch) for _ in range(count)]
        await watch.aclose()
    return found


async def test_what_exists_comes_first_then_a_bookmark_then_what_follows(
    store: Store,
) -> None:
    await fill(store, 3)
    zone = await store.get("Zone", "zone-0")
    await store.update(zone, spec={"n": 9}, actor="alice", reason="why")
    await store.delete("Zone", "zone-1")
    watch = store.watch(initial=True)
    with anyio.fail_after(10):
        first, second, bookmark = [await anext(watch) for _ in range(3)]
        await store.create("Zone", "later", spec={})
        later = await anext(watch)
    await watch.aclose()
    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert isinstance(later, Event)
    assert (first.position, first.name, first.spec) == (3, "zone-2", {"n": 2})
    assert (second.position, second.actor, second.reason) == (4, "alice", "why")
    assert bookmark == Bookmark(
        log=store.identity,
        position=5,
        hash=[event async for event in store.events()][4].hash,
    )
    assert later.position == 6


async def test_where_nothing_exists_the_bookmark_comes_at_once(store: Store) -> None:
    (bookmark,) = await items(store, 1, initial=True)
    assert isinstance(bookmark, Bookmark)
    assert bookmark.position == 0
    await fill(store, 2)
    (event,) = await items(store, 1, after=bookmark)
    assert isinstance(event, Event)
    assert event.position == 1


async def test_what_exists_comes_in_several_pieces_as_of_one_position(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evstore.watching.watcher.INITIAL_EVENTS_MAX", 7)
    async with backend.open() as store:
        await fill(store, 40)
        watch = store.watch(initial=True)
        with anyio.fail_after(10):
            found = [await anext(watch) for _ in range(10)]
            # Changes of what has not been yielded yet come behind the bookmark.
            for number in range(40):
                await store.update(Key(type="Zone", name=f"zone-{number}"), spec={})
            found += [await anext(watch) for _ in range(71)]
        await watch.aclose()
    places = [each.position for each in found]
    assert places == [*range(1, 41), 40, *range(41, 81)]
    assert isinstance(found[40], Bookmark)


async def test_a_watch_goes_on_from_a_bookmark_of_another_instance(
    store: Store, other: Store
) -> None:
    await fill(other)
    *_, last = await take(other, 5, after=0)
    await fill(other, 2, prefix="later")
    # Also where this instance has not got there yet.
    events = await take(store, 2, after=Bookmark.parse(str(last.bookmark)))
    assert [event.name for event in events] == ["later-0", "later-1"]


async def test_a_bookmark_of_another_log_diverges(store: Store) -> None:
    await fill(store)
    foreign = Bookmark(log=UUID(int=1), position=1, hash=bytes(32))
    with pytest.raises(DivergedError, match="another one"):
        await items(store, 1, after=foreign)


@pytest.mark.parametrize(("position", "text"), [(3, "another event"), (6, "has not")])
async def test_a_bookmark_of_what_is_not_in_the_log_diverges(
    store: Store, position: int, text: str
) -> None:
    await fill(store)
    lost = Bookmark(log=store.identity, position=position, hash=bytes(32))
    with pytest.raises(DivergedError, match=text):
        await items(store, 1, after=lost)


async def test_a_resource_is_seen_to_come_and_to_leave_by_its_labels(
    store: Store, other: Store
) -> None:
    red, blue = {"team": "red", "x": "1"}, {"team": "blue"}
    zone = await store.create("Zone", "a", spec={}, labels=blue)
    async with watching(store, labels={"team": "red"}) as events:
        zone = await store.update(zone, labels=red)
        zone = await store.update(zone, spec={"n": 1})
        zone = await store.update(zone, labels=blue)
        zone = await store.update(zone, spec={"n": 2})
        zone = await store.update(zone, labels=red)
        await store.delete("Zone", "a")
        await other.create("Zone", "b", spec={}, labels=red)
        await until(lambda: len(events) == 6)
        assert positions(events) == [2, 3, 4, 6, 7, 8]
    for after in range(8):
        expected = [each for each in (2, 3, 4, 6, 7, 8) if each > after]
        found = await take(store, len(expected), labels={"team": "red"}, after=after)
        assert positions(found)[: len(expected)] == expected


async def test_a_resource_leaves_by_the_redaction_of_its_labels() -> None:
    red = {"team": "red"}
    async with evstore.open() as store:
        await store.create("Zone", "a", spec={}, labels={"x": "1"} | red)
        zone = await store.create("Zone", "b", spec={}, labels={"x": "1"} | red)
        async with watching(store, labels=red, after=0) as events:
            await until(lambda: len(events) == 2)
            how = {"type": "Zone", "reason": "it tells too much"}
            await store.redact(**how, name="a", version=1, fields=["labels.x"])
            await store.redact(**how, name="b", version=2, fields=["labels.team"])
            await store.update(zone, spec={"n": 1})
            await store.delete("Zone", "a")
            await store.delete("Zone", "b")
            await until(lambda: store.position == events[-1].position + 1)
            await anyio.wait_all_tasks_blocked()
            assert positions(events) == [1, 2, 3, 4, 6]
        # As for those who begin behind it.
        assert positions(await take(store, 1, labels=red, after=4)) == [6]


async def test_what_exists_and_a_position_do_not_go_together(store: Store) -> None:
    with pytest.raises(InvalidError, match="initial"):
        store.watch(initial=True, after=0)


async def test_a_thousand_watchers_all_see_everything(store: Store) -> None:
    seen = [0] * 1_000

    async def follow(number: int) -> None:
        async for event in store.watch(type="Zone", after=0):
            seen[number] += event.position

    async with anyio.create_task_group() as tasks:
        for number in range(len(seen)):
            tasks.start_soon(follow, number)
        await fill(store, 10)
        await store.create("Mesh", "foreign", spec={})
        await until(lambda: set(seen) == {55}, seconds=30)
        tasks.cancel_scope.cancel()
