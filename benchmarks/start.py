"""How long does a start take, with and without a snapshot, as the log grows?

From `evstore.open` to the store that can be asked, connecting and all. Each log has the
same number of resources; the snapshot was taken some events before its end.

Usage: python benchmarks/start.py [--resources N] [--tail N] [--rounds N] [--quick]
"""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio
from figures import Aim, Figure
from harness import (
    arguments,
    fill,
    fresh,
    report,
    server,
    settings_of,
    without_taking,
)

import evstore
from evstore.folds.projections import Projections
from evstore.log import open_log
from evstore.snapshots.content import folds_of
from evstore.snapshots.taking import take

if TYPE_CHECKING:
    from evstore.config import Config
    from evstore.embedded import EmbeddedServer
    from evstore.log import Snapshot

TIMES = (1, 3, 10)  # the lengths of the logs, in resources
ASKED_SECONDS = 1.0


async def snapshot_at(config: Config, position: int) -> tuple[Snapshot, float]:
    """Take the snapshot that would have been taken there; also return the seconds."""
    async with open_log(config) as log:
        projections = Projections(log.genesis)
        async with aclosing(log.replay(after=0, until=position)) as chunks:
            async for events in chunks:
                projections.apply(events)
        began = time.perf_counter()
        for fold in folds_of(projections):
            taken = await take(log, fold, fingerprint="", code_version="bench")
            assert taken is not None
        return taken, time.perf_counter() - began


async def seconds_of_start(config: Config, events: int) -> float:
    began = time.perf_counter()
    async with evstore.open(config) as store:
        taken = time.perf_counter() - began
        assert store.position == events
    return taken


def measured(
    running: EmbeddedServer, *, events: int, resources: int, tail: int, rounds: int
) -> tuple[Figure, Figure, str]:
    """Return seconds without and with a snapshot, and what is to say of that."""
    config = without_taking(fresh(running, f"start_{events}"))
    anyio.run(lambda: fill(config, events=events, resources=resources))
    running.psql("CHECKPOINT")

    def start() -> Figure:
        return Figure.of(
            anyio.run(seconds_of_start, config, events) for _ in range(rounds)
        )

    replayed = start()
    snapshot, seconds = anyio.run(snapshot_at, config, events - tail)
    begun = start()
    running.drop_database(f"start_{events}")
    note = (
        f"the snapshot at {events - tail:,}: {snapshot.size / 2**20:,.0f} MiB in"
        f" {snapshot.chunks} chunks, taken in {seconds:.2f} s"
    )
    return replayed, begun, note


def main() -> None:
    options = arguments(
        __doc__,
        resources={"type": int, "default": 100_000, "quick": 5_000},
        tail={"type": int, "default": 10_000, "quick": 1_000},
    )
    rows: list[list[object]] = []
    notes: list[str] = []
    with server() as running:
        settings = settings_of(running)
        for times in TIMES:
            events = times * options.resources + options.tail
            replayed, begun, note = measured(
                running,
                events=events,
                resources=options.resources,
                tail=options.tail,
                rounds=options.rounds,
            )
            rows.append([events, options.resources, replayed, begun])
            notes.append(note)
    report(
        "start: seconds until the store can be asked",
        ["events", "resources", "the whole log", "a snapshot and its tail"],
        rows,
        aims=[
            Aim(
                f"start from a snapshot, {options.resources:,} resources and"
                f" {options.tail:,} events behind it",
                ASKED_SECONDS,
                begun.median,
                "s",
                at_most=True,
            )
        ],
        notes=notes,
        settings=settings,
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
