"""Projections of one's own against the log: a view is a fold over its events."""

from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

import evstore
from evstore.config import Config
from evstore.errors import SchemaError, UnavailableError
from evstore.folds.custom import CustomProjections
from evstore.folds.projections import Projections
from evstore.log import MemoryLog
from evstore.model import Event
from evstore.testing import check_projection
from fault.history import limited, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evstore import Projection, Store
    from evstore.model import StoredEvent

NAMES = ("x", "y", "z")

changes = st.tuples(st.sampled_from(NAMES), st.integers(0, 9) | st.none())
writes = st.tuples(
    st.just("write"), st.booleans(), st.lists(changes, min_size=1, max_size=4)
)
redactions = st.tuples(st.just("redact"), st.booleans(), st.integers(0, 30))
looks = st.tuples(st.just("look"), st.booleans(), st.none())
histories = st.lists(st.one_of(writes, writes, redactions, looks), max_size=16)


class Values(evstore.Projection[dict[str, list[str]]]):
    """Every value that a resource ever had; changed in place."""

    name = "values"

    def initial(self) -> dict[str, list[str]]:
        return {}

    def fold(self, state: dict[str, list[str]], event: Event) -> dict[str, list[str]]:
        seen = state.setdefault(event.name, [])
        if event.operation != "redacted":
            seen.append(str(event.spec and event.spec["value"]))
        return state


class Counts(msgspec.Struct, frozen=True):
    operations: dict[str, int] = {}
    open_transaction: int = 0


class Operations(evstore.Projection[Counts]):
    """How many events of each kind; a new state for each of them."""

    name = "operations"

    def initial(self) -> Counts:
        return Counts()

    def fold(self, state: Counts, event: Event) -> Counts:
        kind = event.operation.value
        operations = {**state.operations, kind: state.operations.get(kind, 0) + 1}
        return Counts(operations, event.commit - event.position)


class Touchy(Values):
    """One that cannot take a certain value, and says so when it is half done."""

    name = "touchy"

    def fold(self, state: dict[str, list[str]], event: Event) -> dict[str, list[str]]:
        state = super().fold(state, event)
        if state[event.name][-1:] == ["7"]:
            message = f"{event.name} has the 7"
            raise ValueError(message)
        return state


ALL: tuple[type[Projection[Any]], ...] = (Values, Operations, Touchy)


async def write(store: Store, wanted: list[tuple[str, int | None]]) -> None:
    """Make one transaction of what is possible: create, update or delete."""
    there = {each.name for each in (await store.list("Zone", consistent=True)).items}
    async with store.transaction() as tx:
        for name, value in wanted:
            if value is None:
                if name in there:
                    tx.delete("Zone", name)
                    there.discard(name)
            elif name in there:
                tx.update(
                    evstore.Key(type="Zone", mesh="", name=name), spec={"value": value}
                )
            else:
                tx.create("Zone", name, spec={"value": value})
                there.add(name)


async def redact(store: Store, choice: int) -> None:
    """Redact the value of a version, where there is one."""
    events = [event async for event in store.events() if event.spec is not None]
    if events:
        event = events[choice % len(events)]
        await store.redact(
            "Zone",
            event.name,
            version=event.position,
            fields=["spec.value"],
            reason="gone",
        )


def folded(of: type[Projection[Any]], events: list[Event]) -> Any:
    """Return the state after all events, or the position where it goes no further."""
    projection = of()
    state = projection.initial()
    for event in events:
        try:
            state = projection.fold(state, event)
        except ValueError:
            return event.position
    return state


def shown(store: Store, of: type[Projection[Any]]) -> Any:
    """Return the same of a view; None while it is folded again."""
    try:
        return store.view(of)
    except UnavailableError:
        return None
    except SchemaError:
        (status,) = (
            each.status
            for each in store._committer.projections.custom
            if type(each.projection) is of
        )
        assert status.stopped is not None
        return status.stopped.position


async def check(store: Store) -> None:
    events = [event async for event in store.events()]
    await until(lambda: store.position >= len(events))
    for of in ALL:
        await until(lambda of=of: shown(store, of) is not None)  # type: ignore[misc]
        assert shown(store, of) == folded(of, events)


@asynccontextmanager
async def stores_on_one_log(tail: int) -> AsyncGenerator[tuple[Store, Store]]:
    log = MemoryLog()

    @asynccontextmanager
    async def the_one_log(_: Config) -> AsyncGenerator[MemoryLog]:
        yield log

    config = limited(Config(), tail_events_max=tail)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evstore.store.opening.open_log", the_one_log)
        async with (
            evstore.open(config, projections=[of() for of in ALL]) as one,
            evstore.open(config, projections=[of() for of in ALL]) as two,
        ):
            yield one, two


@given(history=histories, tail=st.sampled_from([1, 3, 100]))
@settings(max_examples=60)
async def test_views_are_folds_over_the_events_of_the_log(
    history: list[Any], tail: int
) -> None:
    async with stores_on_one_log(tail) as stores:
        for kind, which, what in history:
            match kind:
                case "write":
                    await write(stores[which], what)
                case "redact":
                    await redact(stores[which], what)
                case _:
                    await check(stores[which])
        for store in stores:
            await check(store)
        async with evstore_on(stores[0]) as late:
            await check(late)


@asynccontextmanager
async def evstore_on(store: Store) -> AsyncGenerator[Store]:
    """Open one more store on the same log."""
    async with evstore.open(projections=[of() for of in ALL]) as opened:
        assert opened.identity == store.identity
        yield opened


class Pieces:
    """The events of a store, folded as a whole or in pieces."""

    def __init__(self, store: Store, events: list[Event]) -> None:
        self.stored = [event.stored for event in events]
        self._identity = store.identity
        self._start = store._log.genesis

    def begin(self) -> Projections:
        custom = CustomProjections([of() for of in ALL], self._wrap, self._start)
        return Projections(self._start, custom)

    def _wrap(self, stored: StoredEvent) -> Event:
        return Event(stored, self._identity)

    def whole(self) -> Projections:
        projections = self.begin()
        projections.apply(self.stored)
        return projections

    def cut(self, cuts: list[tuple[int, bool]]) -> Projections:
        projections = self.begin()
        position = 0
        for size, restore in cycle(cuts):
            projections.apply(self.stored[position : position + size])
            position += size
            if restore:
                running = [each for each in projections.custom if each.running]
                for each in running:
                    each.restore(each.head, each.freeze())
            if position >= len(self.stored):
                return projections
        raise AssertionError


@given(
    history=st.lists(writes, min_size=1, max_size=10),
    cuts=st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=20),
)
@settings(max_examples=60)
async def test_pieces_and_restored_states_come_to_the_whole(
    history: list[Any], cuts: list[tuple[int, bool]]
) -> None:
    async with evstore.open() as store:
        for _, _, what in history:
            await write(store, what)
        events = [event async for event in store.events()]
        pieces = Pieces(store, events)
    whole, part = pieces.whole(), pieces.cut(cuts)
    for of in ALL:
        expected, found = whole.custom.get(of), part.custom.get(of)
        assert (found.head, found.stopped) == (expected.head, expected.stopped)
        if expected.running:
            assert found.digest() == expected.digest()
            assert found.state == folded(of, events)
    if events:
        check_projection(Operations(), events)
        check_projection(Values(), events)
