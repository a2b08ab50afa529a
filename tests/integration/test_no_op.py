"""An update that changes nothing appends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evstore import Key

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore import Resource, Store

WEST = Key(type="Zone", name="west")

CHANGES: dict[str, Callable[[Store, Resource[object]], object]] = {
    "the same spec": lambda store, old: store.update(old, spec={"a": 1, "b": [1.0]}),
    "other order of keys": lambda store, old: store.update(
        old, spec={"b": [1.0], "a": 1}
    ),
    "nothing given": lambda store, old: store.update(old),
    "the same labels": lambda store, old: store.update(old, labels={"x": "y"}),
    "the same status": lambda store, old: store.update(old, status={"ok": True}),
    "by key": lambda store, _: store.update(WEST, spec={"a": 1, "b": [1.0]}),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_an_update_without_effect_appends_nothing(
    store: Store, other: Store, change: str
) -> None:
    created = await store.create(
        "Zone",
        "west",
        spec={"a": 1, "b": [1.0]},
        labels={"x": "y"},
        status={"ok": True},
    )
    for each in (store, other):
        same = await CHANGES[change](each, created)  # type: ignore[misc]
        assert same == created
        assert same.modified_at == created.modified_at
    assert await store.head() == 1


DIFFERENT: dict[str, Callable[[Store, Resource[object]], object]] = {
    "a whole number for a float": lambda store, old: store.update(
        old, spec={"a": 1, "b": [1]}
    ),
    "true for 1": lambda store, old: store.update(old, spec={"a": True, "b": [1.0]}),
    "null for absent": lambda store, old: store.update(
        old, spec={"a": 1, "b": [1.0], "c": None}
    ),
    "labels cleared": lambda store, old: store.update(old, labels={}),
    "status cleared": lambda store, old: store.update(old, status=None),
    "an empty status": lambda store, old: store.update(old, status={}),
}


@pytest.mark.parametrize("change", DIFFERENT)
async def test_what_looks_alike_is_not_the_same(store: Store, change: str) -> None:
    created = await store.create(
        "Zone",
        "west",
        spec={"a": 1, "b": [1.0]},
        labels={"x": "y"},
        status={"ok": True},
    )
    changed = await DIFFERENT[change](store, created)  # type: ignore[misc]
    assert changed.version == 2


async def test_there_and_back_is_two_changes(store: Store) -> None:
    created = await store.create("Zone", "west", spec={"n": 1})
    changed = await store.update(created, spec={"n": 2})
    back = await store.update(changed, spec={"n": 1})
    assert back.version == 3


async def test_a_no_op_wakes_no_watcher_and_moves_no_position(store: Store) -> None:
    created = await store.create("Zone", "west", spec={"n": 1})
    digest = store.digest()
    await store.update(created, spec={"n": 1}, actor="alice", reason="again")
    assert (store.position, store.digest()) == (1, digest)
    assert [event.position async for event in store.events()] == [1]


async def test_a_no_op_inside_a_transaction_leaves_the_rest(store: Store) -> None:
    created = await store.create("Zone", "west", spec={"n": 1})
    async with store.transaction() as tx:
        tx.update(created, spec={"n": 1})
        tx.create("Zone", "east", spec={})
    assert tx.results[0] == created
    assert await store.head() == 2
