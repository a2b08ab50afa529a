"""Deleting an owner deletes what it owns, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evstore import Key
from evstore.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from evstore import Event, Store
    from integration.conftest import Backend

MESH = Key(type="Mesh", name="default")


async def last_transaction(store: Store) -> list[Event]:
    events = [event async for event in store.events(reverse=True)]
    return [event for event in reversed(events) if event.commit == events[0].commit]


async def names(store: Store, type_: str) -> list[str]:
    return [each.name for each in (await store.list(type_)).items]


async def _family(store: Store) -> None:
    mesh = await store.create("Mesh", "default", spec={})
    for name in ("b", "a"):
        dataplane = await store.create("Dataplane", name, spec={}, owner=mesh)
        for suffix in ("2", "1"):
            await store.create("Insight", name + suffix, spec={}, owner=dataplane)
    await store.create("Dataplane", "free", spec={})


async def test_a_chain_goes_with_its_owner_children_first(
    store: Store, other: Store
) -> None:
    await _family(store)
    await store.delete("Mesh", "default", actor="alice", reason="gone")
    events = await last_transaction(store)
    assert [event.name for event in events] == [
        *("a1", "a2", "a", "b1", "b2", "b"),
        "default",
    ]
    assert {event.operation for event in events} == {"deleted"}
    assert {event.actor for event in events} == {"alice"}
    assert {event.reason for event in events} == {"gone"}
    assert {event.recorded_at for event in events} == {events[0].recorded_at}
    assert all(event.spec is None for event in events)
    for each in (store, other):
        page = await each.list("Dataplane", consistent=True)
        assert [item.name for item in page.items] == ["free"]
        assert await names(each, "Insight") == []


async def test_deleting_a_child_leaves_its_owner(store: Store) -> None:
    await _family(store)
    await store.delete("Dataplane", "a")
    assert await names(store, "Dataplane") == ["b", "free"]
    assert await names(store, "Insight") == ["b1", "b2"]
    assert (await store.get("Mesh", "default")).version == 1


async def test_a_long_chain_goes_in_one_transaction(store: Store) -> None:
    length = 2000  # more than Python's stack would take
    async with store.transaction() as tx:
        tx.create("Link", "n0", spec={})
        for number in range(1, length):
            owner = Key(type="Link", name=f"n{number - 1}")
            tx.create("Link", f"n{number}", spec={}, owner=owner)
    await store.delete("Link", "n0")
    events = await last_transaction(store)
    expected = [f"n{number}" for number in reversed(range(length))]
    assert [event.name for event in events] == expected
    assert await names(store, "Link") == []


async def test_a_missing_owner_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError) as caught:
        await store.create("Dataplane", "web", spec={}, owner=MESH)
    assert caught.value.key == MESH
    assert await store.head() == 0


async def test_an_owner_that_was_created_again_is_not_found(
    store: Store, other: Store
) -> None:
    mesh = await store.create("Mesh", "default", spec={})
    await other.delete("Mesh", "default")
    await other.create("Mesh", "default", spec={})
    with pytest.raises(NotFoundError):
        await store.create("Dataplane", "web", spec={}, owner=mesh)
    # Its key alone means whatever is there.
    await store.create("Dataplane", "web", spec={}, owner=MESH)


async def test_an_owner_that_was_changed_since_is_the_same_one(store: Store) -> None:
    mesh = await store.create("Mesh", "default", spec={})
    await store.update(mesh, spec={"n": 1})
    created = await store.create("Dataplane", "web", spec={}, owner=mesh)
    assert created.owner == MESH


async def test_what_the_first_incarnation_owned_is_not_the_seconds(
    store: Store,
) -> None:
    mesh = await store.create("Mesh", "default", spec={})
    await store.create("Dataplane", "web", spec={}, owner=mesh)
    await store.delete("Mesh", "default")
    await store.create("Mesh", "default", spec={})
    await store.create("Dataplane", "web", spec={})
    await store.delete("Mesh", "default")
    assert await names(store, "Dataplane") == ["web"]


async def test_an_owner_made_in_the_same_transaction_counts(store: Store) -> None:
    async with store.transaction() as tx:
        tx.create("Mesh", "default", spec={})
        tx.create("Dataplane", "web", spec={}, owner=MESH)
    async with store.transaction() as tx:
        tx.create("Dataplane", "api", spec={}, owner=MESH)
        tx.delete("Mesh", "default")
    assert await names(store, "Dataplane") == []
    assert len(await last_transaction(store)) == 4


async def test_an_update_keeps_the_owner(store: Store) -> None:
    mesh = await store.create("Mesh", "default", spec={})
    web = await store.create("Dataplane", "web", spec={}, owner=mesh)
    assert (await store.update(web, spec={"n": 1}, labels={"a": "b"})).owner == MESH
    await store.delete("Mesh", "default")
    with pytest.raises(NotFoundError):
        await store.get("Dataplane", "web")


async def test_a_cascade_keeps_the_precondition_of_the_owner(store: Store) -> None:
    mesh = await store.create("Mesh", "default", spec={})
    await store.create("Dataplane", "web", spec={}, owner=mesh)
    await store.update(mesh, spec={"n": 1})
    with pytest.raises(ConflictError):
        await store.delete("Mesh", "default", version=mesh)
    assert await names(store, "Dataplane") == ["web"]


async def test_ownership_survives_a_restart(backend: Backend) -> None:
    async with backend.open() as store:
        await _family(store)
    async with backend.open() as store:
        await store.delete("Mesh", "default")
        assert await names(store, "Dataplane") == ["free"]
