"""How a mirror is written: coalesced, paced, once, and through whatever fails."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from evstore import Key
from evstore.config import Config, EvstoreConfig, Limits
from evstore.log.kubernetes.client import Client
from evstore.mirror.content import name_of
from evstore.mirror.pace import Pace
from kube.interference import Fault, Interference, Reply
from kube.mirroring import SECONDS, Cluster, Counted, eventually, keeper

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from apiserver import ApiServer
    from evstore import Store

RATE = 20
ZONE = Key(type="Zone", name="a")
WATCH = "watch=1"


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 0
        self.sleepers = 0
        self._moved = anyio.Event()
        self._slept = anyio.Event()

    def __call__(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        until = self.now + round(seconds * 1e6)
        self.sleepers += 1
        self._slept.set()
        self._slept = anyio.Event()
        while self.now < until:
            await self._moved.wait()
        self.sleepers -= 1

    async def asleep(self) -> None:
        """Return when somebody waits for the clock to go on."""
        with anyio.fail_after(SECONDS):
            while not self.sleepers:
                await self._slept.wait()

    def advance(self, microseconds: int) -> None:
        self.now += microseconds
        self._moved.set()
        self._moved = anyio.Event()


@pytest.fixture
def cluster(apiserver: ApiServer, config: Config) -> Cluster:
    return Cluster(apiserver, config)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """Return a store in memory: the mirror does not ask where its log is."""
    limits = Limits(tail_events_max=8)
    async with evstore.open(Config(evstore=EvstoreConfig(limits=limits))) as opened:
        yield opened


@asynccontextmanager
async def kept(
    store: Store, way: Interference, config: Config, pace: Pace | None = None
) -> AsyncGenerator[Counted]:
    """Keep a mirror meanwhile."""
    client = Client(way.config(config).kubernetes, seconds=2)
    made, objects = keeper(store, client, pace or Pace(1000))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.run)
        try:
            yield objects
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await client.aclose()


async def shows(cluster: Cluster, wanted: dict[str, int]) -> None:
    await eventually(cluster.shown, lambda shown: shown == wanted)


def lists(way: Interference) -> int:
    """Return how often the whole mirror was listed."""
    return sum("limit=" in each and "continue=ey" not in each for each in way.requests)


async def test_only_the_newest_state_is_written_however_often_it_changed(
    store: Store, way: Interference, config: Config, cluster: Cluster
) -> None:
    clock = Clock()
    pace = Pace(RATE, clock=clock, sleep=clock.sleep)
    await store.create("Zone", "first", spec={})
    async with kept(store, way, config, pace) as objects:
        await shows(cluster, {"first": 1})
        await store.create("Zone", "a", spec={"n": 0})
        for number in range(1, 51):
            await store.update(ZONE, spec={"n": number})
        await store.create("Zone", "never", spec={})
        await store.delete("Zone", "never")
        await clock.asleep()
        assert objects.writes == ["create first 1"]
        clock.advance(1_000_000 // RATE)
        await shows(cluster, {"first": 1, "a": 52})
        await store.update(ZONE, spec={"n": -1})
        await clock.asleep()
        clock.advance(1_000_000 // RATE)
        await shows(cluster, {"first": 1, "a": 55})
        assert objects.writes == ["create first 1", "create a 52", "replace a 55"]
    assert cluster.objects()["a"]["metadata"]["generation"] == 2


async def test_no_more_is_written_than_the_rate_allows(
    store: Store, way: Interference, config: Config
) -> None:
    clock = Clock()
    pace = Pace(RATE, clock=clock, sleep=clock.sleep)
    for number in range(5):
        await store.create("Zone", f"z{number}", spec={})
    async with kept(store, way, config, pace) as objects:
        for count in range(1, 6):
            await clock.asleep() if count < 5 else None
            assert len(objects.writes) <= count
            if count < 5:
                assert len(objects.writes) == count
                clock.advance(1_000_000 // RATE - 1)
                assert len(objects.writes) == count
                clock.advance(1)
                # Who slept wakes up, writes, and sleeps again.
                while len(objects.writes) == count:
                    await anyio.lowlevel.checkpoint()


async def test_warnings_count_as_writes(
    store: Store, way: Interference, config: Config, cluster: Cluster
) -> None:
    clock = Clock()
    pace = Pace(RATE, clock=clock, sleep=clock.sleep)
    await store.create("Zone", "a", spec={})
    async with kept(store, way, config, pace):
        await shows(cluster, {"a": 1})
        cluster.delete("a")
        await clock.asleep()
        assert cluster.warnings() == []
        clock.advance(1_000_000 // RATE)
        expected = [("DeletedByHand", name_of("Zone//a"), 1)]
        await eventually(cluster.warnings, lambda found: found == expected)
        await clock.asleep()
        assert cluster.shown() == {}
        clock.advance(1_000_000 // RATE)
        await shows(cluster, {"a": 1})


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.LOSE_ANSWER])
async def test_a_write_without_an_answer_is_looked_into_and_blamed_on_nobody(
    store: Store, way: Interference, config: Config, cluster: Cluster, fault: Fault
) -> None:
    async with kept(store, way, config):
        failed = way.plan("POST", "/resources", fault)
        await store.create("Zone", "a", spec={"n": 1})
        await failed.wait()
        await shows(cluster, {"a": 1})
        failed = way.plan("PUT", "/resources", fault)
        await store.update(ZONE, spec={"n": 2})
        await failed.wait()
        await shows(cluster, {"a": 2})
        failed = way.plan("DELETE", "/resources", fault)
        await store.delete("Zone", "a")
        await failed.wait()
        await shows(cluster, {})
        await store.create("Zone", "a", spec={"n": 3})
        await shows(cluster, {"a": 4})
    assert cluster.warnings() == []


async def test_a_warning_without_an_answer_is_recorded_once(
    store: Store, way: Interference, config: Config, cluster: Cluster
) -> None:
    await store.create("Zone", "a", spec={})
    async with kept(store, way, config):
        await shows(cluster, {"a": 1})
        for count in (1, 2):
            method = "POST" if count == 1 else "PUT"
            lost = way.plan(method, "/events", Fault.LOSE_ANSWER)
            cluster.delete("a")
            await lost.wait()
            await shows(cluster, {"a": 1})
            assert cluster.warnings() == [("DeletedByHand", name_of("Zone//a"), count)]


async def test_one_that_the_cluster_refuses_stops_no_other(
    store: Store,
    way: Interference,
    config: Config,
    cluster: Cluster,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusal = Reply(422, body={"message": "spec: too strange", "code": 422})
    async with kept(store, way, config) as objects:
        refused = way.plan("POST", "/resources", refusal)
        await store.create("Zone", "a", spec={})
        await refused.wait()
        await store.create("Zone", "b", spec={})
        await shows(cluster, {"b": 2})
        # It is tried again once it is another.
        await store.update(ZONE, spec={"n": 2})
        await shows(cluster, {"a": 3, "b": 2})
    assert objects.writes == ["create a 1", "create b 2", "create a 3"]
    assert "Zone//a cannot be mirrored: spec: too strange" in caplog.text


@pytest.mark.parametrize("forgotten", [False, True], ids=["cut", "forgotten"])
async def test_what_happens_while_no_watch_is_open_is_found(
    store: Store,
    way: Interference,
    config: Config,
    cluster: Cluster,
    forgotten: bool,  # noqa: FBT001 - a parameter
) -> None:
    for name in "abc":
        await store.create("Zone", name, spec={"n": 1})
    async with kept(store, way, config):
        await shows(cluster, {"a": 1, "b": 2, "c": 3})
        cluster.delete("c")  # from here on it follows the watch
        await eventually(cluster.warnings, bool)
        await shows(cluster, {"a": 1, "b": 2, "c": 3})
        gone = Reply(410, body={"code": 410, "reason": "Expired"})
        cut = way.plan("GET", WATCH, Fault.CUT_BEFORE, times=2)
        way.cut_all()
        await cut.wait()
        if forgotten:
            gone_told = way.plan("GET", WATCH, gone)
        cluster.edit("a", lambda found: found["spec"].update(n=2))
        cluster.delete("b")
        if forgotten:
            await gone_told.wait()
        expected = [
            ("ChangedByHand", name_of("Zone//a"), 1),
            ("DeletedByHand", name_of("Zone//b"), 1),
            ("DeletedByHand", name_of("Zone//c"), 1),
        ]
        await eventually(cluster.warnings, lambda found: found == expected)
        await eventually(cluster.objects, lambda all_: all_["a"]["spec"] == {"n": 1})
        await shows(cluster, {"a": 1, "b": 2, "c": 3})
        assert lists(way) == (2 if forgotten else 1)


async def test_in_steady_state_nothing_is_listed(
    store: Store, way: Interference, config: Config, cluster: Cluster
) -> None:
    async with kept(store, way, config):
        await store.create("Zone", "a", spec={})
        await shows(cluster, {"a": 1})
        for number in range(5):
            await store.update(ZONE, spec={"n": number})
            way.cut_all()
        await shows(cluster, {"a": 6})
        cluster.delete("a")
        await eventually(cluster.warnings, bool)
    assert lists(way) == 1


async def test_one_that_falls_behind_the_tail_compares_everything(
    store: Store, way: Interference, config: Config, cluster: Cluster
) -> None:
    await store.create("Zone", "gone", spec={})
    async with kept(store, way, config):
        await shows(cluster, {"gone": 1})
        async with store.transaction() as tx:
            # More than the tail keeps, at once.
            tx.delete("Zone", "gone")
            for number in range(20):
                tx.create("Zone", f"z{number}", spec={})
        wanted = {f"z{number}": number + 3 for number in range(20)}
        await shows(cluster, wanted)
    assert cluster.warnings() == []


async def test_a_mirror_of_many_pages_is_repaired_whole(
    store: Store,
    way: Interference,
    config: Config,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evstore.mirror.cluster.PAGE_OBJECTS", 3)
    wanted = {f"z{number}": number + 1 for number in range(10)}
    for name in wanted:
        await store.create("Zone", name, spec={})
    async with kept(store, way, config):
        await shows(cluster, wanted)
    for name in ("z0", "z5", "z9"):
        cluster.delete(name)
    async with kept(store, way, config) as objects:
        await shows(cluster, wanted)
    assert sorted(objects.writes) == ["create z0 1", "create z5 6", "create z9 10"]
    for name in ("z1", "z8"):
        cluster.delete(name)
    # A list that took too long is begun again.
    forgotten = way.plan("GET", "continue=ey", Reply(410, body={"code": 410}))
    async with kept(store, way, config) as objects:
        await shows(cluster, wanted)
    assert forgotten.is_set()
    assert sorted(objects.writes) == ["create z1 2", "create z8 9"]
