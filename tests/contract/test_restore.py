"""Restoring: events as they were, and the identity that an empty log takes over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec
import pytest

from events import History, create, creations, delete, everything, genesis, key, update
from evstore.codec import body_digest, body_text
from evstore.log import HeadMovedError
from evstore.model import Filter

if TYPE_CHECKING:
    from evstore.log import Log
    from evstore.model import StoredEvent

FOREIGN: Final = UUID("6f0c1a52-1f5e-4c58-8f34-2a3f6f5d1a77")


def lived_in(identity: UUID) -> list[StoredEvent]:
    """Return the events of a log with a bit of everything in it."""
    history = History(genesis(identity))
    history.transaction(
        create(key("a"), {"ü": "\u2028"}, labels={"x": "y"}, status={"up": 1.0}),
        create(key("b"), {"secret": "s"}, owner=key("a")),
        actor='al"ice',
        reason="why\nnot",
        request_id="r-1",
    )
    history.transaction(update(key("a"), {"n": 2**64 - 1}))
    history.redaction(key("b"))
    history.transaction(delete(key("a")))
    second = history.events[1]
    history.events[1] = msgspec.structs.replace(
        second,
        body=msgspec.Raw(body_text(b"{}", b"null", b"null", b"null")),
        salt=bytes(16),
        body_digest=body_digest(second.salt, second.body),
    )
    return history.events


async def test_an_empty_log_becomes_the_one_that_is_restored(log: Log) -> None:
    events = lived_in(FOREIGN)
    await log.restore(events[:2], after=genesis(FOREIGN), identity=FOREIGN)
    await log.restore(events[2:], after=events[1].head, identity=FOREIGN)
    assert (log.identity, log.genesis) == (FOREIGN, genesis(FOREIGN))
    assert await everything(log) == events
    assert await log.head() == events[-1].head
    assert [each.position for each in await log.latest(where=Filter(), until=5)]


async def test_what_was_restored_goes_on_as_a_log(log: Log) -> None:
    history = History(genesis(FOREIGN))
    await log.restore(
        creations(history, "ab"), after=genesis(FOREIGN), identity=FOREIGN
    )
    place = history.head
    await log.append(creations(history, "c"), after=place)
    assert [each.head for each in await log.read_on(place)] == [history.head]


async def test_a_log_that_was_written_keeps_its_identity(
    log: Log, history: History
) -> None:
    await log.append(creations(history, "a"), after=log.genesis)
    own = log.identity
    with pytest.raises(HeadMovedError):
        await log.restore(lived_in(FOREIGN), after=genesis(FOREIGN), identity=FOREIGN)
    assert log.identity == own
    assert await everything(log) == history.events


async def test_nothing_is_restored_but_directly_after_the_head(
    log: Log, history: History
) -> None:
    first, second = creations(history, "a"), creations(history, "b")
    with pytest.raises(HeadMovedError):
        await log.restore(second, after=first[-1].head, identity=log.identity)
    await log.restore(first, after=log.genesis, identity=log.identity)
    with pytest.raises(HeadMovedError):
        await log.restore(first, after=log.genesis, identity=log.identity)
    await log.restore(second, after=first[-1].head, identity=log.identity)
    assert await everything(log) == history.events


async def test_without_events_a_log_takes_over_the_identity_alone(log: Log) -> None:
    await log.restore([], after=genesis(FOREIGN), identity=FOREIGN)
    assert log.identity == FOREIGN
    assert await log.head() == genesis(FOREIGN)
