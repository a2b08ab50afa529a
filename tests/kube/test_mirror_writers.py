"""One instance writes the mirror at a time, and always one again."""

from __future__ import annotations

import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import to_thread

import evstore
from evstore import Key
from evstore.mirror import election
from kube.interference import Interference, interference
from kube.mirroring import Cluster, eventually, mirrored

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from anyio.abc import Process

    from apiserver import ApiServer
    from evstore import Config

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("mirroring_program.py")
TTL = 2
ZONE = Key(type="Zone", name="a")


@pytest.fixture(autouse=True)
def ttl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(election, "TTL_SECONDS", TTL)


@pytest.fixture
def cluster(apiserver: ApiServer, config: Config) -> Cluster:
    return Cluster(apiserver, config)


@pytest.fixture
async def second(apiserver: ApiServer) -> AsyncIterator[Interference]:
    async with interference(apiserver) as opened:
        yield opened


async def shows(cluster: Cluster, wanted: dict[str, int]) -> None:
    await eventually(cluster.shown, lambda shown: shown == wanted)


def writes(way: Interference) -> int:
    return sum(
        "/resources" in each and not each.startswith("GET") for each in way.requests
    )


async def asked_for_the_lease(way: Interference, times: int) -> None:
    """Wait until an instance has looked so often whether it may write."""
    await eventually(
        lambda: sum("leases/evstore-mirror" in each for each in way.requests),
        lambda count: count >= times,
    )


async def test_of_two_instances_one_writes(
    config: Config, cluster: Cluster, way: Interference, second: Interference
) -> None:
    async with (
        evstore.open(mirrored(second.config(config))) as other,
        evstore.open(mirrored(way.config(config))) as store,
    ):
        await eventually(cluster.holder, bool)
        await asked_for_the_lease(way, 2)
        await asked_for_the_lease(second, 2)
        for number in range(5):
            await store.create("Zone", f"one-{number}", spec={})
            await other.create("Zone", f"two-{number}", spec={})
        await eventually(cluster.shown, lambda shown: len(shown) == 10)
        assert sorted([writes(way), writes(second)]) == [0, 10]
    assert cluster.warnings() == []


async def test_when_the_writer_ends_another_goes_on_at_once(
    config: Config,
    cluster: Cluster,
    way: Interference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # No lease could run out in this test.
    monkeypatch.setattr(election, "TTL_SECONDS", 600)
    monkeypatch.setattr(election, "LOOKS_PER_TTL", 6000)
    writing, enough, ended = anyio.Event(), anyio.Event(), anyio.Event()

    async def write() -> None:
        async with evstore.open(mirrored(config)) as store:
            await store.create("Zone", "a", spec={})
            await shows(cluster, {"a": 1})
            writing.set()
            await enough.wait()
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await writing.wait()
        holder = cluster.holder()
        async with evstore.open(mirrored(way.config(config))) as other:
            await asked_for_the_lease(way, 2)
            assert writes(way) == 0
            assert cluster.holder() == holder
            enough.set()
            await ended.wait()
            await other.create("Zone", "b", spec={})
            await shows(cluster, {"a": 1, "b": 2})
            assert cluster.holder() not in {"", holder}
    assert cluster.holder() == ""
    assert cluster.warnings() == []


@asynccontextmanager
async def program(config: Config) -> AsyncGenerator[Process]:
    kubernetes = config.kubernetes
    words = (kubernetes.system_namespace, kubernetes.kubeconfig, str(TTL))
    command = [sys.executable, str(PROGRAM), *words]
    process = await anyio.open_process(command, stdout=PIPE, stderr=None)
    try:
        assert process.stdout is not None
        with anyio.fail_after(30):
            assert (await process.stdout.receive()).strip() == b"open"
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()


@pytest.mark.fault
async def test_a_killed_writer_is_succeeded(config: Config, cluster: Cluster) -> None:
    async with program(config) as process:
        await eventually(cluster.holder, bool)
        holder = cluster.holder()
        async with evstore.open(mirrored(config)) as store:
            await store.create("Zone", "a", spec={})
            await shows(cluster, {"a": 1})
            assert cluster.holder() == holder
            process.kill()
            await process.wait()
            cluster.edit("a", lambda found: found.update(version=7))
            await store.create("Zone", "b", spec={})
            await shows(cluster, {"a": 1, "b": 2})
            assert cluster.holder() != holder
    ((reason, _, count),) = cluster.warnings()
    assert (reason, count) == ("ChangedByHand", 1)


@pytest.mark.fault
async def test_a_writer_that_was_stopped_gives_way_when_it_wakes_up(
    config: Config, cluster: Cluster
) -> None:
    async with program(config) as process:
        await eventually(cluster.holder, bool)
        holder = cluster.holder()
        async with evstore.open(mirrored(config)) as store:
            await store.create("Zone", "a", spec={})
            await shows(cluster, {"a": 1})
            process.send_signal(signal.SIGSTOP)
            await store.update(ZONE, spec={"n": 2})
            await shows(cluster, {"a": 2})
            succeeded = cluster.holder()
            assert succeeded != holder
            process.send_signal(signal.SIGCONT)
            for number in range(3, 13):
                await store.update(ZONE, spec={"n": number})
                await shows(cluster, {"a": number})
            assert cluster.holder() == succeeded
    assert cluster.warnings() == []


@pytest.mark.fault
async def test_a_writer_that_is_cut_off_stops_before_another_begins(
    config: Config,
    cluster: Cluster,
    way: Interference,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with evstore.open(mirrored(way.config(config))) as store:
        await store.create("Zone", "a", spec={})
        await shows(cluster, {"a": 1})
        holder = cluster.holder()
        async with evstore.open(mirrored(config)) as other:
            way.refuse(refusing=True)
            await other.update(ZONE, spec={"n": 2})
            await shows(cluster, {"a": 2})
            assert cluster.holder() not in {"", holder}
            assert "another instance may mirror now" in caplog.text
            way.refuse(refusing=False)
            await store.update(ZONE, spec={"n": 3})
            await shows(cluster, {"a": 3})
    assert cluster.warnings() == []


@pytest.mark.fault
async def test_it_goes_on_when_the_api_server_is_back(
    apiserver: ApiServer, config: Config, cluster: Cluster
) -> None:
    async with evstore.open(mirrored(config)) as store:
        await store.create("Zone", "a", spec={"n": 1})
        await shows(cluster, {"a": 1})
        apiserver.kill_server()
        await to_thread.run_sync(apiserver.start_server)
        cluster.edit("a", lambda found: found["spec"].update(n=2))
        with anyio.fail_after(30):
            await store.create("Zone", "b", spec={})
        await shows(cluster, {"a": 1, "b": 2})
        await eventually(cluster.objects, lambda all_: all_["a"]["spec"] == {"n": 1})
    ((reason, _, _),) = cluster.warnings()
    assert reason == "ChangedByHand"
