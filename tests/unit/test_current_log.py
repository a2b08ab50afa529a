"""A log read through upcasters: up to what cannot be read, and without what is announced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import orjson
import pytest

from events import History, collected, create, key, update
from evstore.codec import body_digest
from evstore.commit.changes import Redact
from evstore.commit.live import LiveState
from evstore.errors import SchemaError
from evstore.folds.projections import Projections
from evstore.log import MemoryLog
from evstore.log.current import current_log
from evstore.model import ANY
from evstore.redaction import redact
from evstore.schemas import AS_STORED, Schemas, upcaster
from evstore.snapshots.start import origin_of
from evstore.watching.tail import Tail

if TYPE_CHECKING:
    from evstore.log import Log
    from evstore.model import StoredEvent

WEB = key("web")


@upcaster("Dataplane", from_version=1)
def nest(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "spec": {"was": body["spec"]}}


@pytest.fixture
def stored() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def history(stored: MemoryLog) -> History:
    return History(stored.genesis)


@pytest.fixture
def log(stored: MemoryLog) -> Log:
    return current_log(stored, Schemas([], [nest]))


def announcement(event: StoredEvent, *fields: str) -> Redact:
    digest = body_digest(event.salt, event.body)
    return Redact(
        key=event.key,
        position=event.position,
        fields=fields,
        old_digest=digest,
        new_digest=digest,
    )


async def carry_out(stored: MemoryLog, event: StoredEvent, *fields: str) -> None:
    assert await stored.redact(
        event.position,
        body=redact(event.body, fields),
        salt=bytes(16),
        before=body_digest(event.salt, event.body),
        announced=event.position,
    )


def newer(event: StoredEvent) -> StoredEvent:
    return msgspec.structs.replace(event, schema_version=3)


async def state(log: Log) -> list[Any]:
    """Return the specs of a state, folded by following and by a replay."""
    followed = Projections(log.genesis)
    while events := await log.read_on(followed.head):
        followed.apply(events)
    replayed = Projections(log.genesis)
    for chunk in [
        chunk async for chunk in log.replay(after=0, until=followed.position)
    ]:
        replayed.apply(chunk)
    found = list(replayed.resources)
    assert found == list(followed.resources)
    assert followed.resources.digest() == replayed.resources.digest()
    return [orjson.loads(record.body)["spec"] for record in found]


def test_a_program_that_knows_no_types_has_the_log_itself(stored: MemoryLog) -> None:
    assert current_log(stored, AS_STORED) is stored


async def test_all_that_was_announced_so_far_is_gone_done_or_not(
    stored: MemoryLog, history: History, log: Log
) -> None:
    (event,) = history.transaction(create(WEB, {"a": 1, "b": 2, "c": 3}))
    history.transaction(announcement(event, "/spec/a"))
    history.transaction(announcement(event, "/spec/b"))
    await stored.append(history.events, after=stored.genesis)
    gone = {"a": "[redacted]", "b": "[redacted]", "c": 3}
    assert await state(log) == [{"was": gone}]
    await carry_out(stored, event, "/spec/b")
    assert await state(log) == [{"was": gone}]
    (half,) = await stored.pick([event.position])
    await carry_out(stored, half, "/spec/a")
    assert await state(log) == [{"was": gone}]


async def test_a_replay_of_the_end_takes_out_what_lies_before_it(
    stored: MemoryLog, history: History, log: Log
) -> None:
    (event,) = history.transaction(create(WEB, {"a": 1}))
    place = history.head
    history.transaction(announcement(event, "/spec/a"))
    history.transaction(create(key("other"), {}))
    await stored.append(history.events, after=stored.genesis)
    projections = Projections(stored.genesis)
    projections.apply(await collected(log.replay(after=0, until=place.position)))
    projections.apply(await collected(log.replay(after=place.position, until=3)))
    specs = {record.body for record in projections.resources}
    assert not any(b'"a":1' in body for body in specs)
    assert projections.position == 3


async def test_what_lies_before_an_unreadable_event_is_read(
    stored: MemoryLog, history: History, log: Log
) -> None:
    history.transaction(create(WEB))
    both = history.transaction(create(key("a")), create(key("b")))
    last = history.transaction(update(WEB, {"n": 1}))
    events = [*history.events[:1], both[0], newer(both[1]), *last]
    await stored.append(events, after=stored.genesis)
    # Following goes by transactions.
    (first,) = await log.read_on(stored.genesis)
    with pytest.raises(SchemaError, match="position 3") as caught:
        await log.read_on(first.head)
    assert caught.value.position == 3
    async with log.turn(stored.genesis) as turn:
        assert [event.position for event in turn.following] == [1]
        with pytest.raises(SchemaError, match="position 3"):
            await turn.read_on(first.head)
    for reverse, readable in ((False, [1, 2]), (True, [4])):
        found: list[int] = []
        with pytest.raises(SchemaError, match="position 3"):
            await gather(log, found, reverse=reverse)
        assert found == readable
    with pytest.raises(SchemaError, match="position 3"):
        await collected(log.replay(after=0, until=4))
    with pytest.raises(SchemaError, match="position 3"):
        await log.pick([1, 3])
    with pytest.raises(SchemaError, match="position 3"):
        await log.latest(where=ANY, until=4)
    with pytest.raises(SchemaError, match="position 3"):
        await log.previous([(key("b"), 4)])
    assert len(await log.latest(where=ANY, until=2)) == 2
    assert await log.previous([(key("b"), 3)]) == [None]


async def gather(log: Log, found: list[int], *, reverse: bool) -> None:
    async for chunk in log.read(reverse=reverse):
        found += [event.position for event in chunk]


async def test_a_state_made_anew_goes_as_far_as_can_be_read(
    stored: MemoryLog, history: History, log: Log
) -> None:
    history.transaction(create(WEB))
    both = history.transaction(create(key("a")), create(key("b")))
    events = [*history.events[:1], both[0], newer(both[1])]
    await stored.append(events, after=stored.genesis)
    lost = History(MemoryLog().genesis)
    lost.transaction(create(key("lost")))
    tail = Tail(1, events_max=10)
    schemas = Schemas([], [nest])
    origin = origin_of(log, schemas)
    live = LiveState(log, origin, lost.projections, tail, schemas)
    await live.catch_up()
    assert [record.key for record in live.projections.resources] == [WEB]
    assert live.projections.head == events[0].head
    assert (tail.generation, tail.position) == (1, 1)
    with pytest.raises(SchemaError, match="position 3"):
        tail.check_readable()
    # Once the log is another one again, it is read on.
    stored._ledger._events[2] = both[1]
    await live.catch_up()
    tail.check_readable()
    assert live.projections.position == 3
