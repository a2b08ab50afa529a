"""The events of a log that was compacted: what is left answers for the floor and on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

import pytest

from events import History, collected, create, delete, genesis, key, update
from evstore.errors import CompactedError
from evstore.log.ledger import Ledger
from evstore.model import ANY, Filter

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore.model import StoredEvent

A, B, C = key("a"), key("b"), key("c")
FLOOR = 6


def _events() -> list[StoredEvent]:
    """Return eleven events: `b` is deleted at 5, and `a` updated there and later."""
    history = History(genesis(UUID(int=1)))
    history.transaction(create(A), create(B), create(C))
    history.transaction(update(A, {"n": 1}))
    history.transaction(delete(B))
    history.transaction(update(A, {"n": 2}))
    history.transaction(update(A, {"n": 3}), update(C, {"n": 3}))
    history.transaction(create(B))
    history.transaction(delete(C))
    history.transaction(update(A, {"n": 4}))
    return history.events


EVENTS: Final = _events()


def full() -> Ledger:
    ledger = Ledger(genesis(UUID(int=1)))
    ledger.extend(EVENTS)
    return ledger


def compacted() -> Ledger:
    """Return them as they are where the log was compacted while they were there."""
    ledger = full()
    ledger.compact(FLOOR)
    return ledger


def begun() -> Ledger:
    """Return them as they are where the log was read after it had been compacted."""
    base = full().latest(where=ANY, until=FLOOR)
    floor = full().place(FLOOR)
    there = [event for event in base if event.operation != "deleted"]
    ledger = Ledger(genesis(UUID(int=1)), floor=floor, base=there)
    ledger.extend(EVENTS[FLOOR:])
    return ledger


LEDGERS = pytest.mark.parametrize("make", [compacted, begun])


@LEDGERS
async def test_from_the_floor_on_it_answers_as_the_whole_log_does(
    make: Callable[[], Ledger],
) -> None:
    ledger, whole = make(), full()
    assert (ledger.head, ledger.top) == (whole.head, whole.top)
    for until in range(FLOOR, whole.top + 1):
        assert ledger.place(until) == whole.place(until)
        assert ledger.following(until) == whole.following(until)
        assert ledger.since(until) == whole.since(until)
        assert ledger.commit_of(until) == whole.commit_of(until)
        place = whole.place(until)
        assert place is not None
        assert ledger.locate(place.time) == whole.locate(place.time)
        assert _live(ledger, until) == _live(whole, until)
        for where in (ANY, Filter(type="Dataplane", mesh="default", name="a")):
            for reverse in (False, True):
                there = ledger.read(after=until, where=where, reverse=reverse)
                all_ = whole.read(after=until, where=where, reverse=reverse)
                assert await collected(there) == await collected(all_)
    live = [event.position for event in _live(whole, FLOOR).values()]
    assert ledger.pick([*live, 9]) == whole.pick([*live, 9])
    assert ledger.previous([(A, 7), (C, 11)]) == whole.previous([(A, 7), (C, 11)])
    # Of what was gone by then, nothing is known; it was not there in any case.
    assert ledger.previous([(B, 9)]) == [None]


def _live(ledger: Ledger, until: int) -> dict[str, StoredEvent]:
    """Return the resources there by key."""
    found = ledger.latest(where=ANY, until=until)
    return {event.key: event for event in found if event.operation != "deleted"}


@LEDGERS
async def test_below_the_floor_it_says_where_the_history_begins(
    make: Callable[[], Ledger],
) -> None:
    ledger = make()
    for ask in (
        lambda: ledger.place(FLOOR - 1),
        lambda: ledger.commit_of(1),
        lambda: ledger.following(FLOOR - 1),
        lambda: ledger.since(0),
        lambda: ledger.event(FLOOR),
        lambda: ledger.locate(0),
        lambda: ledger.latest(where=ANY, until=FLOOR - 1),
        lambda: ledger.previous([(A, FLOOR)]),
        lambda: ledger.pick([1]),
        lambda: ledger.activity(after=0, until=9, top=1),
    ):
        with pytest.raises(CompactedError) as caught:
            ask()
        assert caught.value.oldest == FLOOR
    assert ledger.place(0) == ledger.genesis
    with pytest.raises(CompactedError):
        await collected(ledger.read(after=FLOOR - 1))
    assert await collected(ledger.read(after=3, until=3)) == []


@LEDGERS
async def test_backwards_it_goes_as_far_as_there_is_something(
    make: Callable[[], Ledger],
) -> None:
    ledger = make()
    seen: list[int] = []

    async def read(limit: int | None) -> None:
        async for chunk in ledger.read(reverse=True, limit=limit):
            seen.extend(event.position for event in chunk)

    await read(5)
    assert seen == [11, 10, 9, 8, 7]
    seen.clear()
    with pytest.raises(CompactedError):
        await read(None)
    assert seen == [11, 10, 9, 8, 7]


async def test_a_read_under_way_ends_where_its_place_is_compacted() -> None:
    ledger = full()
    chunks = ledger.read(after=0, limit=3)
    ledger.compact(FLOOR)
    with pytest.raises(CompactedError):
        await collected(chunks)
