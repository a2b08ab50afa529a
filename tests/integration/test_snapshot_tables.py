"""Snapshots in PostgreSQL: what only its tables, sessions, roles and locks can show."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import anyio
import pytest

import evstore
from doctoring import execute
from events import History, creations, key
from evstore.errors import ConfigError, UnavailableError
from evstore.log import Instance, Stamp, open_log
from fault.history import superuser, value

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable

    from evstore import Config
    from evstore.log import Log, Snapshot
    from evstore.model import Head

CHUNKS: Final = "SELECT count(*) FROM evstore.snapshot_chunks"
TABLES: Final = "evstore.snapshots, evstore.snapshot_chunks"


@asynccontextmanager
async def opened(config: Config) -> AsyncGenerator[Log]:
    async with open_log(config) as log:
        await log.connect()
        yield log


def stamp(log: Log, head: Head | None = None, version: int = 1) -> Stamp:
    return Stamp(
        log=log.identity,
        projection="resources",
        version=version,
        fingerprint="ab",
        head=head or log.genesis,
        digest=bytes(32),
    )


async def pieces() -> AsyncGenerator[bytes]:
    yield b"content"


async def save(
    log: Log,
    head: Head | None = None,
    *,
    version: int = 1,
    chunks: AsyncIterable[bytes] | None = None,
) -> Snapshot | None:
    return await log.save_snapshot(
        stamp(log, head, version), chunks or pieces(), code_version=""
    )


async def versions(log: Log) -> list[int]:
    return sorted(each.stamp.version for each in await log.snapshots())


async def waiting(config: Config, count: int = 1) -> None:
    """Return when so many readers wait for a lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND application_name = 'evstore reader' AND datname = current_database()"
    )
    async with superuser(config) as admin:
        with anyio.fail_after(10):
            while await value(admin, query) != count:  # noqa: ASYNC110
                await anyio.sleep(0.01)


async def test_nothing_is_left_of_what_was_dropped_or_given_up(
    postgres_config: Config,
) -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield b"first"
        raise KeyError

    async with opened(postgres_config) as log, superuser(postgres_config) as admin:
        for _ in range(3):
            await save(log)
        assert await value(admin, CHUNKS) == 2
        with pytest.raises(KeyError):
            await save(log, chunks=broken())
        assert await value(admin, CHUNKS) == 2
        await log.drop_snapshots()
        assert await value(admin, CHUNKS) == 0


async def test_chunks_are_not_compressed(postgres_config: Config) -> None:
    query = (
        "SELECT attstorage::text FROM pg_attribute WHERE attname = 'data'"
        " AND attrelid = 'evstore.snapshot_chunks'::regclass"
    )
    async with superuser(postgres_config) as admin:
        assert await value(admin, query) == "e"


async def test_a_connection_that_is_lost_leaves_nothing_behind(
    postgres_config: Config,
) -> None:
    async with opened(postgres_config) as log, superuser(postgres_config) as admin:

        async def cut() -> AsyncGenerator[bytes]:
            yield b"first"
            query = (
                "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
                " WHERE state = 'idle in transaction' AND datname = current_database()"
            )
            assert await value(admin, query) == 1
            yield b"second"

        with pytest.raises(UnavailableError):
            await save(log, chunks=cut())
        assert await log.snapshots() == []
        assert await value(admin, CHUNKS) == 0
        assert await save(log) is not None


# Pruning, by the server's clock.


async def test_of_other_labels_the_old_ones_go_that_nobody_runs(
    postgres_config: Config,
) -> None:
    async with opened(postgres_config) as log:
        for version in (2, 3, 4, 4):
            assert await save(log, version=version)
        old = "UPDATE evstore.snapshots SET taken_at = taken_at - interval '25 hours'"
        await execute(postgres_config, f"{old} WHERE version IN (2, 3)")
        await log.beat(heartbeat("resources:3:ab"))
        assert await save(log)
        assert await versions(log) == [1, 3, 4, 4]
        # Half an hour ago, it is no longer running.
        seen = "UPDATE evstore.instances SET seen_at = seen_at - interval '30 minutes'"
        await execute(postgres_config, seen)
        assert await save(log)
        assert await versions(log) == [1, 1, 4, 4]


async def test_of_other_projections_the_old_ones_stay(postgres_config: Config) -> None:
    async with opened(postgres_config) as log:
        await save(log, version=2)
        await execute(
            postgres_config,
            "UPDATE evstore.snapshots SET projection = 'services',"
            " taken_at = taken_at - interval '1 year'",
        )
        await save(log)
        assert await versions(log) == [1, 2]


