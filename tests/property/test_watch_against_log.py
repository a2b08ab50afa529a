"""Watches against the log: any history, start, pace, cut and resume give its sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from hypothesis import given, settings, strategies as st

import evstore
from evstore import Bookmark, Event, Operation
from evstore.config import Config
from fault.history import limited

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evstore import Store

TYPES = ("Dataplane", "Zone")
MESHES = ("", "a")
NAMES = ("x", "y", "z")
LABELS = ({}, {"team": "red"}, {"team": "blue"}, {"team": "red", "env": "prod"})

keys = st.tuples(
    st.sampled_from(TYPES), st.sampled_from(MESHES), st.sampled_from(NAMES)
)
changes = st.tuples(keys, st.sampled_from([*range(len(LABELS)), None]))
writes = st.tuples(st.just("write"), st.lists(changes, min_size=1, max_size=4))
pulls = st.tuples(st.just("pull"), st.integers(1, 12))
resumes = st.tuples(
    st.just("resume"), st.sampled_from(["bookmark", "event", "position"])
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(TYPES),
        "mesh": st.sampled_from(MESHES),
        "name": st.sampled_from(NAMES),
        "labels": st.sampled_from(LABELS),
    },
)


async def write(store: Store, wanted: list[tuple[Any, int | None]]) -> None:
    """Make one transaction of what is possible: create, update or delete."""
    present = set()
    for type_ in TYPES:
        present |= {each.key for each in (await store.list(type_)).items}
    async with store.transaction() as tx:
        for number, ((type_, mesh, name), labels) in enumerate(wanted):
            key = evstore.Key(type=type_, mesh=mesh, name=name)
            if labels is None:
                if key in present:
                    tx.delete(type_, name, mesh=mesh)
                    present.discard(key)
            elif key in present:
                tx.update(
                    key, spec={"n": store.position, "o": number}, labels=LABELS[labels]
                )
            else:
                tx.create(type_, name, mesh=mesh, spec={}, labels=LABELS[labels])
                present.add(key)


def passing(events: list[Event], where: dict[str, Any]) -> list[Event]:
    """Return what a watch from the first event on has to yield."""
    wanted = where.get("labels", {}).items()
    had: dict[evstore.Key, bool] = {}
    found = []
    for event in events:
        before = had.get(event.key, False)
        after = (
            event.operation is not Operation.DELETED and wanted <= event.labels.items()
        )
        had[event.key] = after
        plain = (
            where.get(part, getattr(event, part)) == getattr(event, part)
            for part in ("type", "mesh", "name")
        )
        if all(plain) and (before or after or not wanted):
            found.append(event)
    return found


class Consumer:
    """Pulls at its own pace, and knows at each moment what there is to pull."""

    def __init__(self, store: Store, where: dict[str, Any], after: int) -> None:
        self.store = store
        self.where = where
        self.got: list[Event] = []
        self.begin = after
        self.covered = after
        self.bookmark: Bookmark | None = None
        self.watch = self.begin_at(after)

    def begin_at(self, after: int | Bookmark) -> AsyncGenerator[Event | Bookmark]:
        return self.store.watch(**self.where, after=after, bookmarks=True)

    async def expected(self) -> list[Event]:
        events = [event async for event in self.store.events()]
        return [e for e in passing(events, self.where) if e.position > self.begin]

    async def pull(self, count: int) -> None:
        left = min(count, len(await self.expected()) - len(self.got))
        while left > 0:
            with anyio.fail_after(5):
                item = await anext(self.watch)
            if isinstance(item, Event):
                self.got.append(item)
                left -= 1
            else:
                await self.check(item)

    async def check(self, bookmark: Bookmark) -> None:
        due = [e for e in await self.expected() if e.position <= bookmark.position]
        assert self.got == due, "a bookmark leads or lags its events"
        events = [event async for event in self.store.events()]
        place = events[bookmark.position - 1]
        assert place.commit == bookmark.position, "a bookmark inside a transaction"
        assert (place.hash, bookmark.log) == (bookmark.hash, self.store.identity)
        assert bookmark.position > self.covered
        self.covered = bookmark.position
        self.bookmark = bookmark

    async def resume(self, how: str) -> None:
        await self.watch.aclose()
        after: int | Bookmark = self.begin
        if how == "bookmark" and self.bookmark is not None:
            # What came after it comes again.
            after = Bookmark.parse(str(self.bookmark))
            self.got = [e for e in self.got if e.position <= after.position]
        elif self.got:
            last = self.got[-1]
            after = last.bookmark if how == "event" else last.position
        elif self.bookmark is not None:
            after = self.bookmark
        self.covered = after if isinstance(after, int) else after.position
        self.watch = self.begin_at(after)


@given(
    before=st.lists(writes, max_size=6),
    steps=st.lists(st.one_of(writes, writes, pulls, resumes), max_size=20),
    where=filters,
    start=st.integers(0, 30),
    tail=st.integers(1, 8),
)
@settings(max_examples=150)
async def test_pieces_of_a_watch_together_are_the_filtered_log(
    before: list[Any], steps: list[Any], where: dict[str, Any], start: int, tail: int
) -> None:
    async with evstore.open(limited(Config(), tail_events_max=tail)) as store:
        for _, wanted in before:
            await write(store, wanted)
        consumer = Consumer(store, where, min(start, store.position))
        for kind, what in steps:
            match kind:
                case "write":
                    await write(store, what)
                case "pull":
                    await consumer.pull(what)
                case _:
                    await consumer.resume(what)
        await consumer.pull(10_000)
        assert consumer.got == await consumer.expected()
        await consumer.watch.aclose()


@given(
    history=st.lists(writes, min_size=1, max_size=10),
    where=filters,
    tail=st.integers(1, 8),
)
@settings(max_examples=50)
async def test_live_and_resumed_at_each_position_are_the_same(
    history: list[Any], where: dict[str, Any], tail: int
) -> None:
    async with evstore.open(limited(Config(), tail_events_max=tail)) as store:
        live: list[Event] = []

        async def follow() -> None:
            async for event in store.watch(**where, after=0):
                live.append(event)  # noqa: PERF401 - it is looked at meanwhile

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            for _, wanted in history:
                await write(store, wanted)
                await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        events = [event async for event in store.events()]
        assert live == passing(events, where)
        for event in [None, *events]:
            position = event.position if event else 0
            rest = [each for each in live if each.position > position]
            watch = store.watch(**where, after=event.bookmark if event else 0)
            with anyio.fail_after(5):
                assert [await anext(watch) for _ in rest] == rest
            await watch.aclose()


@given(
    before=st.lists(writes, max_size=8),
    meanwhile=st.lists(writes, max_size=4),
    where=filters,
    tail=st.integers(1, 8),
    pause=st.integers(0, 5),
)
@settings(max_examples=100)
async def test_what_exists_then_a_bookmark_then_what_follows(
    before: list[Any],
    meanwhile: list[Any],
    where: dict[str, Any],
    tail: int,
    pause: int,
) -> None:
    async with evstore.open(limited(Config(), tail_events_max=tail)) as store:
        for _, wanted in before:
            await write(store, wanted)
        watch = store.watch(**where, initial=True)
        place = store.position
        events = [event async for event in store.events()]
        last = {event.key: event for event in events}
        exists = [e for e in last.values() if e.operation is not Operation.DELETED]
        exists = sorted(passing(exists, where), key=lambda event: event.position)
        expected: list[Event | Bookmark] = list(exists)
        got = []
        with anyio.fail_after(10):
            got += [await anext(watch) for _ in exists[: pause + 1]]
            if not got:
                got.append(await anext(watch))
            for _, wanted in meanwhile:
                await write(store, wanted)
            events = [event async for event in store.events()]
            hashes = [events[place - 1].hash if place else store._log.genesis.hash]
            expected.append(
                Bookmark(log=store.identity, position=place, hash=hashes[0])
            )
            expected += [e for e in passing(events, where) if e.position > place]
            got += [await anext(watch) for _ in expected[len(got) :]]
        assert got == expected
        await watch.aclose()
