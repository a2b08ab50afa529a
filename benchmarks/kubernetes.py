"""What does the log in a Kubernetes cluster cost, beside Kuma's way on the same API server?

Durable changes a second and their latency, as append.py has them: each caller updates a
resource of its own, 350 bytes of JSON, on a real API server whose etcd syncs to disk.
Beside it, in the same run and in turn, one custom resource written for each change as
Kuma does it, and one caller that creates an object of the same size and no more. Then
what reaches another instance, reads that ask the cluster, and starts.

Usage: python benchmarks/kubernetes.py [--seconds N] [--rounds N] [--events N] [--quick]
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio
import msgspec
from clusters import cluster, fresh_namespace, settings_of
from figures import Aim, Figure, percentile, ratios
from harness import SPEC, arguments, fill, report, without_taking
from load import Callers, changes
from peers import MissingError, Outcome
from peers.bare_create import BareCreate
from peers.kuma_objects import (
    KumaObjectsCreate,
    KumaObjectsUpdate,
    define,
    number_of_objects,
)
from start import seconds_of_start, snapshot_at
from watch import watched

import evstore
from evstore.log.kubernetes import objects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from clusters import ApiServer

    Runs = dict[tuple[str, int], Callable[[float], Outcome]]

CALLERS = (1, 8, 64)
PEERS = (
    (KumaObjectsUpdate, (64, 24, 8, 1)),
    (KumaObjectsCreate, (64, 8, 1)),
)
LOADED = 64  # callers that the aims speak of
EVSTORE, MIRRORED = "evstore", "evstore, mirror on"
ORDER = (
    *(EVSTORE, MIRRORED),
    *(KumaObjectsUpdate.name, KumaObjectsCreate.name, BareCreate.name),
)
COLUMNS = ["what", "clients", "changes/s", "p50 ms", "p99 ms"]
ASKED_TIMES, ASKED_LATENCY = 8, 1.3
READS = 300
OBJECT_EVENTS = 1_000
MIRROR_SECONDS = 60
WARM_SECONDS = 0.2
NEVER: Mapping[tuple[str, int], Sequence[Outcome]] = {}


def main() -> None:
    options = arguments(
        __doc__,
        seconds={"type": float, "default": 1.5, "quick": 0.5},
        rounds={"type": int, "default": 5, "quick": 1},
        events={"type": int, "default": 100_000, "quick": 5_000},
    )
    rows: list[list[object]] = []
    notes: list[str] = []
    found = NEVER
    settings: dict[str, str] = {}
    try:
        with cluster() as running:
            settings = settings_of(running)
            runs = _runs(running, notes)
            found = _rounds(runs, options.rounds, options.seconds)
            rows += [
                _row(*key, found[key])
                for name in ORDER
                for key in sorted(key for key in found if key[0] == name)
            ]
            rows += _watching(running, options.rounds, options.seconds)
            rows += _reading(running, options.rounds)
            rows += _starting(running, options.events, options.rounds)
    except MissingError as reason:
        rows.append([EVSTORE, None, "missing", None, None])
        notes.append(f"missing: {reason}")
    report(
        "durable changes a second, in a Kubernetes cluster",
        COLUMNS,
        rows,
        aims=_aims(found),
        notes=notes,
        settings=settings,
        quick=options.quick,
    )


def _runs(running: ApiServer, notes: list[str]) -> Runs:
    """Return what is measured in turn; what is compared stands next to each other."""
    bare = BareCreate()
    size = _size_of_a_change(running)
    bare.prepare(running, size=size)
    runs: Runs = {(bare.name, 1): partial(bare.changes, 1)}
    runs |= {(EVSTORE, each): partial(_evstore, running, each) for each in CALLERS}
    define(running)
    for kind, clients in PEERS:
        peer = kind()
        peer.prepare(running)
        notes.append(f"{peer.name}: {peer.about}")
        runs |= {(peer.name, each): partial(peer.changes, each) for each in clients}
    runs[MIRRORED, LOADED] = partial(_mirrored, running)
    notes.append(f"{bare.name}: {bare.about} ({size:,} bytes)")
    return runs


def _rounds(
    runs: Runs, rounds: int, seconds: float
) -> dict[tuple[str, int], list[Outcome]]:
    found: dict[tuple[str, int], list[Outcome]] = {key: [] for key in runs}
    for run in runs.values():
        run(WARM_SECONDS)  # a server that has just started has other things to do
    for number in range(rounds):
        # Every other round backwards: who comes last has the fullest server.
        for key in list(runs)[:: -1 if number % 2 else 1]:
            found[key].append(runs[key](seconds))
    return found


def _evstore(running: ApiServer, callers: int, seconds: float) -> Outcome:
    """Measure in a namespace of its own, so that no round replays another's events."""
    load = anyio.run(changes, fresh_namespace(running), callers, seconds)
    return Outcome(len(load.answered), load.ended - load.began, load.latencies)


