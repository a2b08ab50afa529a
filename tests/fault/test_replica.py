"""A read replica: what is about the past may be asked of a second server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

import evstore
from cluster import PRIMARY, STANDBY, running_cluster
from evstore.config import ReadReplicaConfig
from evstore.errors import InvalidError
from evstore.log.postgres import replica as replica_module
from evstore.log.postgres.reader import Reader
from evstore.maintenance import migrate_up, stats
from fault.history import adjusted, until
from fault.proxy import open_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from cluster import Cluster
    from evstore import Config, Store
    from evstore.embedded import EmbeddedServer
    from fault.proxy import Proxy

pytestmark = pytest.mark.fault


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the questions that the replica answered, by their statements' first words.

    Which place it has got to is asked each time, and not listed.
    """
    found: list[str] = []
    rows, row = Reader.rows, Reader.row
    names = {
        getattr(replica_module.statements, name): name.lower()
        for name in ("ACTIVITY", "LATEST", "PREVIOUS", "READ", "READ_BACK")
    }

    async def noted_rows(
        self: Reader, statement: bytes, *binds: object, **format_: bool
    ) -> object:
        result = await rows(self, statement, *binds, **format_)
        if self.replica and statement in names:
            found.append(names[statement])
        return result

    async def noted_row(self: Reader, statement: bytes, *binds: object) -> object:
        result = await row(self, statement, *binds)
        if self.replica and statement in names:
            found.append(names[statement])
        return result

    monkeypatch.setattr(Reader, "rows", noted_rows)
    monkeypatch.setattr(Reader, "row", noted_row)
    return found


def with_replica(config: Config, host: str, *, ratio: int = 100) -> Config:
    """Return a configuration with a read replica on another host, the same port."""
    settings = ReadReplicaConfig(host=host, port=config.postgres.port, ratio=ratio)
    postgres = msgspec.structs.replace(config.postgres, read_replica=settings)
    return msgspec.structs.replace(config, postgres=postgres)


@asynccontextmanager
async def open_beside_proxy(
    config: Config, *, ratio: int = 100
) -> AsyncGenerator[tuple[Store, Proxy]]:
    """Open a store with some history, whose replica is behind a proxy."""
    async with open_proxy(config) as proxy:
        both = with_replica(config, proxy.config.postgres.host, ratio=ratio)
        async with evstore.open(both) as store:
            for number in range(1, 4):
                await store.create("Mesh", f"mesh-{number}", spec={"n": number})
            await store.delete("Mesh", "mesh-3")
            yield store, proxy


async def ask_everything(store: Store) -> list[object]:
    """Ask what a replica can answer; return what it came to."""
    return [
        [event.position async for event in store.events()],
        [event.position async for event in store.events(reverse=True, limit=3)],
        [version.event.position async for version in store.history("Mesh")],
        [version.before is None async for version in store.history("Mesh", after=3)],
        (await store.get("Mesh", "mesh-3", at=3)).version,
        [each.name for each in (await store.list("Mesh", at=3)).items],
        len((await store.diff(1, 4)).changes),
    ]


EVERYTHING = [
    [1, 2, 3, 4],
    [4, 3, 2],
    [1, 2, 3, 4],
    [False],
    3,
    ["mesh-1", "mesh-2", "mesh-3"],
    1,
]


async def test_the_past_is_asked_of_the_replica(
    postgres_config: Config, asked: list[str]
) -> None:
    async with open_beside_proxy(postgres_config) as (store, proxy):
        assert await ask_everything(store) == EVERYTHING
        both = with_replica(postgres_config, proxy.config.postgres.host)
        assert (await stats(both)).activity.events == 4
    assert {*asked} == {"read", "read_back", "previous", "latest", "activity"}


async def test_the_present_is_asked_of_the_primary(
    postgres_config: Config, asked: list[str]
) -> None:
    async with open_beside_proxy(postgres_config) as (store, proxy):
        assert await store.head() == 4
        await store.get("Mesh", "mesh-1", consistent=True)
        assert (await store.list("Mesh")).total == 2
        assert (await store.verify()).ok
        with pytest.raises(InvalidError, match="beyond the head, which is 4"):
            await store.get("Mesh", "mesh-1", at=5)
        assert proxy.requests == []
    assert asked == []


async def test_with_a_ratio_of_0_nothing_is_asked_of_the_replica(
    postgres_config: Config, asked: list[str]
) -> None:
    async with open_beside_proxy(postgres_config, ratio=0) as (store, proxy):
        assert await ask_everything(store) == EVERYTHING
        assert proxy.requests == []
    assert asked == []


