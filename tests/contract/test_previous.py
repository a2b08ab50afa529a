"""What was there before: the last event of a key before a position."""

from __future__ import annotations

from typing import TYPE_CHECKING

from events import History, create, creations, delete, key, update
from evstore.model import Operation

if TYPE_CHECKING:
    from evstore.log import Log
    from evstore.model import StoredEvent


def expected(events: list[StoredEvent], wanted: str, before: int) -> StoredEvent | None:
    found = None
    for event in events[: max(0, before - 1)]:
        if event.key == wanted and event.operation is not Operation.REDACTED:
            found = event
    return found


async def test_each_key_has_its_last_event_before_a_position(
    log: Log, history: History
) -> None:
    for name in ("a", "a.b"):
        for mesh in ("", "m"):
            here = key(name, "Zone", mesh)
            history.transaction(create(here))
            history.transaction(update(here, {"n": 1}), update(here, {"n": 2}))
            history.redaction(here)
    history.transaction(delete(key("a", "Zone", "m")))
    await log.append(history.events, after=log.genesis)
    head = len(history.events)
    places = [
        (wanted, before)
        for wanted in sorted({event.key for event in history.events})
        for before in (0, 1, 2, 3, head - 1, head, head + 1, head + 9, 2**70)
    ]
    found = await log.previous(places)
    assert found == [expected(history.events, *place) for place in places]
    assert None in found
    assert history.events[-1] in found  # a deletion


async def test_what_is_asked_for_comes_in_the_order_of_the_question(
    log: Log, history: History
) -> None:
    await log.append(creations(history, "abc"), after=log.genesis)
    places = [(key("c"), 9), (key("nobody"), 9), (key("a"), 9), (key("c"), 9)]
    first, _, third = history.events
    assert await log.previous(places) == [third, None, first, third]
    assert await log.previous([]) == []


async def test_hundreds_are_had_at_once(log: Log, history: History) -> None:
    names = [f"n{number}" for number in range(700)]
    await log.append(creations(history, names), after=log.genesis)
    found = await log.previous([(key(name), 10_000) for name in reversed(names)])
    assert found == history.events[::-1]
