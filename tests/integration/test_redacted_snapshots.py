"""A redaction leaves no snapshot behind that may hold what is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import evstore
from doctoring import execute
from evstore.log import MemoryLog, Stamp
from evstore.log.kubernetes import KubernetesLog
from evstore.log.postgres import PostgresLog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evstore import Config, Store
    from evstore.log import Log
    from evstore.model import Head
    from integration.conftest import Backend

SECRET = "hunter2-correct-horse"


class DiedError(Exception):
    """The process is gone."""


async def save(log: Log, head: Head) -> None:
    """Save a snapshot of a fold that keeps all bodies that it has seen."""

    async def chunks() -> AsyncGenerator[bytes]:
        yield SECRET.encode()

    stamp = Stamp(
        log=log.identity,
        projection="secrets",
        version=1,
        fingerprint="",
        head=head,
        digest=bytes(32),
    )
    assert await log.save_snapshot(stamp, chunks(), code_version="") is not None


async def positions(store: Store) -> list[int]:
    """Return the positions of these snapshots."""
    return [
        each.stamp.head.position
        for each in await store._log.snapshots()
        if each.stamp.projection == "secrets"
    ]


async def create(store: Store) -> int:
    """Create a mesh and then a secret, with a snapshot after each; return a version."""
    await store.create("Mesh", "default", spec={})
    await save(store._log, await store._log.head())
    made = await store.create("Secret", "key", spec={"pin": SECRET})
    await save(store._log, await store._log.head())
    assert await positions(store) == [2, 1]
    return made.version


async def redact(store: Store, version: int) -> None:
    why: dict[str, Any] = {"fields": ["spec.pin"], "reason": "leaked"}
    await store.redact("Secret", "key", version=version, **why)


async def test_the_snapshots_from_the_version_on_are_dropped(backend: Backend) -> None:
    async with backend.open() as store:
        await redact(store, await create(store))
        assert await positions(store) == [1]


async def test_they_are_gone_before_the_body_is(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a process that dies leaves nothing that `verify` would not tell."""

    async def die(*_: object, **__: object) -> bool:
        raise DiedError

    async with backend.open() as store:
        version = await create(store)
        with monkeypatch.context() as patch:
            for log in (MemoryLog, PostgresLog, KubernetesLog):
                patch.setattr(log, "redact", die)
            with pytest.raises(DiedError):
                await redact(store, version)
        assert await positions(store) == [1]
        assert len((await store.verify()).unfinished) == 1


async def test_those_that_come_before_the_body_is_replaced_go_as_well(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PostgresLog if backend.name == "postgres" else MemoryLog
    real = log.redact

    async def later(self: Any, *places: Any, **binds: Any) -> bool:
        await save(self, await self.head())
        return await real(self, *places, **binds)

    async with backend.open() as store:
        version = await create(store)
        monkeypatch.setattr(log, "redact", later)
        await redact(store, version)
        assert await positions(store) == [1]


async def test_the_same_command_drops_what_was_left(backend: Backend) -> None:
    async with backend.open() as store:
        version = await create(store)
        await redact(store, version)
        head = await store._log.head()
        await save(store._log, head)
        await redact(store, version)
        assert await positions(store) == [1]
        assert await store._log.head() == head


async def test_who_may_not_drop_snapshots_is_refused_before_anything_is_done(
    postgres_config: Config,
) -> None:
    async with evstore.open(postgres_config) as store:
        version = await create(store)
        await execute(postgres_config, "REVOKE DELETE ON evstore.snapshots FROM kuma")
        try:
            with pytest.raises(evstore.ConfigError, match="may not drop snapshots"):
                await redact(store, version)
            assert await store.head() == version
        finally:
            await execute(postgres_config, "GRANT DELETE ON evstore.snapshots TO kuma")
        await redact(store, version)
        assert await positions(store) == [1]
