"""The rules: what a command makes of a state."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pytest

from events import History, assert_chained, create, delete, genesis, key, update
from evstore.commit.changes import (
    Change,
    Command,
    Create,
    Delete,
    Owner,
    Precondition,
    Update,
)
from evstore.commit.commands import (
    TRANSACTION_BYTES_MAX,
    TRANSACTION_EVENTS_MAX,
    Decided,
    Repeated,
    decide,
)
from evstore.commit.stamp import stamp
from evstore.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidError,
    NotFoundError,
    StoreError,
)
from evstore.folds.requests import RequestOverlay
from evstore.model import Operation

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from evstore.commit.commands import Draft
    from evstore.model import Record

LOG = UUID(int=7)
A, B, C = key("a"), key("b"), key("c")


@pytest.fixture
def history() -> History:
    return History(genesis(LOG))


def drafts(history: History, *changes: Change, **command: Any) -> list[Draft]:
    """Decide a command without appending it."""
    decided = decide(
        Command(changes=changes, **command),
        history.projections.resources,
        RequestOverlay(history.projections.requests),
    )
    assert isinstance(decided, Decided)
    return decided.drafts


def outline(found: list[Draft]) -> list[tuple[str, str]]:
    return [(draft.operation.value, draft.key.split("/")[2]) for draft in found]


def record(history: History, key: str) -> Record:
    found = history.projections.resources.get(key)
    assert found is not None
    return found


def at(history: History, key: str) -> Precondition:
    """Return the precondition that a resource is as it is now."""
    now = record(history, key)
    return Precondition(now.version, now.hash)


def body(draft: Draft) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(draft.body)
    return found


def refuses(
    history: History, error: type[StoreError], *changes: Change, **command: Any
) -> Any:
    with pytest.raises(error) as caught:
        drafts(history, *changes, **command)
    assert type(caught.value) is error
    return caught.value


# Create.


def test_a_creation_has_all_its_parts(history: History) -> None:
    history.transaction(create(A))
    asked = create(B, {"n": 1}, status={"up": True}, labels={"team": "x"}, owner=A)
    (draft,) = drafts(history, asked)
    assert draft.operation is Operation.CREATED
    assert draft.body == (
        b'{"labels":{"team":"x"},'
        b'"owner":{"mesh":"default","name":"a","type":"Dataplane"},'
        b'"spec":{"n":1},"status":{"up":true}}'
    )


def test_creating_what_exists_is_refused_and_names_its_version(
    history: History,
) -> None:
    history.transaction(create(B), create(A))
    error = refuses(history, AlreadyExistsError, create(A))
    assert error.version == 2
    assert error.key.text == A


def test_creating_twice_in_one_transaction_is_refused(history: History) -> None:
    refuses(history, AlreadyExistsError, create(A), create(A))


def test_the_same_name_in_another_mesh_or_type_is_another_resource(
    history: History,
) -> None:
    history.transaction(create(A))
    others = [create(key("a", mesh="")), create(key("a", type_="Zone"))]
    assert len(drafts(history, *others)) == 2


def test_what_was_deleted_can_be_created_again(history: History) -> None:
    history.transaction(create(A))
    history.transaction(delete(A))
    assert outline(drafts(history, create(A))) == [("created", "a")]


# Update.


def test_an_update_keeps_what_is_not_given(history: History) -> None:
    history.transaction(create(C))
    history.transaction(
        create(A, {"n": 1}, status={"up": True}, labels={"team": "x"}, owner=C)
    )
    before = json.loads(record(history, A).body)
    (draft,) = drafts(history, update(A, {"n": 2}))
    assert draft.operation is Operation.UPDATED
    assert body(draft) == {**before, "spec": {"n": 2}}
    (draft,) = drafts(history, Update(key=A, status=b"null"))
    assert body(draft) == {**before, "status": None}
    (draft,) = drafts(history, Update(key=A, labels=b'{"team":"y"}'))
    assert body(draft) == {**before, "labels": {"team": "y"}}


def test_empty_labels_clear_them(history: History) -> None:
    history.transaction(create(A, labels={"team": "x"}))
    (draft,) = drafts(history, Update(key=A, labels=b"{}"))
    assert body(draft)["labels"] == {}


def test_an_update_that_changes_nothing_makes_no_event(history: History) -> None:
    history.transaction(create(A, {"n": 1, "m": 2}, status={"s": 1}, labels={"l": "1"}))
    assert drafts(history, Update(key=A)) == []
    assert drafts(history, update(A, {"m": 2, "n": 1})) == []
    assert drafts(history, Update(key=A, labels=b'{"l":"1"}')) == []
    assert drafts(history, Update(key=A, precondition=at(history, A))) == []


def test_one_and_one_point_nought_are_different_values(history: History) -> None:
    history.transaction(create(A, {"n": 1}))
    assert len(drafts(history, update(A, {"n": 1.0}))) == 1


def test_an_update_at_the_current_version_passes(history: History) -> None:
    history.transaction(create(A))
    asked = Update(key=A, precondition=at(history, A), spec=b'{"n":1}')
    assert outline(drafts(history, asked)) == [("updated", "a")]


def test_an_update_of_a_changed_resource_conflicts_and_names_both_versions(
    history: History,
) -> None:
    history.transaction(create(A))
    stale = at(history, A)
    history.transaction(update(A, {"n": 1}))
    asked = Update(key=A, precondition=stale, spec=b"{}")
    error = refuses(history, ConflictError, asked)
    assert (error.expected, error.actual) == (1, 2)


def test_an_update_without_effect_still_conflicts_at_a_stale_version(
    history: History,
) -> None:
    history.transaction(create(A))
    stale = at(history, A)
    history.transaction(update(A, {"n": 1}))
    refuses(history, ConflictError, Update(key=A, precondition=stale, spec=b'{"n":1}'))


def test_an_update_of_a_deleted_resource_conflicts(history: History) -> None:
    history.transaction(create(A))
    stale = at(history, A)
    history.transaction(delete(A))
    error = refuses(history, ConflictError, Update(key=A, precondition=stale))
    assert (error.expected, error.actual) == (1, None)


def test_a_stale_version_never_hits_a_later_incarnation(history: History) -> None:
    history.transaction(create(A))
    stale = at(history, A)
    history.transaction(delete(A))
    history.transaction(create(A))
    refuses(history, ConflictError, Update(key=A, precondition=stale))
    refuses(history, ConflictError, Delete(key=A, precondition=stale))


@pytest.mark.parametrize("change", [Update, Delete])
def test_the_same_version_of_another_log_conflicts(
    history: History, change: type[Update | Delete]
) -> None:
    history.transaction(create(A))
    foreign = History(genesis(UUID(int=8)))
    foreign.transaction(create(A))
    refuses(history, ConflictError, change(key=A, precondition=at(foreign, A)))
    assert drafts(history, Delete(key=A, precondition=Precondition(1)))


def test_an_update_of_nothing_is_not_found(history: History) -> None:
    error = refuses(history, NotFoundError, Update(key=A))
    assert error.key.text == A


# Delete.


def test_a_deletion_says_nothing_of_what_it_deletes(history: History) -> None:
    history.transaction(create(A, {"secret": 1}, labels={"a": "b"}))
    (draft,) = drafts(history, delete(A))
    assert body(draft) == {"labels": {}, "owner": None, "spec": None, "status": None}
    assert draft.cause is None


def test_a_deletion_of_nothing_is_not_found(history: History) -> None:
    refuses(history, NotFoundError, delete(A))
    history.transaction(create(A))
    history.transaction(delete(A))
    refuses(history, NotFoundError, delete(A))


def test_a_deletion_at_a_version_passes_only_there(history: History) -> None:
    history.transaction(create(A))
    asked = Delete(key=A, precondition=Precondition(1))
    assert outline(drafts(history, asked)) == [("deleted", "a")]
    history.transaction(update(A, {"n": 1}))
    error = refuses(history, ConflictError, asked)
    assert (error.expected, error.actual) == (1, 2)


def test_a_deletion_at_a_version_of_what_is_not_there_conflicts(
    history: History,
) -> None:
    refuses(history, ConflictError, Delete(key=A, precondition=Precondition(1)))


# Owners.


def test_an_owner_that_is_missing_is_not_found(history: History) -> None:
    error = refuses(history, NotFoundError, create(B, owner=A))
    assert error.key.text == A


def test_nothing_owns_itself(history: History) -> None:
    refuses(history, NotFoundError, create(A, owner=A))


def test_an_owner_that_was_deleted_and_created_again_is_not_found(
    history: History,
) -> None:
    history.transaction(create(A))
    history.transaction(delete(A))
    history.transaction(create(A))
    refuses(history, NotFoundError, create(B, owner=Owner(A, 1)))
    assert len(drafts(history, create(B, owner=Owner(A, 3)))) == 1
    assert len(drafts(history, create(B, owner=Owner(A)))) == 1


def test_an_owner_that_was_updated_is_the_same_incarnation(history: History) -> None:
    history.transaction(create(A))
    history.transaction(update(A, {"n": 1}))
    assert len(drafts(history, create(B, owner=Owner(A, 1)))) == 1


def test_an_owner_may_be_created_earlier_in_the_transaction(history: History) -> None:
    found = drafts(history, create(A), create(B, owner=A))
    assert outline(found) == [("created", "a"), ("created", "b")]
    refuses(history, NotFoundError, create(B, owner=A), create(A))


def test_an_owner_that_the_transaction_deletes_is_not_found(history: History) -> None:
    history.transaction(create(A))
    refuses(history, NotFoundError, delete(A), create(B, owner=A))
    refuses(history, NotFoundError, delete(A), create(B, owner=Owner(A, 1)))


def test_an_incarnation_that_the_transaction_replaces_is_not_found(
    history: History,
) -> None:
    history.transaction(create(A))
    again: list[Change] = [delete(A), create(A)]
    refuses(history, NotFoundError, *again, create(B, owner=Owner(A, 1)))
    assert len(drafts(history, *again, create(B, owner=A))) == 3


def test_deleting_an_owner_deletes_chains_children_first_by_key(
    history: History,
) -> None:
    history.transaction(
        create(key("root")),
        create(key("z"), owner=key("root")),
        create(key("b"), owner=key("root")),
        create(key("b2"), owner=key("b")),
        create(key("b1"), owner=key("b")),
        create(key("other")),
    )
    found = drafts(history, delete(key("root")))
    assert outline(found) == [
        ("deleted", name) for name in ("b1", "b2", "b", "z", "root")
    ]
    assert [draft.cause for draft in found] == [key("root")] * 4 + [None]


def test_deleting_what_is_owned_leaves_its_owner(history: History) -> None:
    history.transaction(create(A), create(B, owner=A))
    assert outline(drafts(history, delete(B))) == [("deleted", "b")]


def test_what_was_owned_by_an_earlier_incarnation_stays_gone(history: History) -> None:
    history.transaction(create(A), create(B, owner=A))
    history.transaction(delete(A))
    history.transaction(create(A), create(B))
    assert outline(drafts(history, delete(A))) == [("deleted", "a")]


def test_a_cascade_sees_what_the_transaction_made_and_unmade(history: History) -> None:
    history.transaction(create(A), create(B, owner=A), create(C, owner=A))
    new = key("new")
    found = drafts(history, delete(B), create(new, owner=A), delete(A))
    assert outline(found) == [
        ("deleted", "b"),
        ("created", "new"),
        ("deleted", "c"),
        ("deleted", "new"),
        ("deleted", "a"),
    ]


def test_a_child_that_the_transaction_gave_another_owner_stays(
    history: History,
) -> None:
    history.transaction(create(A), create(B, owner=A), create(C))
    found = drafts(history, delete(B), create(B, owner=C), delete(A))
    assert outline(found)[-1:] == [("deleted", "a")]
    assert len(found) == 3


def test_a_child_that_the_transaction_updated_goes_with_its_owner(
    history: History,
) -> None:
    history.transaction(create(A), create(B, owner=A))
    found = drafts(history, update(B, {"n": 1}), delete(A))
    assert outline(found) == [("updated", "b"), ("deleted", "b"), ("deleted", "a")]


def test_a_cascade_needs_no_stack_as_deep_as_the_chain(history: History) -> None:
    depth = 5_000
    names = [f"n{number}" for number in range(depth)]
    chain = [create(key(names[0]))]
    chain += [create(key(mine), owner=key(above)) for above, mine in pairwise(names)]
    history.transaction(*chain)
    found = drafts(history, delete(key(names[0])))
    assert [draft.key for draft in found] == [key(name) for name in reversed(names)]


# Transactions.


def test_later_changes_see_what_earlier_ones_left(history: History) -> None:
    found = drafts(
        history,
        create(A, {"n": 1}, labels={"l": "1"}),
        update(A, {"n": 2}),
        update(A, {"n": 2}),
        delete(A),
        create(A, {"n": 3}),
    )
    assert outline(found) == [
        (operation, "a") for operation in ("created", "updated", "deleted", "created")
    ]
    assert body(found[1])["labels"] == {"l": "1"}
    refuses(history, NotFoundError, create(A), delete(A), update(A, {}))


def test_preconditions_look_at_the_state_before(history: History) -> None:
    history.transaction(create(A))
    here = at(history, A)
    found = drafts(
        history,
        Update(key=A, precondition=here, spec=b'{"n":1}'),
        Update(key=A, precondition=here, spec=b'{"n":2}'),
        Delete(key=A, precondition=here),
    )
    assert outline(found) == [("updated", "a"), ("updated", "a"), ("deleted", "a")]


def test_a_precondition_on_what_the_transaction_deleted_conflicts(
    history: History,
) -> None:
    history.transaction(create(A))
    here = at(history, A)
    refuses(history, ConflictError, delete(A), Update(key=A, precondition=here))
    refuses(history, ConflictError, delete(A), Delete(key=A, precondition=here))


def test_a_precondition_on_what_the_transaction_created_conflicts(
    history: History,
) -> None:
    here = Precondition(1)
    refuses(history, ConflictError, create(A), Update(key=A, precondition=here))


def test_the_first_change_that_fails_fails_all(history: History) -> None:
    refuses(history, AlreadyExistsError, create(A), create(A), delete(B))
    refuses(history, NotFoundError, delete(B), create(A), create(A))


def test_a_transaction_of_nothing_makes_nothing(history: History) -> None:
    assert drafts(history) == []


# Limits.


def creates(count: int) -> list[Create]:
    return [create(key(f"n{number}")) for number in range(count)]


@pytest.mark.slow
def test_a_transaction_has_a_hundred_thousand_events_and_no_more(
    history: History,
) -> None:
    assert TRANSACTION_EVENTS_MAX == 100_000
    full = creates(TRANSACTION_EVENTS_MAX)
    assert len(drafts(history, *full)) == TRANSACTION_EVENTS_MAX
    error = refuses(history, InvalidError, *full, create(A))
    assert "100000" in str(error).replace(",", "")


@pytest.mark.slow
def test_a_cascade_counts_as_the_events_it_makes(history: History) -> None:
    history.transaction(create(A))
    owned = [
        create(key(f"n{number}"), owner=A)
        for number in range(TRANSACTION_EVENTS_MAX - 1)
    ]
    history.transaction(*owned)
    assert len(drafts(history, delete(A))) == TRANSACTION_EVENTS_MAX
    history.transaction(create(key("last"), owner=A))
    refuses(history, InvalidError, delete(A))


def test_a_transaction_has_64_mebibytes_and_no_more(history: History) -> None:
    assert TRANSACTION_BYTES_MAX == 64 * 1024 * 1024
    blob = b'{"blob":"%b"}' % (b"x" * (1024 * 1024 - 100))
    fits = [Create(key=key(f"n{number}"), spec=blob) for number in range(64)]
    assert len(drafts(history, *fits)) == 64
    more = Create(key=A, spec=b'{"blob":"%b"}' % (b"x" * 10_000))
    refuses(history, InvalidError, *fits, more)


def bulk(history: History, what: str, count: int) -> list[Change]:
    """Return many changes of one transaction, whose state is prepared."""
    match what:
        case "deletions":
            history.transaction(*creates(count))
            return [delete(key(f"n{number}")) for number in range(count)]
        case "owned by one resource":
            history.transaction(create(A))
            owner = Owner(A, 1)
            return [create(key(f"n{number}"), owner=owner) for number in range(count)]
        case "created and deleted":
            made = creates(count)
            return [*made, *(delete(each.key) for each in made)]
        case _:
            history.transaction(*creates(count))
            return [update(key(f"n{number}"), {"n": 1}) for number in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", ["updates", "deletions", "owned by one resource", "created and deleted"]
)
def test_twice_the_changes_take_about_twice_the_steps(what: str) -> None:
    """Else a transaction as large as is allowed would stop the process for minutes."""

    def steps(count: int) -> int:
        history = History(genesis(LOG))
        changes = bulk(history, what, count)
        return instructions(lambda: drafts(history, *changes))

    assert steps(2_000) < 2.2 * steps(1_000)


def instructions(work: Callable[[], object]) -> int:
    """Return how many instructions of the interpreter `work` takes: no clock."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


