"""Stamps: wrong clocks are found out, and time never runs backwards in the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import evstore
from fault.history import checked_history, connected, value
from fault.proxy import open_proxy

if TYPE_CHECKING:
    from evstore import Config, Store
    from evstore.clock import OffsetClock

pytestmark = pytest.mark.fault

SECOND = 1_000_000


def _clock(store: Store) -> OffsetClock:
    clock: OffsetClock = store._log._clock  # type: ignore[attr-defined]
    return clock


def _step(store: Store, microseconds: int) -> None:
    clock = _clock(store)
    assert clock._offset is not None
    clock._offset += microseconds


@pytest.mark.parametrize("ahead", [5 * SECOND, 3600 * SECOND])
async def test_a_clock_that_is_ahead_is_refused_and_measured_again(
    postgres_config: Config, ahead: int
) -> None:
    async with (
        open_proxy(postgres_config) as proxy,
        evstore.open(proxy.config) as store,
        connected(postgres_config) as owner,
    ):
        await store.create("Mesh", "before", spec={})
        _step(store, ahead)
        created = await store.create("Mesh", "ahead", spec={})
        after = await value(owner, "SELECT clock_timestamp()")
        assert created.modified_at <= after
        assert [each.kind for each in proxy.requests if each.kind] == ["append"] * 3
        await store.create("Mesh", "after", spec={})
    assert len(await checked_history(postgres_config)) == 3


async def test_a_clock_that_is_behind_never_turns_time_back(
    postgres_config: Config,
) -> None:
    async with evstore.open(postgres_config) as store:
        first = await store.create("Mesh", "first", spec={})
        _step(store, -3600 * SECOND)
        second = await store.create("Mesh", "second", spec={})
        assert second.modified_at - first.modified_at == timedelta(microseconds=1)
        # The append has measured the clock as well.
        third = await store.create("Mesh", "third", spec={})
    assert third.modified_at - second.modified_at < timedelta(seconds=30)
    assert len(await checked_history(postgres_config)) == 3


async def test_stamps_are_the_databases_time(postgres_config: Config) -> None:
    async with (
        evstore.open(postgres_config) as store,
        connected(postgres_config) as owner,
    ):
        before: datetime = await value(owner, "SELECT clock_timestamp()")
        created = await store.create("Mesh", "default", spec={})
        after: datetime = await value(owner, "SELECT clock_timestamp()")
        error = timedelta(milliseconds=50)
        assert before - error <= created.modified_at <= after + error
        assert created.modified_at.tzinfo is UTC


async def test_two_stores_with_different_clocks_keep_one_order_of_time(
    postgres_config: Config,
) -> None:
    async with (
        evstore.open(postgres_config) as first,
        evstore.open(postgres_config) as second,
    ):
        for number in range(10):
            _step(first, SECOND // 2)
            await first.create("Mesh", f"first-{number}", spec={})
            _step(second, -SECOND // 2)
            await second.create("Mesh", f"second-{number}", spec={})
    assert len(await checked_history(postgres_config)) == 20
