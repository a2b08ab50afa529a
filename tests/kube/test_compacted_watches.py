"""Watches of an instance that heard of nothing while the log was compacted beyond it."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
import pytest

import evstore
from evstore import maintenance
from evstore.errors import CompactedError
from evstore.log.kubernetes import compaction, feed
from fault.history import adjusted

if TYPE_CHECKING:
    from apiserver import ApiServer
    from evstore.config import Config
    from kube.interference import Interference


@pytest.fixture
def config(
    apiserver: ApiServer, kubernetes_config: Config, monkeypatch: pytest.MonkeyPatch
) -> Config:
    """Return the configuration of a compactor, to whom every object is old."""
    monkeypatch.setattr(compaction, "YOUNG_SECONDS", -1)
    monkeypatch.setattr(feed, "CONFIRMED_SECONDS_MAX", -1)
    namespace = kubernetes_config.kubernetes.system_namespace
    return adjusted(apiserver.config(namespace, role="compactor"), heartbeat_interval=0)


async def test_they_are_told_of_the_compaction_and_go_on_from_a_listing(
    config: Config, way: Interference
) -> None:
    cut_off = msgspec.structs.replace(config, kubernetes=way.config(config).kubernetes)
    async with evstore.open(config) as store, evstore.open(cut_off) as sleeper:
        await store.create("Mesh", "a", spec={})
        await sleeper.get("Mesh", "a", consistent=True)
        async with aclosing(sleeper.watch(after=0)) as given:
            assert (await anext(given)).position == 1
            way.refuse(refusing=True)
            for name in "bcd":
                await store.create("Mesh", name, spec={})
            done = await maintenance.compact(config, keep_events=1)
            assert (done.floor, done.removed) == (3, 3)
            way.refuse(refusing=False)
            await sleeper.get("Mesh", "d", consistent=True)
            with pytest.raises(CompactedError) as told:
                await anext(given)
        assert told.value.oldest == 3
        page = await sleeper.list("Mesh")
        assert [each.name for each in page.items] == list("abcd")
        async with aclosing(sleeper.watch(after=page.position)) as given:
            made = await sleeper.create("Mesh", "e", spec={})
            assert (await anext(given)).position == made.version