# Request ids.


def request(request_id: str, content: str) -> dict[str, Any]:
    return {"request_id": request_id, "request_digest": content}


def verdict(history: History, *changes: Change, **command: Any) -> Any:
    return decide(
        Command(changes=changes, **command),
        history.projections.resources,
        RequestOverlay(history.projections.requests),
    )


def test_the_same_request_again_is_found_where_it_was_committed(
    history: History,
) -> None:
    history.transaction(create(C))
    history.transaction(create(A), create(B), **request("r", "content"))
    history.transaction(delete(A))
    again = verdict(history, create(A), create(B), **request("r", "content"))
    assert again == Repeated(commit=3)


def test_a_request_id_with_other_content_conflicts(history: History) -> None:
    history.transaction(create(A), **request("r", "content"))
    error = refuses(history, ConflictError, create(B), **request("r", "other"))
    assert "'r'" in str(error)
    assert (error.expected, error.actual) == (None, None)


def test_a_request_id_comes_before_all_preconditions(history: History) -> None:
    history.transaction(create(A), **request("r", "content"))
    assert isinstance(verdict(history, create(A), **request("r", "content")), Repeated)
    refuses(history, AlreadyExistsError, create(A), **request("s", "content"))


def test_a_request_that_failed_or_did_nothing_is_not_remembered(
    history: History,
) -> None:
    refuses(history, NotFoundError, delete(A), **request("r", "content"))
    assert drafts(history, create(A), **request("r", "other"))


