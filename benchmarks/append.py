"""How many durable changes a second does one store make, and how long does each take?

Each caller updates a resource of its own, one change after the other, 350 bytes of JSON;
fsync is on. A bare INSERT of one row by pgbench, on the same server in the same run, is
the yardstick for one caller; rows by binary COPY, 1,000 a transaction, for many.

Usage: python benchmarks/append.py [SECONDS]
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import time
from typing import TYPE_CHECKING

import anyio
import psycopg
from harness import SPEC, fresh, report, server

import evstore

if TYPE_CHECKING:
    from evstore.config import Config
    from evstore.embedded import EmbeddedServer

CALLERS = (1, 8, 64, 256)
ROUNDS = 3
COPY_ROWS = 1_000


async def changes(config: Config, callers: int, seconds: float) -> list[float]:
    """Return how long each change took, in seconds."""
    latencies: list[float] = []
    async with evstore.open(config) as store:
        stop = time.perf_counter() + seconds
        prefix = os.urandom(4).hex()

        async def caller(number: int) -> None:
            mine = await store.create("Dataplane", f"dp-{prefix}-{number}", spec=SPEC)
            count = 0
            while (began := time.perf_counter()) < stop:
                count += 1
                mine = await store.update(mine, spec={**SPEC, "count": count})
                latencies.append(time.perf_counter() - began)

        async with anyio.create_task_group() as tasks:
            for number in range(callers):
                tasks.start_soon(caller, number)
    return latencies


def bare_insert(running: EmbeddedServer, seconds: float) -> float:
    """Return pgbench's average latency of a one-row INSERT, in milliseconds."""
    running.psql(
        "CREATE TABLE IF NOT EXISTS bare (id bigserial PRIMARY KEY, body text)",
        database="append",
    )
    output = running.run(
        *("pgbench", "--no-vacuum", "--protocol=prepared", "--file=-"),
        *(f"--time={max(1, round(seconds))}", "append"),
        stdin="INSERT INTO bare (body) VALUES (repeat('x', 350));\n",
    )
    found = re.search(r"latency average = ([\d.]+) ms", output)
    assert found, output
    return float(found[1])


def copy_rate(config: Config, seconds: float) -> float:
    """Return rows a second by binary COPY into a table of the same shape."""
    postgres = config.postgres
    rows = 0
    with psycopg.connect(
        host=postgres.host,
        port=postgres.port,
        user="postgres",
        dbname=postgres.db_name,
        autocommit=True,
    ) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS copied (id bigint PRIMARY KEY, type text, "
            "mesh text, name text, hash bytea, body json)"
        )
        began = time.perf_counter()
        body = "{" + '"x":"' + "x" * 340 + '"}'
        while time.perf_counter() - began < seconds:
            with (
                connection.cursor() as cursor,
                cursor.copy("COPY copied FROM STDIN (FORMAT binary)") as copy,
            ):
                copy.set_types(["int8", "text", "text", "text", "bytea", "json"])
                for _ in range(COPY_ROWS):
                    rows += 1
                    row = (rows, "Dataplane", "default", "dp", b"\0" * 32, body)
                    copy.write_row(row)
        seconds = time.perf_counter() - began
        connection.execute("DROP TABLE copied")
    return rows / seconds


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    found: dict[int, list[tuple[float, float, float]]] = {each: [] for each in CALLERS}
    bare: list[float] = []
    ceiling: list[float] = []
    with server() as running:
        config = fresh(running, "append")
        for _ in range(ROUNDS):
            bare.append(bare_insert(running, seconds))
            ceiling.append(copy_rate(config, seconds / 2))
            for callers in CALLERS:
                latencies = sorted(anyio.run(changes, config, callers, seconds))
                count = len(latencies)
                found[callers].append(
                    (
                        count / seconds,
                        latencies[count // 2] * 1e3,
                        latencies[count * 99 // 100] * 1e3,
                    )
                )
    one_row, copied = statistics.median(bare), statistics.median(ceiling)
    rows = []
    for callers, rounds in found.items():
        rate, p50, p99 = (
            statistics.median(column) for column in zip(*rounds, strict=True)
        )
        rows.append(
            [
                "1 caller" if callers == 1 else f"{callers} callers",
                int(rate),
                round(p50, 2),
                round(p99, 2),
                f"{p50 / one_row:.1f} x" if callers == 1 else "",
                f"{rate / copied:.0%}",
            ]
        )
    rows.append(
        ["bare INSERT, pgbench", int(1e3 / one_row), round(one_row, 2), "", "1.0 x", ""]
    )
    rows.append(["COPY, 1,000 rows a commit", int(copied), "", "", "", "100%"])
    columns = ["what", "changes/s", "p50 ms", "p99 ms", "p50 / INSERT", "rate / COPY"]
    report("durable changes of one store, median of rounds", columns, rows)


if __name__ == "__main__":
    main()
