"""Transactions: all changes or none, each on what the ones before it have left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

import evstore
from evstore import Key
from evstore.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore import Store, Transaction

    Add = Callable[[Transaction], None]

WEST = Key(type="Zone", name="west")


async def transact(store: Store, *add: Callable[[Transaction], None]) -> None:
    async with store.transaction() as tx:
        for each in add:
            each(tx)


def creating(name: str, spec: dict[str, Any] | None = None) -> Add:
    return lambda tx: tx.create("Zone", name, spec=spec or {})


def deleting(name: str) -> Add:
    return lambda tx: tx.delete("Zone", name)


def raising(_: Transaction) -> None:
    raise KeyError


async def test_all_changes_are_appended_together(store: Store, other: Store) -> None:
    async with store.transaction(actor="bob", reason="rollout 42") as tx:
        tx.create("Mesh", "default", spec={})
        tx.create("Zone", "west", spec={"n": 1})
        tx.update(WEST, spec={"n": 2})
        tx.delete("Mesh", "default")
        tx.create("Mesh", "default", spec={"again": True})
    events = [event async for event in store.events()]
    assert [(event.operation, event.name) for event in events] == [
        ("created", "default"),
        ("created", "west"),
        ("updated", "west"),
        ("deleted", "default"),
        ("created", "default"),
    ]
    assert {event.commit for event in events} == {5}
    assert {event.actor for event in events} == {"bob"}
    assert {event.reason for event in events} == {"rollout 42"}
    assert {event.recorded_at for event in events} == {events[0].recorded_at}
    assert (await other.get("Zone", "west", consistent=True)).spec == {"n": 2}
    assert other.digest() == store.digest()


async def test_results_are_the_resources_after_the_transaction(store: Store) -> None:
    old = await store.create("Zone", "east", spec={})
    async with store.transaction() as tx:
        tx.create("Zone", "west", spec={"n": 1})
        tx.update(WEST, spec={"n": 2})
        tx.update(old, spec={})
        tx.delete("Zone", "east")
    west, same, east, gone = tx.results
    assert west is not None
    assert west == same
    assert (west.version, west.commit, west.spec) == (3, 4, {"n": 2})
    assert west.created_version == 2
    assert east is None
    assert gone is None


async def test_a_change_that_fails_takes_all_along(store: Store) -> None:
    await store.create("Zone", "west", spec={})
    with pytest.raises(AlreadyExistsError):
        await transact(store, creating("east"), creating("west"))
    with pytest.raises(NotFoundError):
        await transact(store, creating("east"), deleting("nowhere"))
    assert await store.head() == 1
    with pytest.raises(NotFoundError):
        await store.get("Zone", "east")


async def test_a_body_that_raises_sends_nothing(store: Store) -> None:
    with pytest.raises(KeyError):
        await transact(store, creating("west"), raising)
    assert await store.head() == 0


async def test_a_cancelled_body_sends_nothing(store: Store) -> None:
    with anyio.CancelScope() as scope:
        async with store.transaction() as tx:
            tx.create("Zone", "west", spec={})
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert await store.head() == 0


async def test_an_empty_transaction_appends_nothing(store: Store) -> None:
    async with store.transaction() as tx:
        pass
    assert tx.results == []
    assert await store.head() == 0


async def test_the_same_key_twice_sees_what_came_before(store: Store) -> None:
    with pytest.raises(AlreadyExistsError):
        await transact(store, creating("west"), creating("west"))
    with pytest.raises(NotFoundError):
        await transact(store, creating("west"), deleting("west"), deleting("west"))
    async with store.transaction() as tx:
        tx.create("Zone", "west", spec={"n": 1})
        tx.update(WEST, labels={"a": "b"})
        tx.update(WEST, status={"ok": True})
    assert tx.results[0] is not None
    west = tx.results[0]
    assert (west.spec, west.labels, west.status) == ({"n": 1}, {"a": "b"}, {"ok": True})


async def test_preconditions_look_at_the_state_before(store: Store) -> None:
    old = await store.create("Zone", "west", spec={"n": 0})
    async with store.transaction() as tx:
        tx.update(old, spec={"n": 1})
        tx.update(old, labels={"a": "b"})
    assert tx.results[1] is not None
    assert tx.results[1].version == 3
    assert tx.results[1].spec == {"n": 1}
    with pytest.raises(ConflictError):
        async with store.transaction() as tx:
            tx.update(old, spec={"n": 2})


async def test_an_argument_is_checked_when_it_is_added(store: Store) -> None:
    spec = {"n": 1}
    async with store.transaction() as tx:
        with pytest.raises(InvalidError):
            tx.create("zone", "west", spec={})
        with pytest.raises(InvalidError):
            tx.create("Zone", "West!", spec={})
        tx.create("Zone", "west", spec=spec)
        spec["n"] = 2
    assert (await store.get("Zone", "west")).spec == {"n": 1}


async def test_a_transaction_of_no_ops_appends_nothing(store: Store) -> None:
    created = await store.create("Zone", "west", spec={"n": 1})
    async with store.transaction() as tx:
        tx.update(created, spec={"n": 1})
        tx.update(WEST, labels={})
    assert tx.results == [created, created]
    assert await store.head() == 1


async def test_ten_thousand_changes_are_one_transaction(store: Store) -> None:
    async with store.transaction() as tx:
        for number in range(10_000):
            tx.create("Zone", f"zone-{number}", spec={"n": number})
    assert len(tx.results) == 10_000
    assert tx.results[0] is not None
    assert tx.results[0].commit == await store.head() == 10_000


async def test_a_transaction_that_is_too_large_is_invalid() -> None:
    async with evstore.open() as store:
        many = [creating(f"zone-{number}") for number in range(100_001)]
        with pytest.raises(InvalidError, match=r"100,?000"):
            await transact(store, *many)
        assert store.position == 0


async def test_a_transaction_of_too_many_bytes_is_invalid() -> None:
    async with evstore.open() as store:
        spec = {"x": "x" * 1_040_000}
        large = [creating(f"zone-{number}", spec) for number in range(65)]
        with pytest.raises(InvalidError, match="bytes"):
            await transact(store, *large)
        assert store.position == 0


async def test_a_closed_store_refuses_a_transaction() -> None:
    async with evstore.open() as store:
        pass
    with pytest.raises(UnavailableError):
        async with store.transaction() as tx:
            tx.create("Zone", "west", spec={})
