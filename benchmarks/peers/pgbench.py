"""Statements by pgbench, prepared, one transaction each: the leanest client there is."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING

from harness import SPEC

from . import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evstore.embedded import EmbeddedServer

LOG = "pgbench"


def literal(value: object) -> str:
    """Return JSON for a script, in which `:8080` would be a variable of pgbench's."""
    return json.dumps(value, separators=(",", ": "))


SPEC_LITERAL = literal(SPEC)


def run(  # noqa: PLR0913 - what pgbench is told
    running: EmbeddedServer,
    database: str,
    script: str,
    *,
    clients: int,
    seconds: float,
    variables: Mapping[str, int] | None = None,
    rate: int = 0,
) -> Outcome:
    """Run a script for some seconds, whole ones; raise if any transaction fails."""
    output = running.run(
        *("pgbench", "--no-vacuum", "--protocol=prepared", "--file=-", "--log"),
        *(f"--log-prefix={LOG}", f"--client={clients}", f"--jobs={min(clients, 2)}"),
        f"--time={math.ceil(seconds)}",
        *(f"--define={name}={value}" for name, value in (variables or {}).items()),
        *([f"--rate={rate}"] if rate else []),
        database,
        stdin=script,
    )
    count = _found(r"actually processed: (\d+)", output)
    failed = _found(r"failed transactions: (\d+)", output)
    assert not failed, output
    latencies: list[float] = []
    for path in running.folder.glob(f"{LOG}.*"):
        # client, transaction, latency in microseconds, ...
        latencies += [
            int(line.split(" ", 3)[2]) / 1e6 for line in path.read_text().splitlines()
        ]
        path.unlink()
    assert len(latencies) == count, output
    return Outcome(int(count), count / _found(r"tps = ([\d.]+)", output), latencies)


def _found(pattern: str, output: str) -> float:
    found = re.search(pattern, output)
    assert found, output
    return float(found[1])