async def test_with_a_ratio_between_both_are_asked(
    postgres_config: Config, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_beside_proxy(postgres_config, ratio=30) as (store, _):
        for drawn, expected in ((0.299, 1), (0.3, 1), (0.999, 1), (0.0, 2)):
            monkeypatch.setattr(replica_module.random, "random", lambda d=drawn: d)
            await store.get("Mesh", "mesh-1", at=1)
            assert len(asked) == expected, drawn


async def test_a_replica_that_is_down_is_replaced_by_the_primary(
    postgres_config: Config, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "REST_AFTER_FAILURE_SECONDS", 0.0)
    config = _hasty(postgres_config)
    async with open_beside_proxy(config) as (store, proxy):
        assert await ask_everything(store) == EVERYTHING
        asked.clear()
        proxy.down = True
        proxy.cut_all()
        with anyio.fail_after(30):
            assert (await store.get("Mesh", "mesh-3", at=3)).version == 3
        assert asked == []
        # Back again, it is used again.
        proxy.down = False
        with anyio.fail_after(30):
            while not asked:
                assert (await store.get("Mesh", "mesh-3", at=3)).version == 3


async def test_a_replica_that_was_down_is_left_alone_for_a_while(
    postgres_config: Config, asked: list[str]
) -> None:
    async with open_beside_proxy(_hasty(postgres_config)) as (store, proxy):
        assert await ask_everything(store) == EVERYTHING
        assert asked
        proxy.down = True
        proxy.cut_all()
        await store.get("Mesh", "mesh-3", at=3)
        proxy.down = False
        asked.clear()
        for _ in range(10):
            await store.get("Mesh", "mesh-3", at=3)
        assert asked == []


async def test_the_primary_goes_on_where_the_replica_breaks_off(
    postgres_config: Config, asked: list[str]
) -> None:
    async with open_proxy(postgres_config) as proxy:
        config = with_replica(postgres_config, proxy.config.postgres.host)
        async with evstore.open(_hasty(config)) as store:
            for batch in range(3):
                async with store.transaction() as tx:
                    for number in range(500):
                        tx.create("Mesh", f"mesh-{batch}-{number}", spec={})
            for reverse, limit in ((False, None), (True, 1200)):
                asked.clear()
                proxy.down = False
                store._log._past._rests_until = 0
                found: list[int] = []
                async for event in store.events(reverse=reverse, limit=limit):
                    found.append(event.position)
                    if len(found) == 300:
                        proxy.down = True
                        proxy.cut_all()
                positions = list(range(1, 1501))
                expected = positions[::-1][:limit] if reverse else positions
                assert found == expected
                assert len(asked) == 1


async def test_another_log_is_no_replica(
    postgres_config: Config,
    server: EmbeddedServer,
    migrated_template: str,
    asked: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Copies of one template have one identity, and different events.
    name = f"{postgres_config.postgres.db_name}_other"
    server.create_database(name, template=migrated_template)
    async with evstore.open(server.config(name)) as other:
        for number in range(1, 9):
            await other.create("Mesh", f"mesh-{number}", spec={"other": True})
    async with open_proxy(postgres_config) as proxy:
        proxy.database = name
        config = with_replica(postgres_config, proxy.config.postgres.host)
        async with evstore.open(config) as store:
            created = await store.create("Mesh", "mesh-1", spec={"other": False})
            await store.update(created, spec={})
            found = await store.get("Mesh", "mesh-1", at=1)
            assert found.spec == {"other": False}
        assert proxy.requests
    assert asked == []
    assert "it has another event at 1" in caplog.text
    server.drop_database(name)


def _hasty(config: Config) -> Config:
    postgres = msgspec.structs.replace(config.postgres, connection_timeout=0.5)
    return msgspec.structs.replace(config, postgres=postgres)


# With a real standby.


@pytest.fixture
async def cluster(server_folder: Path) -> AsyncIterator[Cluster]:
    """Return a primary and a standby of the test's own, migrated."""
    with running_cluster(server_folder) as running:
        await migrate_up(running.config())
        yield running


@pytest.mark.slow
async def test_a_read_waits_until_a_standby_has_what_it_asks_for(
    cluster: Cluster, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = adjusted(with_replica(cluster.config(PRIMARY), STANDBY), notify=False)
    looked = 0
    place = Reader.place

    async def counted(self: Reader, *arguments: object) -> object:
        nonlocal looked
        looked += self.replica
        return await place(self, *arguments)

    monkeypatch.setattr(Reader, "place", counted)
    async with evstore.open(config) as store, anyio.create_task_group() as tasks:
        mesh = await store.create("Mesh", "default", spec={"n": 1})
        await store.get("Mesh", "default", at=1)
        assert asked == ["latest"]

        # The standby stands still: the primary answers after a moment.
        cluster.standby.psql("SELECT pg_wal_replay_pause()")
        cluster.standby.until("pg_get_wal_replay_pause_state() = 'paused'")
        mesh = await store.update(mesh, spec={"n": 2})
        assert (await store.get("Mesh", "default", at=2)).spec == {"n": 2}
        assert asked == ["latest"]

        # It goes on while a read waits for it: then that is answered there.
        monkeypatch.setattr(replica_module, "LAG_SECONDS_MAX", 60.0)
        store._log._past._rests_until = 0
        looked = 0
        found: list[object] = []

        async def read() -> None:
            found.append((await store.get("Mesh", "default", at=2)).spec)

        tasks.start_soon(read)
        await until(lambda: looked > 3)
        assert found == []
        cluster.standby.psql("SELECT pg_wal_replay_resume()")
        await until(lambda: found == [{"n": 2}])
        assert asked == ["latest", "latest"]
