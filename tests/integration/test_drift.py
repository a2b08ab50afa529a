"""States that have drifted: told by heartbeats, after a start as well, and by a replay."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio
import pytest

import evstore
from command import Command
from evstore.config import SnapshotsConfig
from fault.history import adjusted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path
    from uuid import UUID

    from evstore import Config, Store
    from evstore.model import StoredEvent

LOST: Final = 3


def forget(store: Store, position: int) -> None:
    """Have one store pass over one event from now on, as a wrong fold would."""
    resources = store._committer.projections.resources
    apply = resources.apply

    def without(events: Sequence[StoredEvent]) -> None:
        apply([event for event in events if event.position != position])

    resources.apply = without  # type: ignore[method-assign]


@asynccontextmanager
async def beating(config: Config, *, every: int = 0) -> AsyncGenerator[Store]:
    """Open a store that beats often, and takes a snapshot at its end, if told to."""
    often = adjusted(
        config,
        heartbeat_interval=0.05,
        snapshots=SnapshotsConfig(every_events=every),
    )
    async with evstore.open(often) as store:
        yield store


def id_of(store: Store) -> UUID:
    return store._vitals._presence.id


async def drift_of(store: Store, *, without: UUID | None = None) -> UUID:
    """Return the one instance that drifts, once there is one, other than another."""
    with anyio.fail_after(10):
        while True:
            found = [each for each in (await store.health()).drift if each != without]
            if found:
                (only,) = found
                return only
            await anyio.sleep(0.01)


@pytest.mark.slow
async def test_a_wrong_fold_shows_as_drift_until_nothing_starts_from_it(
    postgres_config: Config, tmp_path: Path
) -> None:
    command = Command(postgres_config, tmp_path)

    async def verify() -> tuple[int, str]:
        words = ("projection", "verify")
        done = await anyio.to_thread.run_sync(command.process, *words)
        return done.code, done.err

    async with beating(postgres_config) as right:
        mesh = await right.create("Mesh", "m", spec={"n": 1})
        await right.create("Mesh", "other", spec={})
        async with beating(postgres_config, every=1) as wrong:
            forget(wrong, LOST)
            assert (await right.health()).drift == ()
            await right.update(mesh, spec={"n": 2})
            assert await drift_of(right) == id_of(wrong)
            assert await drift_of(wrong) == id_of(right)
            assert (await right.health()).ok
            code, said = await verify()
            assert code == 1
            assert f"instance {id_of(wrong)} comes to another state" in said
            assert "is Mesh//m, which the event at position 3 should have set" in said
            gone = id_of(wrong)
        # It has left a snapshot of what it had.
        async with beating(postgres_config, every=1) as heir:
            assert (await heir.get("Mesh", "m")).spec == {"n": 1}
            assert await drift_of(right, without=gone) == id_of(heir)
        code, said = await verify()
        assert code == 1
        assert "a start comes to another state" in said
        assert "is Mesh//m, which the event at position 3 should have set" in said
        await right._stored.drop_snapshots()
        async with beating(postgres_config) as cured:
            assert (await cured.get("Mesh", "m")).spec == {"n": 2}
            await right.create("Mesh", "last", spec={})
            await both_seen(right, cured)
            assert id_of(cured) not in (await right.health()).drift


async def both_seen(store: Store, other: Store) -> None:
    """Return when both have beaten at the position of the first."""
    with anyio.fail_after(10):
        while True:
            beats = {each.id: each.position for each in await store._log.instances()}
            if {beats.get(id_of(each)) for each in (store, other)} == {store.position}:
                return
            await anyio.sleep(0.01)
