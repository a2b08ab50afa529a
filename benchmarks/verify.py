"""How fast is a log verified, every hash of it made again, by one process?

From the open log to the verdict: read as it is stored, digests, chain, transactions.

Usage: python benchmarks/verify.py [--events N] [--resources N] [--rounds N] [--quick]
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
from figures import Aim, Figure
from harness import arguments, fill, fresh, report, server, settings_of

from evstore.log import open_log
from evstore.proof.chain import verify

if TYPE_CHECKING:
    from evstore.config import Config


async def once(config: Config, events: int) -> tuple[float, float]:
    """Return the seconds that a verification took, and those of this process in it."""
    async with open_log(config) as log:
        began, used = time.perf_counter(), time.process_time()
        found = await verify(log)
        seconds, used = time.perf_counter() - began, time.process_time() - used
        assert found.ok
        assert found.head == events
        return seconds, used


def main() -> None:
    options = arguments(
        __doc__,
        events={"type": int, "default": 1_000_000, "quick": 50_000},
        resources={"type": int, "default": 50_000, "quick": 5_000},
    )
    with server() as running:
        settings = settings_of(running)
        config = fresh(running, "verify")
        anyio.run(
            lambda: fill(config, events=options.events, resources=options.resources)
        )
        found = [anyio.run(once, config, options.events) for _ in range(options.rounds)]
    seconds = Figure.of(each for each, _ in found)
    rate = Figure.of(options.events / each for each, _ in found)
    own = Figure.of(1e6 * used / options.events for _, used in found)
    report(
        "verify: the chain of hashes of a log",
        ["events", "resources", "seconds", "events/s", "own processor, us/event"],
        [[options.events, options.resources, seconds, rate, own]],
        aims=[Aim("verify, events/s", 300_000, rate.median, "events/s")],
        settings=settings,
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
