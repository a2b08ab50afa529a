"""Watching: every event once, in order, from wherever one begins."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from evstore import Key
from evstore.errors import InvalidError
from fault.history import limited, until
from integration.conftest import Backend

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evstore import Event, Store


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
            assert store._committer._tail.after(1) is None

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
