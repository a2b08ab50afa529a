"""A server that is down, dies and comes back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from evstore.embedded import EmbeddedServer
from evstore.errors import UnavailableError
from evstore.maintenance import migrate_up
from fault.history import checked_history, limited, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from evstore import Store

pytestmark = pytest.mark.fault


@pytest.fixture
async def own_server(server_folder: Path) -> AsyncIterator[EmbeddedServer]:
    """Return a migrated server of the test's own."""
    with EmbeddedServer(server_folder) as running:
        await migrate_up(running.config())
        yield running


async def test_a_server_that_is_down_at_start_is_unavailable(
    own_server: EmbeddedServer,
) -> None:
    config = limited(own_server.config(), start_timeout=0)
    own_server.stop()
    with pytest.raises(UnavailableError, match=r"\.s\.PGSQL"):
        async with evstore.open(config):
            pytest.fail("there is no server")


@pytest.mark.slow
async def test_a_store_outlives_a_crash_of_the_idle_server(
    own_server: EmbeddedServer,
) -> None:
    async with (
        evstore.open(own_server.config()) as store,
        evstore.open(own_server.config()) as other,
    ):
        first = await store.create("Mesh", "first", spec={})
        own_server.kill()
        assert (await store.get("Mesh", "first")).version == first.version
        own_server.start()
        second = await _at_last(store, "second")
        assert second == 2
        # The other one follows again, without being asked.
        with anyio.fail_after(10):
            await until(lambda: other.position == 2)
    assert len(await checked_history(own_server.config())) == 2


async def _at_last(store: Store, name: str) -> int:
    with anyio.fail_after(15):
        return (await store.create("Mesh", name, spec={})).version


def _more(acknowledged: dict[str, int], count: int) -> bool:
    return len(acknowledged) > count


@pytest.mark.slow
async def test_a_crash_under_load_loses_nothing_that_was_acknowledged(
    own_server: EmbeddedServer,
) -> None:
    acknowledged: dict[str, int] = {}
    over = anyio.Event()

    async def write(store: Store, writer: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            name = f"mesh-{writer}-{number}"
            acknowledged[name] = (await store.create("Mesh", name, spec={})).version

    async with (
        evstore.open(own_server.config()) as store,
        evstore.open(own_server.config()) as other,
        anyio.create_task_group() as tasks,
    ):
        for writer in range(8):
            tasks.start_soon(write, store if writer % 2 else other, writer)
        for _ in range(2):
            count = len(acknowledged)
            await until(partial(_more, acknowledged, count + 200))
            own_server.kill()
            own_server.start()
        count = len(acknowledged)
        await until(lambda: len(acknowledged) > count + 200, seconds=20)
        over.set()
    events = await checked_history(own_server.config())
    assert {event.name: event.position for event in events} == acknowledged
