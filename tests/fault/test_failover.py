"""Several hosts: the primary dies, the standby takes over, and the store goes on."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from cluster import PRIMARY, STANDBY, running_cluster
from evstore.errors import DivergedError, NotFoundError, UnavailableError
from evstore.log.postgres.connections import connect
from evstore.maintenance import migrate_up
from fault.history import adjusted, checked_history, limited, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cluster import Cluster
    from evstore import Config, Store

pytestmark = [pytest.mark.fault, pytest.mark.slow]


@pytest.fixture
async def cluster(server_folder: Path) -> AsyncIterator[Cluster]:
    """Return a primary and a standby of the test's own, migrated."""
    with running_cluster(server_folder) as running:
        await migrate_up(running.config())
        yield running


def config_of(cluster: Cluster) -> Config:
    return adjusted(cluster.config(), poll_interval=0.1)


async def write(store: Store, acknowledged: dict[str, int], over: anyio.Event) -> None:
    """Write until told to end; note what was acknowledged."""
    number = 0
    while not over.is_set():
        number += 1
        name = f"mesh-{number}"
        try:
            created = await store.create("Mesh", name, spec={})
        except UnavailableError:
            continue  # unknown, or not done: neither was acknowledged
        acknowledged[name] = created.version


async def test_nothing_acknowledged_is_missing_after_a_synchronous_failover(
    cluster: Cluster,
) -> None:
    cluster.synchronous()
    acknowledged: dict[str, int] = {}
    over = anyio.Event()
    seen: list[int] = []

    async def watch(store: Store) -> None:
        async for event in store.watch(after=0):
            seen.append(event.position)  # noqa: PERF401 - looked at below

    async with (
        evstore.open(config_of(cluster)) as store,
        evstore.open(config_of(cluster)) as other,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(write, store, acknowledged, over)
        tasks.start_soon(watch, other)
        await until(lambda: len(acknowledged) > 100)
        await anyio.to_thread.run_sync(cluster.fail_over)
        count = len(acknowledged)
        # Nobody tells the store: it finds the new primary by itself.
        await until(lambda: len(acknowledged) > count + 100, seconds=30)
        over.set()
        await until(lambda: len(seen) >= max(acknowledged.values()), seconds=30)
        tasks.cancel_scope.cancel()
    events = await checked_history(cluster.config(STANDBY))
    at = {event.name: event.position for event in events}
    assert {name: at.get(name) for name in acknowledged} == acknowledged
    assert seen == list(range(1, len(seen) + 1))


async def test_an_append_that_nobody_waited_for_is_not_acknowledged_before_the_standby(
    cluster: Cluster,
) -> None:
    primary = cluster.primary
    answered: list[int] = []

    async def create(store: Store) -> None:
        answered.append((await store.create("Mesh", "waiting", spec={})).version)

    async with evstore.open(config_of(cluster)) as store:
        await store.create("Mesh", "first", spec={})
        cluster.synchronous()
        async with anyio.create_task_group() as tasks:
            with cluster.standby.frozen():
                tasks.start_soon(create, store)
                await anyio.to_thread.run_sync(primary.until, _WAITING.format("append"))
                # Terminated, the session commits where it is, and says nothing.
                primary.psql(_TERMINATE)
                # The store finds its event in the log, and waits for a commit behind it.
                await anyio.to_thread.run_sync(primary.until, _WAITING.format("settle"))
                count = primary.psql(
                    "SELECT count(*) FROM evstore.events", database="kuma"
                )
                assert count == "2"
                assert answered == []
            await until(lambda: answered == [2])
        await anyio.to_thread.run_sync(cluster.fail_over)
        with anyio.fail_after(30):
            assert (await at_last(store, "after")) == 3
    events = await checked_history(cluster.config(STANDBY))
    assert [event.name for event in events] == ["first", "waiting", "after"]


_SESSIONS = "FROM pg_stat_activity WHERE application_name = 'evstore writer'"
# A session shows the last statement of its round trip: the settling one has the message.
_WAITING = (
    f"EXISTS (SELECT {_SESSIONS} AND wait_event = 'SyncRep'"
    " AND (query LIKE '%logical_emit_message%') = ('{}' = 'settle'))"
)
_TERMINATE = f"SELECT pg_terminate_backend(pid) {_SESSIONS}"


async def at_last(store: Store, name: str) -> int:
    """Create a resource as soon as that can be done."""
    while True:
        try:
            return (await store.create("Mesh", name, spec={})).version
        except (UnavailableError, DivergedError):
            await anyio.sleep(0.05)


async def test_a_tail_that_an_asynchronous_failover_lost_is_noticed(
    cluster: Cluster,
) -> None:
    told: list[str] = []

    async def watch(store: Store) -> None:
        with pytest.raises(DivergedError):
            async for _ in store.watch(after=0):
                pass
        told.append("diverged")

    async with (
        evstore.open(config_of(cluster)) as store,
        evstore.open(config_of(cluster)) as reader,
        anyio.create_task_group() as tasks,
    ):
        for number in range(1, 4):
            await store.create("Mesh", f"kept-{number}", spec={})
        cluster.standby.until(
            "(SELECT count(*) FROM evstore.events) = 3", database="kuma"
        )
        cluster.disconnect()
        for number in range(1, 4):
            # Acknowledged, and only on the primary: that is what asynchronous means.
            await store.create("Mesh", f"lost-{number}", spec={})
        await until(lambda: reader.position == 6)
        for each in (store, reader):
            tasks.start_soon(watch, each)
        await anyio.to_thread.run_sync(cluster.fail_over)
        # Nobody writes: both find it out by themselves.
        await until(lambda: len(told) == 2, seconds=30)
        await until(lambda: store.position == reader.position == 3)
        for each in (store, reader):
            with pytest.raises(NotFoundError):
                await each.get("Mesh", "lost-1")
        with anyio.fail_after(30):
            assert await at_last(store, "again") == 4
        await until(lambda: reader.position == 4)
        assert store.digest() == reader.digest()
    events = await checked_history(cluster.config(STANDBY))
    assert [event.name for event in events] == [
        *("kept-1", "kept-2", "kept-3", "again"),
    ]


async def test_a_standby_alone_is_not_taken_for_the_primary(cluster: Cluster) -> None:
    config = limited(cluster.config(STANDBY), start_timeout=0)
    with pytest.raises(UnavailableError, match=r"read-only"):
        async with evstore.open(config):
            pytest.fail("it takes no writes")
    # In the list with the primary, the order does not matter.
    async with evstore.open(cluster.config(STANDBY, PRIMARY)) as store:
        assert (await store.create("Mesh", "default", spec={})).version == 1


async def test_the_kernel_gives_up_connections_that_lead_nowhere(
    cluster: Cluster,
) -> None:
    connection = await connect(cluster.config().postgres, purpose="writer")
    with socket.socket(fileno=connection.fileno()) as end:
        kept = end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        found = [
            end.getsockopt(socket.IPPROTO_TCP, option)
            for option in (
                socket.TCP_KEEPIDLE,
                socket.TCP_KEEPINTVL,
                socket.TCP_KEEPCNT,
                socket.TCP_USER_TIMEOUT,
            )
        ]
        end.detach()
    await connection.close()
    assert kept == 1
    # Seconds until it asks, between questions, their number; and what is sent and never
    # confirmed, in milliseconds.
    assert found == [10, 5, 3, 20_000]
