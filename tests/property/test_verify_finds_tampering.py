"""Whatever one thing is done to a log, verification finds it; and cries never wolf."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from hypothesis import given, strategies as st

import evstore
from evstore import anchors as signing
from evstore.codec import event_hash
from evstore.log import MemoryLog
from evstore.model import Operation
from evstore.proof.chain import verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evstore import Store
    from evstore.model import Filter, StoredEvent

KEY = signing.private_key(signing.make_key())
NAMES = ("a", "b", "c")
COLUMNS: dict[str, Any] = {
    "commit": lambda old: old + 1,
    "tx": lambda _: os.urandom(16).hex(),
    "time": lambda old: old + 1,
    "actor": lambda old: f"{old}x",
    "operation": lambda old: next(each for each in Operation if each != old),
    "key": lambda old: f"{old}x",
    "schema_version": lambda old: old + 1,
    "body": lambda old: msgspec.Raw(bytes(old).replace(b"{", b"{ ", 1)),
    "salt": lambda _: os.urandom(16),
    "body_digest": lambda _: os.urandom(32),
    "metadata": lambda old: msgspec.Raw(bytes(old).replace(b"}", b',"x":1}')),
    "hash": lambda _: os.urandom(32),
}
steps = st.lists(
    st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 3)), max_size=3),
    min_size=1,
    max_size=8,
)


async def play(store: Store, script: list[list[tuple[str, int]]]) -> None:
    """Create, update and delete as a script says; one list is one transaction."""
    for number, step in enumerate(script):
        page = await store.list("Secret")
        there = {each.name for each in page.items}
        async with store.transaction(actor=f"actor-{number % 3}") as tx:
            for name, value in step:
                key = evstore.Key(type="Secret", name=name)
                if name not in there:
                    tx.create("Secret", name, spec={"x": value, "y": [number]})
                    there.add(name)
                elif value:
                    tx.update(key, spec={"x": value, "y": [number]})
                else:
                    tx.delete("Secret", name)
                    there.remove(name)
    await store.create("Mesh", "last", spec={})


async def redact_some(store: Store, chosen: list[int]) -> None:
    events = [event async for event in store.events(type="Secret")]
    versions = [event for event in events if event.operation != Operation.DELETED]
    for index in chosen:
        if versions:
            event = versions[index % len(versions)]
            await store.redact(
                "Secret",
                event.name,
                version=event.position,
                fields=["spec.x"] if index % 2 else [],
                reason="leaked",
                everywhere=index % 3 == 0,
            )


def damage(events: list[StoredEvent], data: st.DataObject) -> str:
    """Do one thing to a log; return what."""
    kind = data.draw(st.sampled_from(["change", "remove", "insert", "swap", "anew"]))
    index = data.draw(st.integers(0, len(events) - 1))
    match kind:
        case "change":
            column = data.draw(st.sampled_from(sorted(COLUMNS)))
            _change(events, index, column)
        case "remove":
            last = data.draw(st.integers(index, len(events) - 1))
            del events[index : last + 1]
            if data.draw(st.booleans()):
                _renumber(events)
        case "insert":
            fresh = msgspec.structs.replace(
                events[index], tx=os.urandom(16).hex(), commit=events[index].position
            )
            events.insert(index, fresh)
            _renumber(events)
            if data.draw(st.booleans()):
                _rehash(events, index, index)
        case "swap":
            other = data.draw(st.integers(0, len(events) - 1).filter(index.__ne__))
            one, two = events[index], events[other]
            events[index] = _at(two, one.position)
            events[other] = _at(one, two.position)
        case _:
            column = data.draw(st.sampled_from(["actor", "schema_version", "salt"]))
            _change(events, index, column)
            _rehash(events, index, len(events) - 1)
    return kind


def _change(events: list[StoredEvent], index: int, column: str) -> None:
    old = getattr(events[index], column)
    # The salt of a body that is gone is in no hash: it is what an event announces.
    change = {column: COLUMNS[column](old)}
    events[index] = msgspec.structs.replace(events[index], **change)


def _at(event: StoredEvent, position: int) -> StoredEvent:
    commit = event.commit - event.position + position
    return msgspec.structs.replace(event, position=position, commit=commit)


def _renumber(events: list[StoredEvent]) -> None:
    for index, event in enumerate(events):
        events[index] = _at(event, index + 1)


def _rehash(events: list[StoredEvent], first: int, last: int) -> None:
    for index in range(max(first, 1), last + 1):
        made = event_hash(events[index - 1].hash, events[index])
        events[index] = msgspec.structs.replace(events[index], hash=made)


class Damaged(MemoryLog):
    """A log as somebody has left it: unlike a list, a table may have gaps."""

    def __init__(self, log: MemoryLog, events: list[StoredEvent]) -> None:
        super().__init__()
        self.identity, self.genesis = log.identity, log.genesis
        self._events = events

    def _range(
        self, after: int, until: int | None, where: Filter, *, reverse: bool
    ) -> Iterator[StoredEvent]:
        assert not reverse, where
        for event in self._events:
            if after < event.position <= (until or event.position):
                yield event

    async def pick(self, positions: Sequence[int]) -> list[StoredEvent]:
        return [each for each in self._events if each.position in positions]


@given(
    script=steps,
    chosen=st.lists(st.integers(0, 30), max_size=3),
    data=st.data(),
)
def test_any_single_tampering_is_found_and_nothing_else_is(
    script: list[list[tuple[str, int]]], chosen: list[int], data: st.DataObject
) -> None:
    async def run() -> None:
        async with evstore.open() as store:
            await play(store, script)
            await redact_some(store, chosen)
            log = store._stored
            assert isinstance(log, MemoryLog)
            place = await log.head()
            anchor = signing.sign(place, log=log.identity, signed=log.clock(), key=KEY)
            found = await verify(log, anchors=[anchor])
            assert found.ok, found.findings
            assert found.anchored == place.position
            assert not found.unfinished
            damaged = Damaged(log, list(log._ledger._events))
            kind = damage(damaged._events, data)
            found = await verify(damaged, anchors=[anchor])
            assert not found.ok, kind

    anyio.run(run)