async def test_a_clock_that_was_set_back_does_not_cost_the_new_one(
    postgres_config: Config,
) -> None:
    async with opened(postgres_config) as log:
        for _ in range(2):
            await save(log)
        ahead = "UPDATE evstore.snapshots SET taken_at = taken_at + interval '1 day'"
        await execute(postgres_config, ahead)
        new = await save(log)
        assert new is not None
        found = await log.snapshots()
        assert len(found) == 2
        assert new in found


def heartbeat(*labels: str) -> Instance:
    return Instance(
        id=uuid4(), position=0, digest=bytes(32), code_version="", projections=labels
    )


# Redactions meet savers.


@pytest.mark.parametrize("through", ["postgres_config", "pooled_config"])
async def test_a_redaction_that_comes_just_before_the_end_is_seen(
    postgres_config: Config, through: str, request: pytest.FixtureRequest
) -> None:
    """Also where each transaction of the role sees the log as of its beginning."""
    config: Config = request.getfixturevalue(through)
    isolation = "SET default_transaction_isolation = 'repeatable read'"
    name = postgres_config.postgres.db_name
    await execute(postgres_config, f"ALTER ROLE kuma IN DATABASE {name} {isolation}")
    results: list[Snapshot | None] = []
    async with opened(config) as log, superuser(postgres_config) as admin:
        history = History(log.genesis)
        await log.append(creations(history, "a"), after=log.genesis)
        head = history.head

        async def saving() -> None:
            results.append(await save(log, head))

        await admin.execute("SELECT pg_advisory_lock(1702261620, 5)")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(saving)
            with anyio.fail_after(10):
                query = (
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                    " AND objid = 5 AND NOT granted AND database ="
                    " (SELECT oid FROM pg_database WHERE datname = current_database())"
                )
                while not await value(admin, query):  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            await log.append(history.redaction(key("a")), after=head)
            await admin.execute("SELECT pg_advisory_unlock(1702261620, 5)")
        assert results == [None]
        assert await log.snapshots() == []


async def test_a_snapshot_that_is_about_to_appear_is_waited_for_and_dropped(
    postgres_config: Config,
) -> None:
    results: list[Snapshot | None] = []
    dropped: list[int] = []
    async with opened(postgres_config) as log, superuser(postgres_config) as admin:
        history = History(log.genesis)
        await log.append(creations(history, "a"), after=log.genesis)
        head = history.head
        for _ in range(2):
            await save(log)

        async def saving() -> None:
            results.append(await save(log, head))

        async def dropping() -> None:
            dropped.append(await log.drop_snapshots(since=1))

        # Its last step is to prune one of these.
        await admin.execute("BEGIN")
        await admin.execute("SELECT FROM evstore.snapshots FOR UPDATE")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(saving)
            await waiting(postgres_config)
            await log.append(history.redaction(key("a")), after=head)
            tasks.start_soon(dropping)
            await waiting(postgres_config, 2)
            assert not dropped
            await admin.execute("ROLLBACK")
        assert results != [None]
        assert dropped == [1]
        assert {each.stamp.head for each in await log.snapshots()} == {log.genesis}


async def test_a_drop_does_not_wait_for_chunks(postgres_config: Config) -> None:
    async with opened(postgres_config) as log:

        async def slow() -> AsyncGenerator[bytes]:
            yield b"first"
            with anyio.fail_after(5):
                assert await log.drop_snapshots() == 1
            yield b"second"

        await save(log)
        assert await save(log, chunks=slow()) is not None
        assert len(await log.snapshots()) == 1


# A role from before there were snapshots.


async def test_a_role_without_the_rights_can_do_all_but_snapshots(
    postgres_config: Config, runtime: Config
) -> None:
    role = runtime.postgres.user
    async with opened(postgres_config) as owner:
        snapshot = await save(owner)
        assert snapshot is not None
        await execute(postgres_config, f"REVOKE ALL ON {TABLES} FROM {role}")
        async with opened(runtime) as log:
            lacks = rf"role {role} lacks a right: .*snapshot"
            with pytest.raises(ConfigError, match=lacks):
                await log.snapshots()
            with pytest.raises(ConfigError, match=lacks):
                await save(log)
            with pytest.raises(ConfigError, match=lacks):
                await log.drop_snapshots()
            with pytest.raises(ConfigError, match=lacks):
                await anext(log.load_snapshot(snapshot))
            assert await log.beat(heartbeat("resources:1:"))
        async with evstore.open(runtime) as store:
            await store.create("Mesh", "default", spec={})
        async with evstore.open(runtime) as store:
            assert (await store.get("Mesh", "default")).version == 1
        assert await owner.snapshots() == [snapshot]
