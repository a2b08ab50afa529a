"""The same request id again returns the original result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from evstore import Key
from evstore.errors import AlreadyExistsError, ConflictError, InvalidError

if TYPE_CHECKING:
    from evstore import Resource, Store
    from integration.conftest import Backend

WEST = Key(type="Zone", name="west")


async def create(store: Store, request_id: str = "once", **spec: int) -> Resource[Any]:
    return await store.create("Zone", "west", spec=spec, request_id=request_id)


async def test_a_repeated_creation_returns_the_resource(store: Store) -> None:
    first = await create(store, n=1)
    assert await create(store, n=1) == first
    assert await store.head() == 1
    with pytest.raises(AlreadyExistsError):
        await create(store, request_id="another", n=1)


async def test_another_store_knows_the_request(store: Store, other: Store) -> None:
    first = await create(store, n=1)
    assert await create(other, n=1) == first
    assert await other.head() == 1


async def test_a_request_is_known_after_a_restart(backend: Backend) -> None:
    async with backend.open() as store:
        first = await create(store, n=1)
    async with backend.open() as store:
        assert await create(store, n=1) == first
        assert await store.head() == 1


async def test_two_at_the_same_time_are_applied_once(store: Store) -> None:
    results: list[Resource[Any]] = []

    async def one() -> None:
        results.append(await create(store, n=1))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(one)
    assert len(results) == 5
    assert len(set(results)) == 1
    assert await store.head() == 1


async def test_two_stores_at_the_same_time_apply_it_once(
    store: Store, other: Store
) -> None:
    results: list[Resource[Any]] = []

    async def one(each: Store) -> None:
        results.append(await create(each, n=1))

    async with anyio.create_task_group() as tasks:
        for each in (store, other, store, other):
            tasks.start_soon(one, each)
    assert len(set(results)) == 1
    assert await store.head() == 1


async def test_other_content_under_the_same_id_is_a_conflict(
    store: Store, other: Store
) -> None:
    await create(store, n=1)
    for attempt in (
        lambda: create(store, n=2),
        lambda: create(other, n=2),
        lambda: store.create("Zone", "east", spec={"n": 1}, request_id="once"),
        lambda: store.update(WEST, spec={"n": 1}, request_id="once"),
        lambda: store.delete("Zone", "west", request_id="once"),
    ):
        with pytest.raises(ConflictError, match="once") as caught:
            await attempt()
        assert (caught.value.expected, caught.value.actual) == (None, None)
    assert await store.head() == 1


async def test_a_request_is_looked_up_before_versions_are_compared(
    store: Store,
) -> None:
    zone = await store.create("Zone", "west", spec={})
    first = await store.update(zone, spec={"n": 1}, request_id="once")
    # The retry of a success must not be told that its version is stale.
    assert await store.update(zone, spec={"n": 1}, request_id="once") == first


async def test_the_result_is_the_original_one_after_later_changes(
    store: Store, other: Store
) -> None:
    first = await create(store, n=1)
    await store.update(first, spec={"n": 2})
    for each in (store, other):
        again = await create(each, n=1)
        assert again == first
        assert (again.version, again.spec) == (1, {"n": 1})
        assert again.created_at == first.created_at
    await store.delete("Zone", "west")
    for each in (store, other):
        assert await create(each, n=1) == first
    assert await store.head() == 3


async def test_a_repeated_deletion_is_done(store: Store, other: Store) -> None:
    await create(store, n=1)
    await store.delete("Zone", "west", request_id="gone")
    await store.delete("Zone", "west", request_id="gone")
    await store.create("Zone", "west", spec={})
    await other.delete("Zone", "west", request_id="gone")
    assert await store.head() == 3


async def test_a_repeated_transaction_returns_all_its_results(store: Store) -> None:
    await store.create("Zone", "old", spec={})
    results: list[list[Resource[Any] | None]] = []
    for _ in range(2):
        async with store.transaction(request_id="rollout") as tx:
            tx.create("Zone", "west", spec={"n": 1})
            tx.update(WEST, spec={"n": 2})
            tx.delete("Zone", "old")
        results.append(tx.results)
        await store.update(WEST, spec={"n": 3})
    assert results[0] == results[1]
    assert results[0][0] is not None
    assert results[0][0].spec == {"n": 2}
    assert results[0][2] is None
    assert await store.head() == 5


async def test_a_rejected_request_may_be_made_again(store: Store) -> None:
    await store.create("Zone", "west", spec={})
    with pytest.raises(AlreadyExistsError):
        await create(store)
    await store.delete("Zone", "west")
    assert (await create(store)).version == 3


async def test_actor_and_reason_are_not_part_of_the_content(store: Store) -> None:
    first = await store.create(
        "Zone", "west", spec={}, actor="a", reason="first", request_id="once"
    )
    again = await store.create(
        "Zone", "west", spec={}, actor="b", reason="second", request_id="once"
    )
    assert first == again


@pytest.mark.parametrize("request_id", ["", "x" * 254, "a\0b", "\ud800"])
async def test_a_wrong_request_id_is_invalid(store: Store, request_id: str) -> None:
    with pytest.raises(InvalidError, match="request_id"):
        await create(store, request_id=request_id)
