"""Verdicts without events come from the log as it is, never from a stale state."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import evstore
from evstore import Key
from evstore.errors import AlreadyExistsError, ConflictError, NotFoundError
from fault.history import adjusted, checked_history
from fault.proxy import open_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evstore import Config, Resource, Store

pytestmark = pytest.mark.fault

ZONE = Key(type="Zone", name="west")


@pytest.fixture(params=["postgres", "kubernetes"])
def config(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Return the configuration of a log, in which nobody looks without being asked."""
    monkeypatch.setattr("evstore.instances.instance.POLL_SECONDS_MIN", 3600.0)
    found: Config = request.getfixturevalue(f"{request.param}_config")
    return found


@asynccontextmanager
async def _stores(config: Config) -> AsyncGenerator[tuple[Store, Store]]:
    """Open two stores, of which the second hears of nothing by itself."""
    deaf = adjusted(config, notify=False, poll_interval=3600.0, heartbeat_interval=0.0)
    async with evstore.open(deaf) as stale:
        await stale.create("Zone", "west", spec={"n": 1})
        async with evstore.open(deaf) as fresh:
            yield fresh, stale


async def test_a_stale_store_creates_what_was_deleted(config: Config) -> None:
    async with _stores(config) as (fresh, stale):
        await fresh.delete("Zone", "west")
        assert stale.position == 1
        assert (await stale.create("Zone", "west", spec={})).version == 3
    assert len(await checked_history(config)) == 3


async def test_a_stale_store_does_not_create_what_exists(
    config: Config,
) -> None:
    async with _stores(config) as (fresh, stale):
        await fresh.create("Zone", "east", spec={})
        with pytest.raises(AlreadyExistsError) as caught:
            await stale.create("Zone", "east", spec={})
        assert caught.value.version == 2


async def test_a_stale_store_deletes_what_was_created(config: Config) -> None:
    async with _stores(config) as (fresh, stale):
        await fresh.create("Zone", "east", spec={})
        await stale.delete("Zone", "east")
        with pytest.raises(NotFoundError):
            await fresh.get("Zone", "east", consistent=True)


async def test_a_stale_store_does_not_delete_what_is_gone(
    config: Config,
) -> None:
    async with _stores(config) as (fresh, stale):
        await fresh.delete("Zone", "west")
        with pytest.raises(NotFoundError):
            await stale.delete("Zone", "west")


async def test_an_update_back_to_a_stale_value_is_no_no_op(
    config: Config,
) -> None:
    async with _stores(config) as (fresh, stale):
        await fresh.update(ZONE, spec={"n": 2})
        # The stale store believes that the value is there already.
        assert (await stale.update(ZONE, spec={"n": 1})).version == 3
        assert (await fresh.get("Zone", "west", consistent=True)).spec == {"n": 1}


async def test_an_update_to_the_value_that_is_there_appends_nothing(
    config: Config,
) -> None:
    async with _stores(config) as (fresh, stale):
        await fresh.update(ZONE, spec={"n": 2})
        same: Resource[Any] = await stale.update(ZONE, spec={"n": 2})
        assert same.version == 2
        assert await stale.head() == 2


async def test_a_stale_store_accepts_a_version_it_has_not_seen(
    config: Config,
) -> None:
    async with _stores(config) as (fresh, stale):
        newer: Resource[Any] = await fresh.update(ZONE, spec={"n": 2})
        assert (await stale.update(newer, spec={"n": 3})).version == 3


async def test_a_stale_store_refuses_the_version_that_it_has(
    config: Config,
) -> None:
    async with _stores(config) as (fresh, stale):
        older = await stale.get("Zone", "west")
        await fresh.update(ZONE, spec={"n": 2})
        with pytest.raises(ConflictError) as caught:
            await stale.update(older, spec={"n": 3})
        assert caught.value.actual == 2


async def test_an_owner_that_a_stale_store_has_not_seen_is_found(
    config: Config,
) -> None:
    async with _stores(config) as (fresh, stale):
        owner = await fresh.create("Mesh", "default", spec={})
        await stale.create("Dataplane", "web", mesh="default", spec={}, owner=owner)
        with pytest.raises(NotFoundError):
            await stale.create("Zone", "x", spec={}, owner=Key(type="Mesh", name="no"))


@pytest.mark.parametrize("count", [1, 10])
async def test_a_batch_without_events_costs_exactly_one_read(
    postgres_config: Config, count: int
) -> None:
    deaf = adjusted(
        postgres_config, notify=False, poll_interval=3600.0, heartbeat_interval=0.0
    )
    async with open_proxy(deaf) as proxy, evstore.open(proxy.config) as store:
        await store.create("Zone", "west", spec={"n": 1})
        # The statement is prepared with the first verdict of the session.
        await store.update(ZONE, spec={"n": 1})
        before = len(proxy.requests)
        rejected = 0

        async def reject() -> None:
            nonlocal rejected
            with pytest.raises(AlreadyExistsError):
                await store.create("Zone", "west", spec={})
            rejected += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(reject)
        assert rejected == count
        assert len(proxy.requests) - before == 1


async def test_verdicts_beside_events_cost_no_read(postgres_config: Config) -> None:
    deaf = adjusted(
        postgres_config, notify=False, poll_interval=3600.0, heartbeat_interval=0.0
    )
    async with open_proxy(deaf) as proxy, evstore.open(proxy.config) as store:
        await store.create("Zone", "west", spec={"n": 1})
        before = len(proxy.requests)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.update, ZONE)
            tasks.start_soon(lambda: store.create("Zone", "east", spec={}))
        assert [each.kind for each in proxy.requests[before:]] == ["append"]
