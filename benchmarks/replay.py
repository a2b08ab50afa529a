"""How fast does a store come back from its log, without any snapshot?

Usage: python benchmarks/replay.py [EVENTS] [RESOURCES]
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import anyio
from harness import fill, fresh, report, server

from evstore.committer import replay
from evstore.log import open_log

if TYPE_CHECKING:
    from evstore.config import Config

ROUNDS = 3


async def once(config: Config) -> tuple[int, float, float]:
    """Return events, seconds of the fold, and seconds of the digest after it."""
    async with open_log(config) as log:
        await log.connect()
        began = time.perf_counter()
        projections = await replay(log)
        folded = time.perf_counter()
        projections.resources.digest()
        return projections.position, folded - began, time.perf_counter() - folded


def main() -> None:
    asked = [int(each) for each in sys.argv[1:]]
    events, resources = [*asked, *(1_000_000, 50_000)[len(asked) :]]
    rows = []
    with server() as running:
        config = fresh(running, "replay")
        anyio.run(lambda: fill(config, events=events, resources=resources))
        for number in range(1, ROUNDS + 1):
            count, seconds, digest = anyio.run(once, config)
            rate = int(count / seconds)
            rows.append([number, count, round(seconds, 2), rate, round(digest, 2)])
    columns = ["round", "events", "seconds", "events/s", "state digest, seconds"]
    report(f"full replay into {resources:,} resources", columns, rows)


if __name__ == "__main__":
    main()
