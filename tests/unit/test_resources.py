"""The built-in projection: every resource, its indexes and its digest."""

from __future__ import annotations

from contextlib import suppress
from itertools import permutations
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, strategies as st

from events import NOTHING, History, create, delete, genesis, key, update
from evstore.codec import body_digest
from evstore.errors import StoreError
from evstore.folds.resources import Overlay, Resources, fold, owner_of
from evstore.model import Operation, StoredEvent

if TYPE_CHECKING:
    import random

A, B, C = key("a"), key("b"), key("c")


@pytest.fixture
def history() -> History:
    return History(genesis(UUID(int=1)))


def folded(events: list[StoredEvent]) -> Resources:
    state = Resources()
    state.apply(events)
    return state


# The fold.


def test_a_creation_begins_an_incarnation(history: History) -> None:
    (event,) = history.transaction(create(A, {"n": 1}))
    record = fold(None, event)
    assert record is not None
    assert (record.key, record.version, record.commit) == (A, 1, 1)
    assert (record.created_version, record.created_time) == (1, event.time)
    assert record.modified_time == event.time
    assert (record.body, record.hash) == (bytes(event.body), event.hash)
    assert record.seal == event.salt


def test_an_update_keeps_the_incarnation(history: History) -> None:
    first, second = [
        *history.transaction(create(A)),
        *history.transaction(update(A, {"n": 1})),
    ]
    record = fold(fold(None, first), second)
    assert record is not None
    assert (record.version, record.created_version) == (2, 1)
    assert (record.created_time, record.modified_time) == (first.time, second.time)


def test_a_deletion_leaves_nothing(history: History) -> None:
    history.transaction(create(A))
    before = history.projections.resources.get(A)
    (event,) = history.transaction(delete(A))
    assert fold(before, event) is None
    with pytest.raises(AssertionError):
        fold(None, event)


def test_the_announcement_of_a_redaction_leaves_the_version(history: History) -> None:
    history.transaction(create(A))
    before = history.projections.resources.get(A)
    (event,) = history.redaction(A)
    assert fold(before, event) is before
    assert history.projections.position == 2


def test_a_redacted_body_is_sealed_by_its_digest(history: History) -> None:
    (event,) = history.transaction(create(A, {"secret": 1}))
    digest = body_digest(event.salt, event.body)
    redacted = msgspec.structs.replace(
        event, body=msgspec.Raw(NOTHING), salt=bytes(16), body_digest=digest
    )
    record = fold(None, redacted)
    assert record is not None
    assert record.seal == digest
    assert folded([redacted]).digest() == folded([event]).digest()


def test_the_owner_is_read_from_the_body(history: History) -> None:
    history.transaction(create(A), create(B, owner=A))
    assert owner_of(bytes(history.events[0].body)) is None
    assert owner_of(bytes(history.events[1].body)) == A
    assert owner_of(b'{"labels":{"owner":"x"},"owner":null,"spec":{}}') is None


# Indexes.


def test_resources_of_a_type_are_in_order_of_name_then_mesh(history: History) -> None:
    places = [(name, mesh) for name in ("b", "a", "a.b", "a-b") for mesh in ("m", "")]
    history.transaction(*(create(key(name, "Zone", mesh)) for name, mesh in places))
    history.transaction(create(key("z", "Mesh", "")))
    state = history.projections.resources

    def listed() -> list[tuple[str, str]]:
        keys = [record.key.split("/") for record in state.of_type("Zone")]
        return [(name, mesh) for _, mesh, name in keys]

    assert listed() == sorted(places)
    # From now on the order is kept up to date.
    history.transaction(delete(key("a", "Zone", "m")), create(key("aa", "Zone", "m")))
    history.transaction(update(key("b", "Zone", ""), {"n": 1}))
    history.transaction(create(key("a", "Zone", "m")))
    assert listed() == sorted([*places, ("aa", "m")])


def test_a_type_is_there_while_it_has_resources(history: History) -> None:
    state = history.projections.resources
    assert list(state.of_type("Mesh")) == []
    history.transaction(create(key("b", "Zone")), create(key("a", "Mesh")))
    assert state.types == ["Mesh", "Zone"]
    history.transaction(delete(key("b", "Zone")))
    assert state.types == ["Mesh"]
    assert list(state.of_type("Zone")) == []


def test_children_are_known_by_their_owner(history: History) -> None:
    state = history.projections.resources
    history.transaction(create(A), create(B, owner=A), create(C, owner=A))
    assert set(state.children(A)) == {B, C}
    history.transaction(delete(B))
    history.transaction(update(C, {"n": 1}))
    assert set(state.children(A)) == {C}
    history.transaction(delete(C))
    assert not state.children(A)
    history.transaction(create(C))
    assert not state.children(A)


def test_all_resources_can_be_counted_and_walked(history: History) -> None:
    state = history.projections.resources
    assert len(state) == 0
    history.transaction(create(A), create(B), delete(A))
    assert [record.key for record in state] == [B]
    assert len(state) == 1
    assert state.get(A) is None