def _mirrored(running: ApiServer, seconds: float) -> Outcome:
    """Measure while the state is shown as objects, from when the first one is there."""
    config = fresh_namespace(running)
    path = objects.collection(config.kubernetes.system_namespace, objects.RESOURCES)
    mirror = msgspec.structs.replace(config.kubernetes.mirror, enabled=True)
    config = msgspec.structs.replace(
        config, kubernetes=msgspec.structs.replace(config.kubernetes, mirror=mirror)
    )

    async def run() -> Outcome:
        async with evstore.open(config) as store:
            callers = Callers(store, LOADED)
            await callers.prepare()
            await anyio.to_thread.run_sync(_await_object, running, path)
            load = await callers.run(seconds)
        return Outcome(len(load.answered), load.ended - load.began, load.latencies)

    return anyio.run(run)


def _await_object(running: ApiServer, path: str) -> None:
    deadline = time.monotonic() + MIRROR_SECONDS
    while not number_of_objects(running, path):
        assert time.monotonic() < deadline, "nothing is mirrored"
        time.sleep(0.05)


def _size_of_a_change(running: ApiServer) -> int:
    """Return how many bytes the log sends for a change of one caller."""
    config = fresh_namespace(running)

    async def change() -> None:
        async with evstore.open(config) as store:
            made = await store.create("Dataplane", "dp-0", spec=SPEC)
            await store.update(made, spec={**SPEC, "count": 1})

    anyio.run(change)
    name = objects.name_of(2)
    path = objects.collection(config.kubernetes.system_namespace, objects.CHANGES)
    status, made = running.request("GET", f"{path}/{name}")
    assert status == 200, made  # noqa: PLR2004 - what HTTP calls it
    return len(objects.document(objects.CHANGES, name, made["spec"]))


def _row(what: str, clients: int | None, outcomes: Sequence[Outcome]) -> list[object]:
    rates = Figure.of(outcome.rate for outcome in outcomes)
    return [what, clients, rates, *_latencies([each.latencies for each in outcomes])]


def _latencies(rounds: Sequence[Sequence[float]]) -> list[Figure]:
    return [
        Figure.of(percentile(each, share) * 1e3 for each in rounds)
        for share in (0.5, 0.99)
    ]


def _watching(running: ApiServer, rounds: int, seconds: float) -> list[list[object]]:
    """Measure from the call that makes a change until another instance has it."""
    found: dict[str, list[Sequence[float]]] = defaultdict(list)
    for _ in range(rounds):
        for load, rate in (("idle", 0), (f"{LOADED} callers", None)):
            once = partial(watched, seconds=seconds, remote=True, rate=rate)
            latencies = anyio.run(once, fresh_namespace(running)).latencies
            found[load].append(latencies)
    return [
        [f"a change to another instance, {load}", None, None, *_latencies(latencies)]
        for load, latencies in found.items()
    ]


def _reading(running: ApiServer, rounds: int) -> list[list[object]]:
    """Measure reads that are certain to know everything that was appended before."""

    async def run() -> list[list[float]]:
        async with evstore.open(fresh_namespace(running)) as store:
            await store.create("Dataplane", "dp-0", spec=SPEC)
            return [await read(store) for _ in range(rounds)]

    async def read(store: evstore.Store) -> list[float]:
        latencies = []
        for _ in range(READS):
            called = time.perf_counter()
            await store.get("Dataplane", "dp-0", consistent=True)
            latencies.append(time.perf_counter() - called)
        return latencies

    latencies = anyio.run(run)
    return [["get, consistent=True", 1, None, *_latencies(latencies)]]


def _starting(running: ApiServer, events: int, rounds: int) -> list[list[object]]:
    """Measure starts on a log of some length, 1,000 events to an object."""
    config = without_taking(fresh_namespace(running))
    filled = partial(
        fill,
        config,
        events=events,
        resources=events // 10,
        transaction_events=OBJECT_EVENTS,
        fillers=1,
    )
    anyio.run(filled)

    def start() -> Figure:
        return Figure.of(
            anyio.run(seconds_of_start, config, events) * 1e3 for _ in range(rounds)
        )

    whole = start()
    anyio.run(snapshot_at, config, events - events // 10)
    snapshot = start()
    what = f"start with {events:,} events"
    return [
        [f"{what}, the whole log", None, None, whole, None],
        [f"{what}, a snapshot and the last tenth", None, None, snapshot, None],
    ]


def _aims(found: Mapping[tuple[str, int], Sequence[Outcome]]) -> list[Aim]:
    times: float | None = None
    latency: float | None = None
    with suppress(KeyError):
        rates = {key: [each.rate for each in rounds] for key, rounds in found.items()}
        names = {kind.name for kind, _ in PEERS}
        best = max(
            (rates[key] for key in rates if key[0] in names),
            key=lambda values: Figure.of(values).median,
            default=[],
        )
        times = ratios(rates[EVSTORE, LOADED], best).median
        medians = [
            [percentile(each.latencies, 0.5) for each in found[key]]
            for key in ((EVSTORE, 1), (BareCreate.name, 1))
        ]
        latency = ratios(*medians).median
    return [
        Aim(f"in Kubernetes, {LOADED} callers, beside Kuma's best", ASKED_TIMES, times),
        Aim(
            "in Kubernetes, median of one caller, beside a bare create",
            ASKED_LATENCY,
            latency,
            at_most=True,
        ),
    ]


if __name__ == "__main__":
    main()
