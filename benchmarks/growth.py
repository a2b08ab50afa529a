"""Does appending become slower as the log grows?

The same callers on a log of 10,000,000 events and on an empty one, in turn. The long one
is filled first, through a store like any other log, so its chain is whole.

Usage: python benchmarks/growth.py [--events N] [--seconds N] [--rounds N] [--quick]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time

import anyio
import psycopg
from figures import Aim, Figure, ratios
from harness import arguments, fill, fresh, report, server, settings_of, worker
from load import instance

RESOURCES = 50_000
CALLERS = 64
WARM_SECONDS = 1.0
EVENT_BYTES = 1_000  # on disk, with indexes
WAL_BYTES = 3 * 2**30


def main() -> None:
    options = arguments(
        __doc__,
        events={"type": int, "default": 10_000_000, "quick": 100_000},
        rounds={"type": int, "default": 5, "quick": 1},
    )
    needed = options.events * EVENT_BYTES + WAL_BYTES
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed:
        sys.exit(
            f"{options.events:,} events need about {needed / 2**30:.0f} GiB in"
            f" {tempfile.gettempdir()}, which has {free / 2**30:.0f}: free some, set"
            " TMPDIR, or ask for fewer with --events"
        )
    found: dict[int, list[float]] = {0: [], options.events: []}
    with server() as running:
        settings = settings_of(running)
        full = fresh(running, "full")
        began = time.perf_counter()
        anyio.run(lambda: fill(full, events=options.events, resources=RESOURCES))
        filling = time.perf_counter() - began
        postgres = full.postgres
        # A log that has grown over months has been vacuumed on the way.
        with psycopg.connect(
            host=postgres.host,
            port=postgres.port,
            user="postgres",
            dbname=postgres.db_name,
            autocommit=True,
        ) as connection:
            connection.execute("VACUUM (ANALYZE) evstore.events")
            connection.execute("CHECKPOINT")
        size = int(running.psql("SELECT pg_database_size('full')"))
        with worker(instance, full, CALLERS) as long:
            long.recv()
            for number in range(options.rounds):
                empty = fresh(running, f"empty_{number}")
                with worker(instance, empty, CALLERS) as short:
                    short.recv()
                    pipes = [(0, short), (options.events, long)]
                    for events, pipe in pipes[:: -1 if number % 2 else 1]:
                        for seconds in (WARM_SECONDS, options.seconds):
                            pipe.send(seconds)
                            load = pipe.recv()
                        found[events].append(load.rate)
                        running.psql("CHECKPOINT")
                running.drop_database(f"empty_{number}")
    share = ratios([rate * 100 for rate in found[options.events]], found[0])
    filled = f"filling took {filling:,.0f} s ({options.events / filling:,.0f} events/s)"
    held = f"the database has {size / 2**30:.2f} GiB; {RESOURCES:,} resources"
    report(
        f"changes a second of {CALLERS} callers on a long log and on an empty one",
        ["events in the log", "changes/s", "of the empty log %"],
        [
            [0, Figure.of(found[0]), 100.0],
            [
                options.events,
                Figure.of(found[options.events]),
                share,
            ],
        ],
        aims=[
            Aim(f"at {options.events:,} events", 90, share.median, "%"),
        ],
        notes=[f"{filled}; {held}"],
        settings=settings,
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
