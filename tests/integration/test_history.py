"""What changed, who did it, what was it before: diff, blame and history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonpatch
import pytest
from rich.console import Console

import evstore
import evstore.blocking
from evstore import InvalidError, Key, NotFoundError, Operation

if TYPE_CHECKING:
    from evstore import Diff, Store, Version

KEY = Key(type="Dataplane", mesh="m", name="web")


async def make(store: Store) -> None:
    """Make positions 1 to 8: two incarnations of `web`, and a neighbour."""
    await store.create("Mesh", "m", spec={}, actor="al", reason="begin")
    web = await store.create(
        "Dataplane", "web", mesh="m", spec={"port": 1, "to": ["a"]}, actor="al"
    )
    web = await store.update(
        web, spec={"port": 2, "to": ["a"]}, actor="bob", reason="x y"
    )
    await store.create("Dataplane", "db", mesh="m", spec={}, labels={"k.io/a": "b"})
    await store.delete("Dataplane", "web", mesh="m", actor="bob", reason="away")
    await store.create("Dataplane", "web", mesh="m", spec={"port": 3, "to": ["b"]})
    await store.update(KEY, spec={"port": 3, "to": ["a", "b"]}, actor="carl")
    await store.update(KEY, labels={"l": "1"}, actor="bob", reason="x z")


def short(found: Diff) -> list[tuple[str, str, list[str]]]:
    return [
        (each.key.name, each.operation.value, [leaf.path for leaf in each.differences])
        for each in found.changes
    ]


async def test_a_diff_tells_what_was_created_changed_and_deleted(store: Store) -> None:
    await make(store)
    assert short(await store.diff(3, 5)) == [
        ("db", "created", ["/spec", "/labels/k.io~1a"]),
        ("web", "deleted", ["/spec/port", "/spec/to/0"]),
    ]
    assert short(await store.diff(3)) == [
        ("db", "created", ["/spec", "/labels/k.io~1a"]),
        ("web", "updated", ["/spec/port", "/spec/to/1", "/labels/l"]),
    ]
    found = await store.diff(3)
    assert (found.before, found.after) == (3, 8)
    web = found.changes[1]
    assert web.before is not None
    assert web.after == await store.get("Dataplane", "web", mesh="m")
    assert (web.before.version, web.before.created_version) == (3, 2)


async def test_a_diff_backwards_is_what_going_back_would_change(store: Store) -> None:
    await make(store)
    forth, back = await store.diff(3, 8), await store.diff(8, 3)
    assert (back.before, back.after) == (8, 3)
    assert [(each.before, each.after) for each in back.changes] == [
        (each.after, each.before) for each in forth.changes
    ]


async def test_a_diff_of_one_moment_or_of_what_came_back_is_empty(store: Store) -> None:
    await make(store)
    await store.update(KEY, labels={})
    await store.update(KEY, labels={"l": "1"})
    assert short(await store.diff(8)) == []
    assert short(await store.diff(5, 5)) == []
    # Created and deleted between the two.
    assert [each for each in short(await store.diff(1, 5)) if each[0] == "web"] == []


async def test_a_diff_is_filtered_and_takes_times(store: Store) -> None:
    await make(store)
    then = (await store.get("Dataplane", "db", mesh="m")).created_at
    assert [each[0] for each in short(await store.diff(then))] == ["web"]
    assert [each[0] for each in short(await store.diff(0, then))] == ["db", "web", "m"]
    only = await store.diff(0, type="Dataplane", name="db")
    assert [each[0] for each in short(only)] == ["db"]
    assert short(await store.diff(0, mesh="")) == [("m", "created", ["/spec"])]


@pytest.mark.parametrize("wrong", [(99, None), (1, 99), (-1, None), ("now", None)])
async def test_a_diff_of_no_moment_is_refused(store: Store, wrong: Any) -> None:
    await make(store)
    with pytest.raises(InvalidError):
        await store.diff(*wrong)


async def test_patches_make_one_state_of_the_other(store: Store) -> None:
    await make(store)
    for each in (await store.diff(3, 8)).changes:
        before = None if each.before is None else each.before.spec
        made = jsonpatch.apply_patch(
            None if before is None else {"spec": before}, each.patch
        )
        assert each.after is not None
        labels = {"labels": each.after.labels} if each.after.labels else {}
        assert made == {"spec": each.after.spec, **labels}


async def test_blame_names_the_event_behind_each_leaf(store: Store) -> None:
    await make(store)
    found = await store.blame("Dataplane", "web", mesh="m")
    assert found.resource == await store.get("Dataplane", "web", mesh="m")
    assert [
        (leaf.path, leaf.value, leaf.event.position, leaf.event.actor)
        for leaf in found.leaves
    ] == [
        ("/spec/port", 3, 6, ""),
        ("/spec/to/0", "a", 7, "carl"),
        ("/spec/to/1", "b", 6, ""),  # it moved, and is still what it was
        ("/labels/l", "1", 8, "bob"),
    ]
    assert found.leaves[-1].event.reason == "x z"


async def test_blame_as_of_then(store: Store) -> None:
    await make(store)
    found = await store.blame("Dataplane", "web", mesh="m", at=4)
    assert [(leaf.path, leaf.event.position) for leaf in found.leaves] == [
        ("/spec/port", 3),
        ("/spec/to/0", 2),
    ]
    assert found.resource.version == 3
    for at in (0, 1, 5):
        with pytest.raises(NotFoundError, match=f"position {at}"):
            await store.blame("Dataplane", "web", mesh="m", at=at)
    await store.delete("Dataplane", "web", mesh="m")
    with pytest.raises(NotFoundError):
        await store.blame("Dataplane", "web", mesh="m")


async def versions(store: Store, *names: str, **more: Any) -> list[Version]:
    return [each async for each in store.history(*names, **more)]


async def test_a_history_tells_incarnations_apart(store: Store) -> None:
    await make(store)
    found = await versions(store, "Dataplane", "web", mesh="m")
    assert [
        (
            each.event.position,
            each.created_version,
            each.before and each.before.position,
            [leaf.path for leaf in each.differences],
        )
        for each in found
    ] == [
        (2, 2, None, ["/spec/port", "/spec/to/0"]),
        (3, 2, 2, ["/spec/port"]),
        (5, 2, 3, ["/spec/port", "/spec/to/0"]),
        (6, 6, None, ["/spec/port", "/spec/to/0"]),
        (7, 6, 6, ["/spec/to/0"]),
        (8, 6, 7, ["/labels/l"]),
    ]


@pytest.mark.parametrize(
    ("filters", "positions"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"actor": "bob"}, [3, 5, 8]),
        ({"operation": "updated"}, [3, 7, 8]),
        ({"operation": Operation.DELETED}, [5]),
        ({"reason": "x"}, [3, 8]),
        ({"reason": "x_"}, []),
        ({"reason": "x", "actor": "bob", "operation": "updated", "until": 5}, [3]),
        ({"since": 6, "type": "Dataplane"}, [6, 7, 8]),
        ({"after": 6, "limit": 1}, [7]),
        ({"reverse": True, "limit": 2, "actor": "bob"}, [8, 5]),
    ],
)
async def test_filters_combine_and_hide_no_predecessor(
    store: Store, filters: dict[str, Any], positions: list[int]
) -> None:
    await make(store)
    found = await versions(store, **filters)
    assert [each.event.position for each in found] == positions
    assert [each async for each in store.events(**filters)] == [
        each.event for each in found
    ]
    before = {3: 2, 5: 3, 7: 6, 8: 7}
    assert [each.before and each.before.position for each in found] == [
        before.get(position) for position in positions
    ]


async def test_a_long_history_has_every_predecessor(store: Store) -> None:
    await store.create("Dataplane", "web", mesh="m", spec={"n": 0})
    async with store.transaction() as tx:
        for number in range(1, 1_300):
            tx.update(KEY, spec={"n": number})
    for reverse in (False, True):
        found = await versions(store, "Dataplane", "web", mesh="m", reverse=reverse)
        assert len(found) == 1_300
        for each in found:
            before = each.event.position - 1
            assert (each.before.position if each.before else 0) == before


async def test_a_redaction_is_told_and_changes_no_version(store: Store) -> None:
    await make(store)
    await store.redact(
        "Dataplane", "web", mesh="m", version=7, fields=["spec.port"], reason="leak"
    )
    found = await versions(store, "Dataplane", "web", mesh="m")
    assert found[-1].event.operation is Operation.REDACTED
    assert (found[-1].created_version, found[-1].differences) == (6, [])
    blamed = await store.blame("Dataplane", "web", mesh="m")
    assert {leaf.event.operation for leaf in blamed.leaves} <= {
        Operation.CREATED,
        Operation.UPDATED,
    }


async def test_a_wrong_operation_is_named(store: Store) -> None:
    with pytest.raises(InvalidError, match="use created, updated, deleted") as caught:
        await versions(store, operation="removed")
    assert caught.value.path == "operation"


async def test_values_stay_out_of_reprs(store: Store) -> None:
    await store.create("Secret", "s", mesh="m", spec={"data": "hunter2"})
    await store.update(Key(type="Secret", mesh="m", name="s"), spec={"data": "hunter3"})
    await store.update(Key(type="Secret", mesh="m", name="s"), spec={"data": "hunter4"})
    found = [
        await store.diff(0),
        (await store.diff(0)).changes[0].differences,
        await store.blame("Secret", "s", mesh="m"),
        await versions(store, "Secret", "s"),
        await store.revert(commit=2, dry_run=True),
    ]
    assert "hunter" not in repr(found)
    console = Console(record=True, quiet=True)
    with console.capture() as captured:
        console.print(found)
    assert "hunter" not in captured.get()


def test_threads_have_the_same_methods() -> None:
    with evstore.blocking.open() as store:
        store.create("Mesh", "m", spec={"a": 1})
        assert [each.event.position for each in store.history("Mesh", "m")] == [1]
        assert store.blame("Mesh", "m").leaves[0].path == "/spec/a"
        assert store.diff(0).changes[0].key.name == "m"
        assert store.revert(to=0).commit == 2
