"""A mirror, and the log compacted under it: it shows the state, wherever that lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import evstore
from evstore import maintenance
from kube.compacting import compactor_config, make_old
from kube.mirroring import Cluster, eventually, mirrored

if TYPE_CHECKING:
    from apiserver import ApiServer
    from evstore.config import Config


@pytest.fixture(autouse=True)
def _aged(monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(monkeypatch)


@pytest.fixture
def compactor(apiserver: ApiServer, kubernetes_config: Config) -> Config:
    return compactor_config(apiserver, kubernetes_config)


@pytest.fixture
def config(kubernetes_config: Config, compactor: Config) -> Config:
    """Return the configuration of a store that mirrors, of the same log."""
    quiet = msgspec.structs.replace(kubernetes_config, evstore=compactor.evstore)
    return mirrored(quiet)


@pytest.fixture
def cluster(apiserver: ApiServer, kubernetes_config: Config) -> Cluster:
    return Cluster(apiserver, kubernetes_config)


def zone(name: str) -> evstore.Key:
    return evstore.Key(type="Zone", mesh="", name=name)


async def shows(cluster: Cluster, versions: dict[str, int]) -> None:
    await eventually(cluster.shown, lambda shown: shown == versions)


async def fill(store: evstore.Store) -> None:
    """Write eight changes: `a` to `d`, `a` and `b` twice more."""
    for name in "abcd":
        await store.create("Zone", name, spec={"n": 0})
    for number in (1, 2):
        for name in "ab":
            await store.update(zone(name), spec={"n": number})


async def test_it_stays_right_while_the_log_is_compacted_under_it(
    config: Config, compactor: Config, cluster: Cluster
) -> None:
    async with evstore.open(config) as store:
        await fill(store)
        await shows(cluster, {"a": 7, "b": 8, "c": 3, "d": 4})
        assert (await maintenance.compact(compactor, keep_events=1)).floor == 7
        # What happens to what lies below the floor now: changed, deleted, edited.
        await store.update(zone("a"), spec={"n": 3})
        await store.delete("Zone", "c")
        await store.create("Zone", "e", spec={})
        await shows(cluster, {"a": 9, "b": 8, "d": 4, "e": 11})
        cluster.edit("d", lambda found: found.update(version=1))
        await shows(cluster, {"a": 9, "b": 8, "d": 4, "e": 11})
        # And again, with the instance that mirrors beyond the first floor.
        assert (await maintenance.compact(compactor, keep_events=1)).floor == 10
        await store.update(zone("d"), spec={"n": 1})
        await shows(cluster, {"a": 9, "b": 8, "d": 12, "e": 11})
    assert [each[0] for each in cluster.warnings()] == ["ChangedByHand"]


async def test_who_begins_to_mirror_a_compacted_log_repairs_what_lies_below_its_floor(
    config: Config, compactor: Config, cluster: Cluster
) -> None:
    async with evstore.open(config) as store:
        await fill(store)
        await shows(cluster, {"a": 7, "b": 8, "c": 3, "d": 4})
    async with evstore.open(compactor) as store:
        await store.delete("Zone", "d")
        await store.update(zone("b"), spec={"n": 9})
    assert (await maintenance.compact(compactor, keep_events=1)).floor == 9
    before = cluster.objects()
    assert set(before) == {"a", "b", "c", "d"}
    cluster.delete("c")
    cluster.edit("a", lambda found: found["spec"].update(n=77))
    async with evstore.open(config):
        await shows(cluster, {"a": 7, "b": 10, "c": 3})

        def right(found: dict[str, dict[str, Any]]) -> bool:
            return {name: each["spec"] for name, each in found.items()} == {
                "a": {"n": 2},
                "b": {"n": 9},
                "c": {"n": 0},
            }

        await eventually(cluster.objects, right)


async def test_a_mirror_that_lags_is_not_misled_by_a_compaction(
    config: Config, compactor: Config, cluster: Cluster
) -> None:
    slow = msgspec.structs.replace(config.kubernetes.mirror, rate=5)
    kubernetes = msgspec.structs.replace(config.kubernetes, mirror=slow)
    async with evstore.open(
        msgspec.structs.replace(config, kubernetes=kubernetes)
    ) as store:
        await fill(store)
        # Most of it is not shown yet.
        assert (await maintenance.compact(compactor, keep_events=1)).floor == 7
        await store.delete("Zone", "a")
        await shows(cluster, {"b": 8, "c": 3, "d": 4})
    assert cluster.warnings() == []
