"""Appends across the bounds of partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from evstore.commit.live import LiveState
from fault.history import checked_history, connected, limited

if TYPE_CHECKING:
    from evstore import Config, Store

pytestmark = pytest.mark.fault

SIZE = 10


@pytest.fixture
async def small_partitions(postgres_config: Config) -> Config:
    """Return the configuration of a log with ten events a partition."""
    async with connected(postgres_config) as owner, owner.transaction():
        await owner.execute("DROP TABLE evstore.events_0000000000000000001")
        await owner.execute("UPDATE evstore.log SET partition_size = %s", (SIZE,))
        await owner.execute("SELECT evstore.ensure_partition()")
    return postgres_config


async def _partitions(config: Config) -> int:
    async with connected(config) as owner:
        cursor = await owner.execute(
            "SELECT count(*) FROM pg_inherits"
            " WHERE inhparent = 'evstore.events'::regclass"
        )
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def _create(store: Store, prefix: str, count: int) -> None:
    for number in range(count):
        await store.create("Mesh", f"{prefix}-{number}", spec={})


@pytest.mark.parametrize("in_turns", [False, True])
async def test_appends_cross_the_bounds_of_partitions(
    small_partitions: Config, monkeypatch: pytest.MonkeyPatch, *, in_turns: bool
) -> None:
    if in_turns:
        monkeypatch.setattr(LiveState, "contended", True)
    async with evstore.open(small_partitions) as store:
        await _create(store, "mesh", 5 * SIZE)
    assert len(await checked_history(small_partitions)) == 5 * SIZE
    assert await _partitions(small_partitions) >= 5


@pytest.mark.timeout(20)
@pytest.mark.parametrize("in_turns", [False, True])
async def test_a_transaction_may_be_larger_than_a_partition(
    small_partitions: Config, monkeypatch: pytest.MonkeyPatch, *, in_turns: bool
) -> None:
    if in_turns:
        monkeypatch.setattr(LiveState, "contended", True)
    config = limited(small_partitions, command_timeout=5.0)
    async with evstore.open(config) as store:
        async with store.transaction() as tx:
            for number in range(5 * SIZE):
                tx.create("Mesh", f"mesh-{number}", spec={})
        await _create(store, "more", SIZE)
    assert len(await checked_history(small_partitions)) == 6 * SIZE


@pytest.mark.timeout(20)
async def test_a_batch_may_be_larger_than_a_partition(
    small_partitions: Config,
) -> None:
    config = limited(small_partitions, command_timeout=5.0)
    async with evstore.open(config) as store, anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(_create, store, f"mesh-{number}", 3)
    assert len(await checked_history(small_partitions)) == 60


async def test_several_stores_make_partitions_at_the_same_time(
    small_partitions: Config,
) -> None:
    async with (
        evstore.open(small_partitions) as first,
        evstore.open(small_partitions) as second,
        evstore.open(small_partitions) as third,
        anyio.create_task_group() as tasks,
    ):
        for index, store in enumerate((first, second, third)):
            for writer in range(2):
                tasks.start_soon(_create, store, f"mesh-{index}-{writer}", 10)
    assert len(await checked_history(small_partitions)) == 60
    assert await _partitions(small_partitions) >= 6
