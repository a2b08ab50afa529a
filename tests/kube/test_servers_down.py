"""API server and etcd killed and restarted under running stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import to_thread

import evstore
from evstore.errors import UnavailableError
from fault.history import checked_history, limited

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from apiserver import ApiServer
    from evstore import Store
    from evstore.config import Config

pytestmark = [pytest.mark.fault, pytest.mark.slow]
SECONDS = 40


@pytest.fixture
async def store(config: Config) -> AsyncIterator[Store]:
    """Return a store that gives its tries a second, and its commands long."""
    patient = limited(config, append_timeout=1.0, command_timeout=SECONDS)
    async with evstore.open(patient) as opened:
        yield opened


class Written:
    """Names that were created, one after the other, until there are enough."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.enough = False
        self._more = anyio.Event()

    async def write(self, store: Store) -> None:
        while not self.enough:
            name = f"z{len(self.names)}"
            await store.create("Zone", name, spec={})
            self.names.append(name)
            self._more.set()
            self._more = anyio.Event()

    async def until(self, count: int) -> None:
        goal = len(self.names) + count
        with anyio.fail_after(SECONDS):
            while len(self.names) < goal:
                await self._more.wait()


async def test_an_api_server_that_is_killed_loses_no_change(
    apiserver: ApiServer, config: Config, store: Store
) -> None:
    written = Written()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(written.write, store)
        await written.until(20)
        apiserver.kill_server()
        await to_thread.run_sync(apiserver.start_server)
        await written.until(20)
        written.enough = True
    names = [event.key.name for event in await checked_history(config)]
    assert names == written.names


async def test_an_etcd_that_is_killed_loses_no_change(
    apiserver: ApiServer, config: Config, store: Store
) -> None:
    written = Written()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(written.write, store)
        await written.until(20)
        apiserver.kill_etcd()
        apiserver.start_etcd()
        await written.until(20)
        written.enough = True
    names = [event.key.name for event in await checked_history(config)]
    assert names == written.names


async def test_without_a_server_commands_are_refused_in_time_and_reads_go_on(
    apiserver: ApiServer, config: Config
) -> None:
    hasty = limited(config, append_timeout=0.5, command_timeout=1.0)
    async with evstore.open(hasty) as store:
        await store.create("Zone", "a", spec={})
        apiserver.kill_server()
        try:
            with anyio.fail_after(SECONDS):
                with pytest.raises(UnavailableError):
                    await store.create("Zone", "b", spec={})
                assert (await store.get("Zone", "a")).version == 1
                with pytest.raises(UnavailableError):
                    await store.get("Zone", "a", consistent=True)
        finally:
            await to_thread.run_sync(apiserver.start_server)
        with anyio.fail_after(SECONDS):
            await store.create("Zone", "c", spec={})


async def test_a_start_waits_for_the_server(
    apiserver: ApiServer, config: Config
) -> None:
    patient = limited(config, start_timeout=float(SECONDS))
    apiserver.kill_server()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(to_thread.run_sync, apiserver.start_server)
        async with evstore.open(patient) as store:
            assert await store.head() == 0


async def test_a_start_without_a_server_ends_in_time(
    apiserver: ApiServer, config: Config
) -> None:
    hasty = limited(config, start_timeout=0.3)
    apiserver.kill_server()
    try:
        with anyio.fail_after(SECONDS):
            with pytest.raises(UnavailableError, match="cannot be reached"):
                async with evstore.open(hasty):
                    pass
    finally:
        await to_thread.run_sync(apiserver.start_server)
