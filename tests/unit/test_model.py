"""The nouns: what a caller gets is the caller's own, and reprs tell no secrets."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

import evstore
from events import History, create, delete, genesis, key, update
from evstore.model import ANY, Event, Filter, Head, Key, Page, Resource

SECRET = "hunter2"
A = key("a")
LOG = UUID(int=1)


@pytest.fixture
def history() -> History:
    return History(genesis(LOG))


def resource(history: History, key: str = A) -> Resource[Any]:
    record = history.projections.resources.get(key)
    assert record is not None
    return Resource(record)


def test_reprs_hold_nothing_of_spec_status_and_labels(history: History) -> None:
    history.transaction(
        create(A, {"s": SECRET}, status={"s": SECRET}, labels={"s": SECRET})
    )
    whole = resource(history)
    event = Event(history.events[0], LOG)
    page = Page([whole], total=1, next_page_token=None, position=1)
    _ = whole.spec, event.spec, whole.labels, whole.status
    for thing in (whole, event, page, whole.key):
        for text in (repr(thing), str(thing), f"{thing}"):
            assert SECRET not in text
    assert "name='a'" in repr(whole)
    assert "version=1" in repr(whole)
    assert "operation='created'" in repr(event)
    assert "1 of 1" in repr(page)


def test_a_resource_tells_all_that_is_known_of_it(history: History) -> None:
    owner = key("o", "Mesh", "")
    history.transaction(create(owner))
    history.transaction(create(A, {"n": 1}, labels={"l": "1"}, owner=owner))
    history.transaction(update(A, {"n": 2}), create(key("b")))
    it = resource(history)
    assert (it.type, it.mesh, it.name) == ("Dataplane", "default", "a")
    assert it.key == Key(type="Dataplane", mesh="default", name="a")
    assert (it.version, it.commit, it.created_version) == (3, 4, 2)
    assert (it.spec, it.status, it.labels) == ({"n": 2}, None, {"l": "1"})
    assert it.owner == Key(type="Mesh", name="o")
    assert (it.modified_at - it.created_at).total_seconds() == 1


def test_an_event_tells_all_that_is_known_of_it(history: History) -> None:
    history.transaction(create(A, {"n": 1}), actor="alice", reason="why")
    history.transaction(delete(A))
    made, gone = (Event(each, LOG) for each in history.events)
    assert (made.actor, made.reason, made.operation) == ("alice", "why", "created")
    assert (made.spec, made.labels, made.status, made.owner) == (
        {"n": 1},
        {},
        None,
        None,
    )
    assert (made.type, made.mesh, made.name) == ("Dataplane", "default", "a")
    assert made.metadata == {"reason": "why"}
    assert (made.schema_version, made.position, made.commit) == (1, 1, 1)
    assert made.hash == history.events[0].hash
    assert (gone.spec, gone.reason, gone.operation) == (None, "", "deleted")
    assert gone.metadata["created_version"] == 1
    assert gone.recorded_at > made.recorded_at
    assert made != gone
    assert made == Event(history.events[0], LOG)
    assert len({made, gone, Event(history.events[0], LOG)}) == 2


def test_resources_are_equal_where_they_are_the_same_version_of_one_log(
    history: History,
) -> None:
    history.transaction(create(A))
    first = resource(history)
    assert first == resource(history)
    assert hash(first) == hash(resource(history))
    other = History(genesis(UUID(int=2)))
    other.transaction(create(A))
    assert first != resource(other)
    history.transaction(update(A, {"n": 1}))
    assert first != resource(history)
    assert first != "a"


def test_changing_what_was_handed_out_changes_only_that(history: History) -> None:
    history.transaction(create(A, {"list": [1]}, labels={"l": "1"}, status={"s": {}}))
    mine, theirs = resource(history), resource(history)
    mine.spec["list"].append(2)
    mine.labels["x"] = "y"
    assert mine.status is not None
    mine.status["s"]["up"] = True
    assert mine.spec == {"list": [1, 2]}  # their own copy, and it is kept
    assert (theirs.spec, theirs.labels) == ({"list": [1]}, {"l": "1"})
    assert resource(history).spec == {"list": [1]}
    assert resource(history).status == {"s": {}}


async def test_changing_what_was_handed_out_never_reaches_the_store() -> None:
    async with evstore.open() as store:
        made = await store.create("Mesh", "m", spec={"list": [1]}, labels={"l": "1"})
        made.spec["list"].append(2)
        made.labels["x"] = "y"
        assert (await store.get("Mesh", "m")).spec == {"list": [1]}
        (listed,) = (await store.list("Mesh")).items
        listed.spec.clear()
        async for event in store.events():
            event.spec.clear()
            event.metadata["x"] = "y"
        found = await store.get("Mesh", "m", at=1)
        assert (found.spec, found.labels) == ({"list": [1]}, {"l": "1"})
        async for event in store.events():
            assert event.spec == {"list": [1]}
            assert event.metadata == {}
        assert await store.update(found) == made
        assert store.position == 1


class Dataplane(msgspec.Struct):
    port: int


async def test_a_registered_type_is_read_as_its_struct() -> None:
    async with evstore.open(types=[Dataplane]) as store:
        await store.create(Dataplane, "a", spec=Dataplane(port=1))
        found = await store.get(Dataplane, "a")
        assert found.spec == Dataplane(port=1)
        assert (await store.get("Dataplane", "a", at=1)).spec == Dataplane(port=1)
        async for event in store.events():
            assert event.spec == Dataplane(port=1)
        await store.delete("Dataplane", "a")
        events = [event async for event in store.events(after=1)]
        assert events[0].operation == "deleted"
        assert events[0].spec is None


def test_a_key_is_one_text_and_back() -> None:
    for each in (Key(type="Mesh", name="m"), Key(type="A", mesh="m.n", name="a.b")):
        assert Key.from_text(each.text) == each
    assert str(Key(type="Mesh", name="m")) == "Mesh m"
    assert str(Key(type="Zone", mesh="x", name="m")) == "Zone m in mesh x"


def test_keys_sort_by_type_mesh_and_name() -> None:
    keys = [
        Key(type=type_, mesh=mesh, name=name)
        for name in ("a", "b")
        for mesh in ("m", "")
        for type_ in ("B", "A")
    ]
    assert [each.text for each in sorted(keys)] == [
        *("A//a", "A//b", "A/m/a", "A/m/b", "B//a", "B//b", "B/m/a", "B/m/b")
    ]


def test_a_filter_of_nothing_is_everything(history: History) -> None:
    history.transaction(create(A))
    (event,) = history.events
    assert ANY.everything
    assert Filter().everything
    assert not Filter(actor="").everything
    assert ANY.accepts(event)
    assert Filter(actor="").accepts(event)
    assert not Filter(mesh="").accepts(event)
    assert not Filter(name="A").accepts(event)


def test_an_event_ends_a_log_as_its_head(history: History) -> None:
    (event,) = history.transaction(create(A))
    assert event.head == Head(position=1, hash=event.hash, time=event.time)
    assert event.size == len(bytes(event.body)) + len(bytes(event.metadata))
