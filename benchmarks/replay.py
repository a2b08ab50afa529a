"""How fast does a store come back from its log, without any snapshot?

From `evstore.open` to the store that can be asked, connecting and all; then the digest
of its state, which the first heartbeat needs.

Usage: python benchmarks/replay.py [--events N] [--resources N] [--rounds N] [--quick]
"""

from __future__ import annotations

import time
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

if TYPE_CHECKING:
    from evstore.config import Config


async def once(config: Config, events: int) -> tuple[float, float]:
    """Return seconds until the store is open, and of the digest after it."""
    began = time.perf_counter()
    async with evstore.open(config) as store:
        opened = time.perf_counter()
        store.digest()
        digested = time.perf_counter()
        assert store.position == events
    return opened - began, digested - opened


def main() -> None:
    options = arguments(
        __doc__,
        events={"type": int, "default": 1_000_000, "quick": 50_000},
        resources={"type": int, "default": 50_000, "quick": 5_000},
    )
    with server() as running:
        settings = settings_of(running)
        config = without_taking(fresh(running, "replay"))
        anyio.run(
            lambda: fill(config, events=options.events, resources=options.resources)
        )
        found = [anyio.run(once, config, options.events) for _ in range(options.rounds)]
    opened = Figure.of(seconds for seconds, _ in found)
    rate = Figure.of(options.events / seconds for seconds, _ in found)
    digest = Figure.of(seconds for _, seconds in found)
    report(
        "start: full replay of a log",
        ["events", "resources", "seconds", "events/s", "digest, seconds"],
        [[options.events, options.resources, opened, rate, digest]],
        aims=[Aim("replay, events/s", 450_000, rate.median, "events/s")],
        settings=settings,
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