# Stamps.


def test_a_stamped_transaction_follows_its_place_and_the_chain(
    history: History,
) -> None:
    history.transaction(create(C))
    place = history.head
    events = history.transaction(create(A), create(B), actor="alice", reason="why")
    assert_chained(events, place)
    assert {event.commit for event in events} == {3}
    assert len({event.tx for event in events}) == 1
    assert len({event.time for event in events}) == 1
    assert {event.actor for event in events} == {"alice"}
    assert len({event.salt for event in events}) == 2
    assert {event.schema_version for event in events} == {1}


def test_the_metadata_tells_creation_cause_reason_and_request(history: History) -> None:
    history.transaction(create(A), create(B, owner=A))
    made = history.events[0]
    assert bytes(made.metadata) == b"{}"
    child, root = history.transaction(
        delete(A), reason="tidy up", **request("r", "content")
    )
    known = {
        "created_at": made.time,
        "reason": "tidy up",
        "request_digest": "content",
        "request_id": "r",
    }
    assert json.loads(bytes(root.metadata)) == {**known, "created_version": 1}
    assert json.loads(bytes(child.metadata)) == {
        **known,
        "created_version": 2,
        "cause": A,
    }
    names = list(json.loads(bytes(child.metadata)))
    assert names == sorted(names)