# The digest.


def test_an_empty_state_has_the_digest_nought() -> None:
    assert Resources().digest() == bytes(32)


def test_the_digest_is_back_to_nought_when_all_is_gone(history: History) -> None:
    state = history.projections.resources
    history.transaction(create(A), create(B, owner=A))
    assert state.digest() != bytes(32)
    history.transaction(delete(A))
    assert state.digest() == bytes(32)


def test_the_digest_tells_versions_and_bodies_apart(history: History) -> None:
    state = history.projections.resources
    digests = [state.digest()]
    history.transaction(create(A))
    for spec in ({"n": 1}, {"n": 2}, {"n": 1}):
        digests.append(state.digest())
        history.transaction(update(A, spec))
    digests.append(state.digest())
    assert len(set(digests)) == len(digests)


def test_the_digest_does_not_depend_on_the_order_of_unrelated_changes(
    history: History,
) -> None:
    history.transaction(create(A), create(B), create(C))
    digests = {folded(list(each)).digest() for each in permutations(history.events)}
    assert len(digests) == 1


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "delete"])),
        max_size=25,
    ),
    st.randoms(),
)
def test_the_digest_is_the_same_asked_late_or_after_each_event(
    steps: list[tuple[str, str]], chance: random.Random
) -> None:
    history = History(genesis(UUID(int=1)))
    state = history.projections.resources
    for number, (name, what) in enumerate(steps):
        there = state.get(key(name)) is not None
        if what == "put":
            history.transaction(
                update(key(name), {"n": number}) if there else create(key(name))
            )
        elif there:
            history.transaction(delete(key(name)))
    eager, now_and_then = Resources(), Resources()
    for event in history.events:
        eager.apply([event])
        eager.digest()
        now_and_then.apply([event])
        if chance.random() < 0.3:
            now_and_then.digest()
    late = folded(history.events).digest()
    assert eager.digest() == late
    assert now_and_then.digest() == late
    assert state.digest() == late
    # As a snapshot would have it: from the resources alone.
    alone = Resources()
    for record in state:
        alone._records[record.key] = record
        alone._uncounted[record.key] = None
    assert alone.digest() == late


# The overlay.


def test_an_overlay_shows_the_state_to_come_and_leaves_the_state(
    history: History,
) -> None:
    history.transaction(create(A), create(B, owner=A))
    base = folded(history.events)
    before = base.digest()
    overlay = Overlay(base)
    assert set(overlay.children(A)) == {B}
    coming = [
        *history.transaction(delete(B), create(C, owner=A)),
        *history.transaction(update(A, {"n": 1}), create(B)),
    ]
    overlay.apply(coming)
    for each in (A, B, C):
        assert overlay.get(each) == history.projections.resources.get(each)
    assert set(overlay.children(A)) == {C}
    assert base.digest() == before
    assert set(base.children(A)) == {B}


def test_an_overlay_knows_what_was_deleted(history: History) -> None:
    history.transaction(create(A))
    base = folded(history.events)
    overlay = Overlay(base)
    overlay.apply(history.transaction(delete(A)))
    assert overlay.get(A) is None
    assert base.get(A) is not None


def test_each_operation_has_its_fold() -> None:
    assert {operation.value for operation in Operation} == {
        "created",
        "updated",
        "deleted",
        "redacted",
    }


NAMES = st.sampled_from(["a", "b", "c", "d"])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("create"), NAMES, st.none() | NAMES),
        st.tuples(st.just("update"), NAMES, st.integers(0, 3)),
        st.tuples(st.just("delete"), NAMES, st.none()),
    ),
    max_size=40,
)


@given(changes=CHANGES, batch=st.integers(1, 12))
def test_adopting_an_overlay_is_folding_its_events(
    changes: list[tuple[str, str, str | int | None]], batch: int
) -> None:
    """However often a key is deleted, made again and owned by others in one batch."""
    history = History(genesis(UUID(int=1)))
    for what, name, more in changes:
        with suppress(StoreError):
            match what:
                case "create":
                    owner = key(str(more)) if more else None
                    history.transaction(create(key(name), owner=owner))
                case "update":
                    history.transaction(update(key(name), {"n": more}))
                case _:
                    history.transaction(delete(key(name)))
    adopted = Resources()
    for first in range(0, len(history.events), batch):
        overlay = Overlay(adopted)
        overlay.apply(history.events[first : first + batch])
        list(adopted.of_type("Dataplane"))  # so that the order is kept, not made
        adopted.adopt(overlay)
    expected = history.projections.resources
    assert list(adopted.of_type("Dataplane")) == list(expected.of_type("Dataplane"))
    for name in "abcd":
        owner = key(name)
        assert sorted(adopted.children(owner)) == sorted(expected.children(owner))
    assert adopted.digest() == expected.digest()
