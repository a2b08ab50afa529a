"""What is done to the instances, a cluster and the wires between them."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import psutil
from anyio import to_thread

from evstore import maintenance
from evstore.errors import CompactedError, UnavailableError
from fault.history import until
from kube.interference import Fault, Reply

from .ground import Victims, stopped, thawing
from .worker import STOP_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from apiserver import ApiServer
    from evstore.config import Config
    from kube.interference import Interference

    from .archive import Archive
    from .assignment import Cluster
    from .ground import Strike

# As short as they can be where dates have whole seconds; see ADR 0022.
CONFIRMED_SECONDS: Final = 1.0
YOUNG_SECONDS: Final = 4
RUNNING_SECONDS: Final = 2
_OVER_SECONDS: Final = YOUNG_SECONDS + 1.5
# On a busy machine a request may take a second, and an instance writes a third of the
# time.
_SEARCH_SECONDS: Final = 15.0
_KEPT_EVENTS_MAX: Final = 200

_CHANGES: Final = "/changes"
_CHANGE: Final = "/changes/"
_WATCH: Final = "watch=1"
_GONE: Final = {"kind": "Status", "code": 410, "message": "too old resource version"}
_HELD: Final = (Fault.DELIVER_LATE, Fault.STALL)


@dataclass
class InterferenceWay:
    """A way between an instance and the API server that fails when it is told to."""

    interference: Interference
    place: Cluster

    def forget(self) -> None:
        self.interference.requests.clear()


@dataclass
class ClusterVictims(Victims[InterferenceWay]):
    """And the cluster, with what is needed to compact its log."""

    server: ApiServer
    compactor: Config
    archive: Archive


async def kill_server(victims: ClusterVictims) -> str:
    """End the API server by SIGKILL, and start it again."""
    await to_thread.run_sync(victims.server.kill_server)
    down = victims.seconds(0.0, 0.5)
    await anyio.sleep(down)
    await to_thread.run_sync(victims.server.start_server)
    return f"down for {down:.1f} s, and until it was ready"


async def kill_etcd(victims: ClusterVictims) -> str:
    """End etcd by SIGKILL, and start it again."""
    await to_thread.run_sync(victims.server.kill_etcd)
    down = victims.seconds(0.0, 1.0)
    await anyio.sleep(down)
    await to_thread.run_sync(victims.server.start_etcd)
    return f"down for {down:.1f} s"


async def stall_server(victims: ClusterVictims) -> str:
    """Stop the API server, for a while."""
    return await _stall("the API server", victims.server.server_pid, victims)


async def stall_etcd(victims: ClusterVictims) -> str:
    """Stop etcd, for a while."""
    return await _stall("etcd", victims.server.etcd_pid, victims)


async def _stall(who: str, pid: int, victims: ClusterVictims) -> str:
    seconds = victims.stall_seconds()
    async with stopped(pid, seconds):
        await anyio.sleep(seconds)
    return f"{who} for {seconds:.1f} s"


async def kill_instance(victims: ClusterVictims) -> str:
    """End an instance by SIGKILL."""
    instance = victims.an_instance()
    instance.kill()
    return instance.name


async def stall_instance(victims: ClusterVictims) -> str | None:
    """Stop an instance, wherever it is, for a while."""
    instance = victims.an_instance()
    await instance.opened()
    pid = instance.pid
    return None if pid is None else await _stall(instance.name, pid, victims)


async def stop_before_create(victims: ClusterVictims) -> str | None:
    """Stop an instance between its look at the log's end and its create.

    It sleeps while others write and the log is compacted beyond where it stands.
    """
    instance = victims.an_instance()
    await instance.opened()
    pid = instance.pid
    if pid is None:
        return None
    async with thawing(pid, _OVER_SECONDS + 30):
        os.kill(pid, signal.SIGUSR1)
        with suppress(TimeoutError):
            await until(lambda: _is_stopped(pid), seconds=STOP_SECONDS + 1)
        if not _is_stopped(pid):
            return None
        await anyio.sleep(_OVER_SECONDS)
        compacted = await _compact(victims, keep=0)
    return f"{instance.name}; meanwhile {compacted or 'nothing was compacted'}"


def _is_stopped(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return False


async def compact(victims: ClusterVictims) -> str | None:
    """Compact the log, once or by two at once."""
    keep = victims.chance.randrange(_KEPT_EVENTS_MAX)
    return await _compact(victims, keep=keep, times=victims.chance.choice([1, 1, 2]))


async def break_off_compaction(victims: ClusterVictims) -> str:
    """Begin to compact the log, and be gone."""
    seconds = victims.seconds(0.0, 0.6)
    with anyio.move_on_after(seconds):
        await _compact(victims, keep=0)
        return f"it was done before {seconds:.2f} s"
    return f"after {seconds:.2f} s"


async def _compact(victims: ClusterVictims, *, keep: int, times: int = 1) -> str | None:
    """Compact the log, no further than it was read before."""
    done: list[int] = []

    async def run() -> None:
        with suppress(UnavailableError, CompactedError):
            since = max(1, len(victims.archive.events) + 1 - keep)
            found = await maintenance.compact(victims.compactor, keep_since=since)
            if found.removed or found.floor > found.before:
                done.append(found.floor)

    with suppress(UnavailableError):
        await victims.archive.read(victims.compactor)
        async with anyio.create_task_group() as tasks:
            for _ in range(times):
                tasks.start_soon(run)
    return f"{times} compacted up to {max(done)}" if done else None


async def cut_all(victims: ClusterVictims) -> str:
    """Cut an instance off, on all of its connections; sometimes for a while."""
    instance = victims.an_instance()
    way = instance.way.interference
    if victims.chance.random() < 0.5:
        way.cut_all()
        return instance.name
    seconds = victims.seconds(0.1, 1.5)
    way.refuse(refusing=True)
    await anyio.sleep(seconds)
    way.refuse(refusing=False)
    return f"{instance.name} for {seconds:.1f} s"


async def on_request(
    method: str, path: str, fault: Fault | Reply, victims: ClusterVictims
) -> str | None:
    """Let one request of an instance fail."""
    async with _planned(victims, method, path, fault) as (name, struck):
        if struck:
            await anyio.sleep(victims.seconds(0.0, 1.0) if fault in _HELD else 0.0)
            return name
    return None


async def deliver_after_compaction(victims: ClusterVictims) -> str | None:
    """Deliver a create when the log was compacted beyond what it would follow."""
    fault = Fault.DELIVER_LATE
    async with _planned(victims, "POST", _CHANGES, fault) as (name, struck):
        if struck:
            await anyio.sleep(_OVER_SECONDS)
            compacted = await _compact(victims, keep=0)
            return f"{name}; meanwhile {compacted or 'nothing was compacted'}"
    return None


async def refuse_watches(victims: ClusterVictims) -> str | None:
    """Break the watch of an instance, and let the next ones begin with nothing good."""
    fault = victims.chance.choice(
        [
            Reply(410, body=_GONE),
            Reply(200, body={"type": "ERROR", "object": _GONE}),
            Reply(500),
            Fault.STALL,
        ]
    )
    times = victims.chance.randint(1, 3)
    async with _planned(victims, "GET", _WATCH, fault, times=times, cut=True) as (
        name,
        struck,
    ):
        if struck:
            await anyio.sleep(victims.seconds(0.4, 1.2))
            what = (
                f"answered by {fault.status}" if isinstance(fault, Reply) else "silent"
            )
            return f"{name}, {times} watches {what}"
    return None


async def hold_back(victims: ClusterVictims) -> str | None:
    """Answer an instance that there is too much to do, some times."""
    pause = victims.seconds(0.05, 0.5)
    fault = Reply(429, {"Retry-After": f"{pause:.2f}"})
    times = victims.chance.randint(1, 10)
    method, path = victims.chance.choice(
        [("POST", _CHANGES), ("GET", _CHANGE), ("PUT", "/leases/"), ("GET", _WATCH)]
    )
    cut = path == _WATCH
    async with _planned(victims, method, path, fault, times=times, cut=cut) as (
        name,
        struck,
    ):
        if struck:
            return f"{name}, {times} times {method} {path}, {pause:.2f} s each"
    return None


@asynccontextmanager
async def _planned(
    victims: ClusterVictims,
    method: str,
    path: str,
    fault: Fault | Reply,
    *,
    times: int = 1,
    cut: bool = False,
) -> AsyncGenerator[tuple[str, bool]]:
    """Let requests of an instance fail; tell of which one, and whether they did."""
    instance = victims.an_instance()
    await instance.opened()
    way = instance.way.interference
    happened = way.plan(method, path, fault, times=times)
    if cut:
        way.cut_all()
    try:
        with anyio.move_on_after(_SEARCH_SECONDS):
            await happened.wait()
        yield instance.name, happened.is_set()
    finally:
        way.forget()
        way.release()


def faults(victims: ClusterVictims) -> dict[str, Strike]:
    """Return what can be done, by name."""
    found: dict[str, Callable[[ClusterVictims], Awaitable[str | None]]] = {
        "API server killed": kill_server,
        "etcd killed": kill_etcd,
        "API server stopped": stall_server,
        "etcd stopped": stall_etcd,
        "instance killed": kill_instance,
        "instance stopped": stall_instance,
        "instance stopped before a create": stop_before_create,
        "all connections cut": cut_all,
        "create lost": partial(on_request, "POST", _CHANGES, Fault.CUT_BEFORE),
        "answer of a create lost": partial(
            on_request, "POST", _CHANGES, Fault.LOSE_ANSWER
        ),
        "create delivered late": partial(
            on_request, "POST", _CHANGES, Fault.DELIVER_LATE
        ),
        "create not answered": partial(on_request, "POST", _CHANGES, Fault.STALL),
        "create answered by 500": partial(on_request, "POST", _CHANGES, Reply(500)),
        "create delivered after a compaction": deliver_after_compaction,
        "look at a change cut": partial(on_request, "GET", _CHANGE, Fault.CUT_BEFORE),
        "look at the floor cut": partial(on_request, "GET", "/logs/", Fault.CUT_BEFORE),
        "queue of turns cut": partial(on_request, "PUT", "/leases/", Fault.LOSE_ANSWER),
        "watches refused": refuse_watches,
        "too many requests": hold_back,
        "log compacted": compact,
        "compaction broken off": break_off_compaction,
    }
    return {name: partial(strike, victims) for name, strike in found.items()}
