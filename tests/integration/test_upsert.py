"""Upsert: created or changed, whichever it takes, and retried on a conflict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest

import evstore
from evstore import Config
from evstore.config import UpsertConfig
from evstore.errors import ConflictError, InvalidError
from fault.history import adjusted

if TYPE_CHECKING:
    from evstore import Resource, Store


def count(current: Resource[Any] | None) -> dict[str, Any]:
    return {"n": 1 if current is None else current.spec["n"] + 1}


def retrying(config: Config, *, times: int, backoff: float = 0.001) -> Config:
    upsert = UpsertConfig(
        conflict_retry_base_backoff=backoff, conflict_retry_max_times=times
    )
    return msgspec.structs.replace(config, upsert=upsert)


async def test_it_creates_then_changes(store: Store) -> None:
    created = await store.upsert("Zone", "west", change=count, labels={"a": "b"})
    assert (created.version, created.spec, created.labels) == (1, {"n": 1}, {"a": "b"})
    changed = await store.upsert("Zone", "west", change=count)
    assert (changed.version, changed.spec, changed.labels) == (2, {"n": 2}, {"a": "b"})
    assert changed.created_version == 1


async def test_it_appends_nothing_where_nothing_changes(store: Store) -> None:
    first = await store.upsert("Zone", "west", change=lambda _: {"n": 1})
    again = await store.upsert("Zone", "west", change=lambda _: {"n": 1})
    assert first == again
    assert await store.head() == 1


async def test_an_owner_counts_where_the_resource_is_created(store: Store) -> None:
    mesh = await store.create("Mesh", "default", spec={})
    created = await store.upsert("Dataplane", "web", change=count, owner=mesh)
    assert created.owner == mesh.key
    assert (await store.upsert("Dataplane", "web", change=count)).owner == mesh.key


async def test_what_the_function_raises_comes_out(store: Store) -> None:
    def refuse(_: Resource[Any] | None) -> dict[str, Any]:
        raise KeyError

    with pytest.raises(KeyError):
        await store.upsert("Zone", "west", change=refuse)
    with pytest.raises(InvalidError):
        await store.upsert("Zone", "west", change=lambda _: {"n": float("nan")})
    assert await store.head() == 0


async def test_concurrent_upserts_of_two_stores_lose_no_change(
    postgres_config: Config,
) -> None:
    # Neither hears of the other: real conflicts, which only the log can tell.
    config = adjusted(
        retrying(postgres_config, times=50), notify=False, poll_interval=3600.0
    )
    calls = 0

    def counted(current: Resource[Any] | None) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        return count(current)

    async def upsert(store: Store) -> None:
        for _ in range(10):
            await store.upsert("Zone", "west", change=counted)

    async with (
        evstore.open(config) as first,
        evstore.open(config) as second,
        anyio.create_task_group() as tasks,
    ):
        for store in (first, second, first, second):
            tasks.start_soon(upsert, store)
    assert calls > 40
    async with evstore.open(config) as store:
        assert (await store.get("Zone", "west")).spec == {"n": 40}
        assert await store.head() == 40


async def _always_behind(config: Config, *, times: int) -> int:
    """Return how often a function is called whose resource changes under its hands."""
    calls = 0
    async with evstore.open(retrying(config, times=times)) as store:
        zone = await store.create("Zone", "west", spec={"n": 0})
        state = store._committer.projections.resources
        stale = zone.record

        def change(_: Resource[Any] | None) -> dict[str, Any]:
            nonlocal calls
            calls += 1
            # As if another instance had been quicker, each time.
            state._records[stale.key] = msgspec.structs.replace(
                stale, version=1000 + calls
            )
            return {"n": calls}

        with pytest.raises(ConflictError):
            await store.upsert("Zone", "west", change=change)
    return calls


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_it_gives_up_after_the_configured_number_of_retries(times: int) -> None:
    assert await _always_behind(Config(), times=times) == times + 1


async def test_the_same_request_id_returns_the_original_result(store: Store) -> None:
    with anyio.fail_after(5):
        first = await store.upsert("Zone", "west", change=count, request_id="once")
        again = await store.upsert("Zone", "west", change=count, request_id="once")
    assert again == first
    assert await store.head() == 1
