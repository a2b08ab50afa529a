"""Turns under contention: fair, quiet, and bounded by time-outs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from evstore.commit.live import LiveState
from evstore.errors import OutcomeUnknownError, UnavailableError
from fault.history import (
    blocked_writers,
    checked_history,
    connected,
    limited,
    superuser,
    until,
)
from fault.proxy import Fault, open_proxy

if TYPE_CHECKING:
    from pathlib import Path

    from evstore import Config, Store
    from evstore.embedded import EmbeddedServer

pytestmark = pytest.mark.fault

TURN = "SELECT pg_advisory_xact_lock(1702261620, 1)"
SECONDS = 1.5


def duplicates(log: Path) -> int:
    return log.read_text().count("duplicate key value violates unique constraint")


async def test_contending_stores_all_get_their_share(
    postgres_config: Config, server: EmbeddedServer
) -> None:
    before = duplicates(server.log)
    done: list[int] = [0, 0, 0]
    over = anyio.Event()

    async def write(store: Store, number: int, writer: int) -> None:
        count = 0
        while not over.is_set():
            count += 1
            await store.create("Mesh", f"mesh-{number}-{writer}-{count}", spec={})
            done[number] += 1

    async with AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(evstore.open(postgres_config))
            for _ in range(3)
        ]
        async with anyio.create_task_group() as tasks:
            for number, store in enumerate(stores):
                for writer in range(16):
                    tasks.start_soon(write, store, number, writer)
            await anyio.sleep(SECONDS)
            over.set()
        # Each has all that the others wrote, and the same state.
        for store in stores:
            await store.list("Mesh", consistent=True, page_size=1)
        assert len({store.digest() for store in stores}) == 1
    events = await checked_history(postgres_config)
    assert len(events) == sum(done)
    assert min(done) > sum(done) / 3 / 4
    # Each batch that lost a race wrote a line into the server's log.
    assert duplicates(server.log) - before < sum(done) / 50


async def test_whoever_cannot_get_a_turn_is_refused_and_recovers(
    postgres_config: Config,
) -> None:
    config = limited(postgres_config, command_timeout=0.5)
    async with evstore.open(config) as store, connected(postgres_config) as holder:
        await store.create("Mesh", "before", spec={})
        async with holder.transaction():
            await holder.execute(TURN)
            with anyio.fail_after(5):
                with pytest.raises(UnavailableError) as caught:
                    await store.create("Mesh", "refused", spec={})
            # Nothing was sent that could have been applied, and that is what is said.
            assert not isinstance(caught.value, OutcomeUnknownError)
            # Past the lock's own time-out, which fails the statement that waits.
            with pytest.raises(UnavailableError):
                await store.create("Mesh", "refused-too", spec={})
            await _lock_timed_out(postgres_config)
        with anyio.fail_after(8):
            await _create_at_last(store, "after")
    events = await checked_history(postgres_config)
    assert [event.name for event in events] == ["before", "after"]


async def _lock_timed_out(config: Config) -> None:
    """Return when the writer that waits has given up waiting at least once."""
    async with superuser(config) as admin:
        (first,) = await blocked_writers(admin)
        query = b"""
            SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state <> 'active'
        """
        with anyio.fail_after(10):
            while True:
                cursor = await admin.execute(query, (first,))
                if await cursor.fetchone() == (1,):
                    return
                await anyio.sleep(0.01)


async def _create_at_last(store: Store, name: str) -> None:
    while True:
        try:
            await store.create("Mesh", name, spec={})
        except UnavailableError:
            await anyio.sleep(0.02)
        else:
            return


@pytest.mark.slow
async def test_a_holder_that_stalls_delays_others_up_to_the_time_out(
    postgres_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveState, "contended", True)
    async with (
        open_proxy(postgres_config) as proxy,
        evstore.open(proxy.config) as holder,
        evstore.open(postgres_config) as other,
        anyio.create_task_group() as tasks,
    ):
        created: list[int] = []

        async def create() -> None:
            created.append((await holder.create("Mesh", "holder", spec={})).version)

        struck = proxy.once(Fault.STALL, lambda request: request.is_append)
        tasks.start_soon(create)
        await struck.wait()
        with anyio.fail_after(12):
            assert (await other.create("Mesh", "other", spec={})).version == 1
        proxy.release()
        await until(lambda: created == [2])
    events = await checked_history(postgres_config)
    assert [event.name for event in events] == ["other", "holder"]
