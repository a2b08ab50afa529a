"""A writer that slept before its create, while the log was compacted beyond its head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

import evstore
from evstore import maintenance
from evstore.log.kubernetes import compaction, feed, objects, snapshots
from kube.interference import Fault, interference
from kube.late_writing import writing

if TYPE_CHECKING:
    from apiserver import ApiServer
    from evstore.config import Config


@pytest.fixture
def config(
    apiserver: ApiServer, kubernetes_config: Config, monkeypatch: pytest.MonkeyPatch
) -> Config:
    """Return the configuration of a compactor, to whom every object is old."""
    monkeypatch.setattr(compaction, "YOUNG_SECONDS", -1)
    namespace = kubernetes_config.kubernetes.system_namespace
    config = apiserver.config(namespace, role="compactor")
    section = msgspec.structs.replace(config.evstore, heartbeat_interval=0)
    return msgspec.structs.replace(config, evstore=section)


def test_what_is_removed_is_twice_as_old_as_a_look_that_counts() -> None:
    assert compaction.YOUNG_SECONDS >= 2 * feed.CONFIRMED_SECONDS_MAX


def test_what_is_removed_is_twice_as_old_as_a_snapshot_may_take() -> None:
    assert compaction.YOUNG_SECONDS >= 2 * snapshots.SAVING_SECONDS_MAX


async def test_what_it_creates_below_the_floor_is_void_and_it_is_told_the_truth(
    apiserver: ApiServer, config: Config
) -> None:
    async with evstore.open(config) as store:
        for name in "abc":
            await store.create("Mesh", name, spec={})
        with writing(config, "late") as writer:
            assert await writer.hear() == "ready"
            writer.go_on()
            assert await writer.hear() == "creating"
            with writer.stopped():
                for name in "defg":
                    await store.create("Mesh", name, spec={})
                assert (await maintenance.compact(config, keep_events=1)).floor == 6
            writer.go_on()
            told = await writer.hear()
        # It got position 4 from the API server, which was free again.
        path = objects.collection(config.kubernetes.system_namespace, "changes")
        assert apiserver.request("GET", f"{path}/{objects.name_of(4)}")[0] == 200
        assert told == "8"
        found = await store.get("Mesh", "late", consistent=True)
        assert found.version == 8
        assert len((await store.list("Mesh")).items) == 8
    async with evstore.open(config) as store:
        assert len((await store.list("Mesh")).items) == 8
        assert (await store.get("Mesh", "late")).version == 8
    assert (await maintenance.verify(config)).ok
    # The next compaction sweeps it up.
    assert (await maintenance.compact(config, keep_events=1)).removed == 2
    assert apiserver.request("GET", f"{path}/{objects.name_of(4)}")[0] == 404


async def test_what_it_creates_above_the_floor_is_refused_by_its_name(
    config: Config,
) -> None:
    async with evstore.open(config) as store:
        for name in "abc":
            await store.create("Mesh", name, spec={})
        with writing(config, "late") as writer:
            assert await writer.hear() == "ready"
            writer.go_on()
            assert await writer.hear() == "creating"
            with writer.stopped():
                for name in "defg":
                    await store.create("Mesh", name, spec={})
                assert (await maintenance.compact(config, keep_events=5)).floor == 2
            writer.go_on()
            assert await writer.hear() == "8"
        assert (await store.get("Mesh", "late", consistent=True)).version == 8


async def test_an_append_in_doubt_that_was_compacted_over_has_an_unknown_outcome(
    apiserver: ApiServer, config: Config
) -> None:
    async with interference(apiserver) as way, evstore.open(config) as store:
        await store.create("Mesh", "a", spec={})
        async with evstore.open(_same(config, way.config(config))) as late:
            way.plan("POST", "/changes", Fault.LOSE_ANSWER)
            # Whoever asks for the outcome hears nothing until the log is compacted.
            way.plan("GET", "/changes/", Fault.CUT_BEFORE, times=10**6)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_expect_unknown, late)
                while await store.head() < 2:
                    await anyio.lowlevel.checkpoint()
                for name in "bcd":
                    await store.create("Mesh", name, spec={})
                assert (await maintenance.compact(config, keep_events=1)).floor == 4
                way.forget()
            assert (await late.create("Mesh", "e", spec={})).version == 6
    assert (await maintenance.verify(config)).ok


def _same(config: Config, way: Config) -> Config:
    """Return the configuration of the same store, by a way of its own."""
    return msgspec.structs.replace(way, evstore=config.evstore)


async def _expect_unknown(store: evstore.Store) -> None:
    with pytest.raises(evstore.OutcomeUnknownError):
        await store.create("Mesh", "late", spec={})
