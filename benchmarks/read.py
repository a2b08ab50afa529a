"""How fast are get and list, and how much memory does a resource take?

50,000 resources in five meshes; get asks for any of them, list for the 10,000 of one
mesh. Beside it Kuma's SELECTs through pgbench and etcd's serializable range, one client
each. Neither of those parses what it gets; the rows `and its spec` say what that adds.

Usage: python benchmarks/read.py [--resources N] [--seconds N] [--rounds N] [--quick]
"""

from __future__ import annotations

import gc
import random
import time
from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING

import anyio
import psutil
from figures import Aim, Figure, ratios
from harness import (
    SPEC_JSON,
    arguments,
    fill,
    fresh,
    report,
    server,
    settings_of,
    told,
    worker,
)
from peers import MissingError, kuma, pgbench
from peers.etcd import Etcd

import evstore

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from evstore import Store
    from evstore.config import Config
    from evstore.embedded import EmbeddedServer

MESHES = 5
KEYS = 10_000  # asked for, over and over
KUMA = "kuma_read"
TYPE = "Dataplane"
MESH = "mesh-1"

GET, GET_SPEC = "evstore, get", "evstore, get and its spec"
LIST, LIST_SPEC = "evstore, list", "evstore, list and its specs"
LIST_CHANGED = "evstore, list after a change"


async def gets(store: Store, each: int, seconds: float, *, spec: bool) -> float:
    """Return gets a second, by one caller, one after the other."""
    # Fixed keys: what is timed is the store, not the drawing of lots.
    lots = random.Random(1)
    keys = [
        (f"dp-{lots.randrange(each):06d}", f"mesh-{lots.randrange(MESHES)}")
        for _ in range(KEYS)
    ]
    count = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        for name, mesh in keys:
            found = await store.get(TYPE, name, mesh=mesh)
            if spec:
                _ = found.spec
        count += KEYS
    return count / (time.perf_counter() - began)


async def lists(
    store: Store, each: int, seconds: float, *, spec: bool, change: bool = False
) -> float:
    """Return lists of one mesh a second; with `change`, the first after each change."""
    count = 0
    taken = 0.0
    while taken < seconds:
        if change:
            key = evstore.Key(type=TYPE, mesh=MESH, name="dp-000000")
            await store.update(key, spec={"change": time.monotonic_ns()})
        began = time.perf_counter()
        page = await store.list(TYPE, mesh=MESH)
        if spec:
            for resource in page.items:
                _ = resource.spec
        taken += time.perf_counter() - began
        assert len(page.items) == each
        count += 1
    return count / taken


async def ours(config: Config, each: int, seconds: float) -> dict[str, float]:
    async with evstore.open(config) as store:
        return {
            GET: await gets(store, each, seconds, spec=False),
            GET_SPEC: await gets(store, each, seconds, spec=True),
            LIST: await lists(store, each, seconds, spec=False),
            LIST_SPEC: await lists(store, each, seconds, spec=True),
            LIST_CHANGED: await lists(store, each, seconds, spec=False, change=True),
        }


def memory(pipe: Connection, config: Config) -> None:
    """Send the memory of this new process, in bytes, when its store is open."""
    anyio.run(_memory, pipe, config)


async def _memory(pipe: Connection, config: Config) -> None:
    async with evstore.open(config):
        gc.collect()
        pipe.send(psutil.Process().memory_info().rss)
        await told(pipe)


def resident(config: Config) -> int:
    with worker(memory, config) as pipe:
        found: int = pipe.recv()
        return found


def fill_kuma(running: EmbeddedServer, each: int) -> None:
    kuma.create(running, KUMA)
    running.psql(
        f"""
        INSERT INTO resources (name, mesh, type, version, spec)
        SELECT 'dp-' || lpad(n::text, 6, '0'), 'mesh-' || m, '{TYPE}', 0, '{SPEC_JSON}'
        FROM generate_series(0, {each - 1}) AS n, generate_series(0, {MESHES - 1}) AS m
        """,
        database=KUMA,
    )
    running.psql("VACUUM ANALYZE resources", database=KUMA)


def by_kuma(running: EmbeddedServer, each: int, seconds: float) -> dict[str, float]:
    variables = {"meshes": MESHES, "each": each}
    return {
        f"Kuma's SELECT, {what}": pgbench.run(
            running, KUMA, script, clients=1, seconds=seconds, variables=variables
        ).rate
        for what, script in (("one", kuma.GET), ("list", kuma.LIST))
    }


def by_etcd(etcd: Etcd, each: int, seconds: float) -> dict[str, float]:
    milliseconds = round(seconds * 1e3)
    one = etcd.ask("get", milliseconds, MESHES, each)
    all_of_one = etcd.ask("list", milliseconds, 1)
    assert all_of_one["rows"] == each
    return {
        "etcd's range, one": one["count"] / one["seconds"],
        "etcd's range, list": all_of_one["count"] / all_of_one["seconds"],
    }


def main() -> None:
    options = arguments(
        __doc__, resources={"type": int, "default": 50_000, "quick": 5_000}
    )
    each = options.resources // MESHES
    found: dict[str, list[float]] = defaultdict(list)
    per_resource: list[float] = []
    notes: list[str] = []
    with server() as running, ExitStack() as stack:
        settings = settings_of(running)
        config, empty = fresh(running, "read"), fresh(running, "empty")
        meshes = [f"mesh-{number}" for number in range(MESHES)]
        count = each * MESHES
        anyio.run(lambda: fill(config, events=count, resources=count, meshes=meshes))
        fill_kuma(running, each)
        runs: list[Callable[[], dict[str, float]]] = [
            lambda: anyio.run(ours, config, each, options.seconds),
            lambda: by_kuma(running, each, options.seconds),
        ]
        etcd = Etcd()
        try:
            etcd.prepare()
        except MissingError as error:
            notes.append(f"etcd: missing: {error}")
        else:
            stack.callback(etcd.close)
            assert etcd.ask("fill", MESHES, each, len(SPEC_JSON))["count"] == count
            runs.append(lambda: by_etcd(etcd, each, options.seconds))
        for number in range(options.rounds):
            for run in runs[:: -1 if number % 2 else 1]:
                for what, rate in run().items():
                    found[what].append(rate)
            per_resource.append((resident(config) - resident(empty)) / count)
    select = "Kuma's SELECT, one"
    rows = [
        [what, Figure.of(rates), Figure.of(1e3 / rate for rate in rates)]
        for what, rates in found.items()
    ]
    notes.append(
        f"memory: {Figure.of(per_resource)} bytes a resource, whose bodies have about"
        " 350 bytes (resident memory of a new process with the store, less that of one"
        " with an empty store)"
    )
    report(
        f"reads by one caller; a list has {each:,} of {count:,} resources",
        ["what", "times a second", "ms each"],
        rows,
        aims=[
            Aim(
                "get, beside Kuma's SELECT",
                20,
                ratios(found[GET], found[select]).median,
            )
        ],
        notes=notes,
        settings=settings,
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
