"""How long does a change take to a watcher, and what do a thousand watchers cost?

From the call that makes the change until a watcher has it, the durable commit included:
in the same process, in another process, and in a thousand watches of one process. One
change every 20 ms; under load other callers make 1,000 changes a second meanwhile, or all
they can. Beside it Kuma's LISTEN, which tells only that something changed, and etcd's
watch, both under the same changes and the same load.

Usage: python benchmarks/watch.py [--seconds N] [--rounds N] [--quick]
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio
from figures import Aim, Figure, percentile, ratios
from harness import SPEC, arguments, fresh, report, server, settings_of, told, worker
from load import Callers, instance
from peers import MissingError, Watched
from peers.etcd import Etcd
from peers.kuma_listen import KumaListen

import evstore

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from load import Load

    from evstore import Store
    from evstore.config import Config
    from evstore.embedded import EmbeddedServer

PAUSE_SECONDS = 0.02
LOAD_RATE = 1_000
LOAD_CALLERS = 8
BUSY_CALLERS = 64
WATCHERS = 1_000
PROBE = "HealthCheck"  # the type of what is timed; the load's is another


async def probe(store: Store, seconds: float) -> dict[str, float]:
    """Make a change each 20 ms; return when each was called for, by name."""
    called: dict[str, float] = {}
    due = time.perf_counter()
    for number in range(round(seconds / PAUSE_SECONDS)):
        name = f"probe-{time.monotonic_ns()}-{number}"
        called[name] = time.perf_counter()
        await store.create(PROBE, name, spec=SPEC)
        due = max(due + PAUSE_SECONDS, time.perf_counter())
        await anyio.sleep(max(0.0, due - time.perf_counter()))
    return called


async def _probe_under_load(
    store: Store, seconds: float, loaded: list[Load]
) -> dict[str, float]:
    """Probe while callers of the same store make all changes that they can."""
    busy = Callers(store, BUSY_CALLERS)
    await busy.prepare()

    async def load_up() -> None:
        loaded.append(await busy.run(seconds))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load_up)
        return await probe(store, seconds)


class Watching:
    """A watch that notes when it has what."""

    def __init__(self, store: Store, **where: Any) -> None:
        self.seen: dict[str, float] = {}
        self._store = store
        self._where = where
        self._came = anyio.Event()

    async def run(self) -> None:
        async for event in self._store.watch(after=self._store.position, **self._where):
            self.seen[event.name] = time.perf_counter()
            came, self._came = self._came, anyio.Event()
            came.set()

    async def until(self, last: str) -> dict[str, float]:
        while last not in self.seen:
            await self._came.wait()
        return self.seen


def elsewhere(pipe: Connection, config: Config) -> None:
    """Watch in a process of its own; send what was seen for each last name received."""
    anyio.run(_elsewhere, pipe, config)


async def _elsewhere(pipe: Connection, config: Config) -> None:
    async with evstore.open(config) as store, anyio.create_task_group() as tasks:
        watching = Watching(store)  # everything, as Kuma's listener and etcd's watch
        tasks.start_soon(watching.run)
        pipe.send(store.position)
        while (last := await told(pipe)) is not None:
            pipe.send(await watching.until(last))
        tasks.cancel_scope.cancel()


async def watched(
    config: Config, seconds: float, *, remote: bool, rate: int | None
) -> Watched:
    """Return the latencies to one watcher; `rate` None is as much load as possible."""
    with ExitStack() as stack:
        pipe = stack.enter_context(worker(elsewhere, config)) if remote else None
        if pipe is not None:
            await told(pipe)
        load: Connection | None = None
        if rate:
            load = stack.enter_context(worker(instance, config, LOAD_CALLERS, rate))
            await told(load)
            load.send(seconds)
        async with evstore.open(config) as store, anyio.create_task_group() as tasks:
            watching = Watching(store)
            if pipe is None:
                tasks.start_soon(watching.run)
            loaded: list[Load] = []
            if rate is None:
                called = await _probe_under_load(store, seconds, loaded)
            else:
                called = await probe(store, seconds)
            last = list(called)[-1]
            if pipe is None:
                seen = await watching.until(last)
            else:
                pipe.send(last)
                seen = await told(pipe)
            if load is not None:
                loaded.append(await told(load))
            tasks.cancel_scope.cancel()
    return Watched(
        [seen[name] - at for name, at in called.items()],
        sum(each.rate for each in loaded),
    )


async def thousand(config: Config, seconds: float) -> tuple[Watched, float, float]:
    """Return the time until all watchers have each change, and what writers reach.

    Writers' changes a second: beside no watcher, and beside watchers that each wait
    for a resource of their own, as a control plane's data planes do.
    """
    async with evstore.open(config) as store:
        callers = Callers(store, BUSY_CALLERS)
        await callers.prepare()
        alone = (await callers.run(seconds)).rate
        async with anyio.create_task_group() as tasks:
            for number in range(WATCHERS):
                watching = Watching(store, type=PROBE, name=f"own-{number}")
                tasks.start_soon(watching.run)
            await anyio.wait_all_tasks_blocked()
            beside = (await callers.run(seconds)).rate
            tasks.cancel_scope.cancel()
        async with anyio.create_task_group() as tasks:
            everyone = [Watching(store, type=PROBE) for _ in range(WATCHERS)]
            for watching in everyone:
                tasks.start_soon(watching.run)
            await anyio.wait_all_tasks_blocked()
            called = await probe(store, seconds)
            last = list(called)[-1]
            for watching in everyone:
                await watching.until(last)
            tasks.cancel_scope.cancel()
    taken = [
        max(watching.seen[name] for watching in everyone) - at
        for name, at in called.items()
    ]
    return Watched(taken, 0), alone, beside


def main() -> None:
    options = arguments(__doc__, seconds={"type": float, "default": 4.0, "quick": 1.0})
    found: dict[tuple[str, str], list[Watched]] = defaultdict(list)
    alone: list[float] = []
    beside: list[float] = []
    notes: list[str] = []
    numbers = count()
    idle, loaded = "idle", f"{LOAD_RATE:,} changes/s"
    full = f"{BUSY_CALLERS} callers, all they can"
    with server() as running, ExitStack() as stack:
        settings = settings_of(running)
        runs: dict[tuple[str, str], Callable[[], Watched]] = {}
        for what, remote in (("same process", False), ("another process", True)):
            for load, rate in ((idle, 0), (loaded, LOAD_RATE), (full, None)):
                runs[f"evstore, {what}", load] = partial(
                    _once,
                    running,
                    numbers,
                    partial(watched, seconds=options.seconds, remote=remote, rate=rate),
                )
        for kind in (KumaListen, Etcd):
            peer = kind()
            try:
                peer.prepare(running)
            except MissingError as error:
                notes.append(f"{kind.name}: missing: {error}")
                continue
            stack.callback(peer.close)
            for load, rate in ((idle, 0), (loaded, LOAD_RATE)):
                runs[f"{peer.name}, another process", load] = partial(
                    peer.watched, options.seconds, PAUSE_SECONDS, rate
                )
        for number in range(options.rounds):
            for key in list(runs)[:: -1 if number % 2 else 1]:
                found[key].append(runs[key]())
            taken, without, with_them = _once(
                running, numbers, partial(thousand, seconds=options.seconds)
            )
            found[f"evstore, all of {WATCHERS:,} watchers", idle].append(taken)
            alone.append(without)
            beside.append(with_them)
    effect = ratios(beside, alone)
    notes.append(
        f"{BUSY_CALLERS} callers make {Figure.of(alone)} changes/s beside no watcher and"
        f" {Figure.of(beside)} beside {WATCHERS:,} watchers of other resources:"
        f" {effect.median:.0%}"
    )
    rows = [
        [
            what,
            load,
            Figure.of(each.load for each in rounds),
            Figure.of(percentile(each.latencies, 0.5) * 1e3 for each in rounds),
            Figure.of(percentile(each.latencies, 0.99) * 1e3 for each in rounds),
        ]
        for (what, load), rounds in found.items()
    ]
    ours = Figure.of(
        percentile(each.latencies, 0.5) * 1e3
        for each in found["evstore, another process", idle]
    )
    report(
        "from a change to a watcher",
        ["watcher", "load", "load, changes/s", "p50 ms", "p99 ms"],
        rows,
        aims=[Aim("to another process, idle, p50", 2, ours.median, "ms", at_most=True)],
        notes=notes,
        settings=settings,
        quick=options.quick,
    )


def _once(running: EmbeddedServer, numbers: count[int], run: Callable[..., Any]) -> Any:
    """Run it on a new database."""
    name = f"watch_{next(numbers)}"
    found = anyio.run(run, fresh(running, name))
    running.drop_database(name)
    return found


if __name__ == "__main__":
    main()