def test_the_metadata_of_an_update_tells_the_incarnation_it_belongs_to(
    history: History,
) -> None:
    history.transaction(create(A))
    events = history.transaction(
        update(A, {"n": 1}), delete(A), create(A), update(A, {"n": 2})
    )
    known = [json.loads(bytes(event.metadata)) for event in events]
    assert [each.get("created_version") for each in known] == [1, 1, None, 4]
    assert known[3]["created_at"] == events[2].time


def test_stamping_again_keeps_nothing_but_the_content_and_the_tx(
    history: History,
) -> None:
    command = Command(changes=(create(A),))
    found = drafts(history, create(A))
    place = history.head

    def stamped(time: int) -> Any:
        return stamp(
            command,
            found,
            state=history.projections.resources,
            after=place,
            tx="00" * 16,
            time=time,
        )[0]

    first, second = stamped(1), stamped(2)
    assert first.salt != second.salt
    assert first.hash != second.hash
    assert msgspec.structs.replace(
        first, time=2, salt=second.salt, hash=second.hash
    ) == (second)


def test_what_is_required_must_hold_before_anything_is_decided(
    history: History,
) -> None:
    history.transaction(create(A), create(B))
    required = ((A, at(history, A)),)
    found = drafts(history, update(B, {"n": 1}), required=required)
    assert outline(found) == [("updated", "b")]
    history.transaction(update(A, {"n": 1}))
    with pytest.raises(ConflictError) as caught:
        drafts(history, update(B, {"n": 2}), required=required)
    assert caught.value.key is not None
    assert caught.value.key.text == A


def test_what_is_required_and_gone_is_a_conflict(history: History) -> None:
    history.transaction(create(A))
    required = ((A, at(history, A)),)
    history.transaction(delete(A))
    with pytest.raises(ConflictError) as caught:
        drafts(history, create(B), required=required)
    assert caught.value.actual is None
