"""What every benchmark here shares: a server of its own, a log of some length, a report.

Each script answers one question, prints one table and one line of JSON. Figures hold for
one run on one machine; compare the ratios within a run, not runs.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from rich.console import Console
from rich.table import Table

from evstore.commands import Command, Draft, stamp
from evstore.embedded import EmbeddedServer
from evstore.log import open_log
from evstore.maintenance import migrate_up
from evstore.model import Operation
from evstore.resources import Overlay, Resources

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from evstore.config import Config

SPEC: dict[str, Any] = {
    "networking": {
        "address": "192.168.0.1",
        "inbound": [
            {
                "port": 8080,
                "servicePort": 80,
                "tags": {
                    "env": "production",
                    "kuma.io/service": "web",
                    "version": "1.0",
                },
            }
        ],
        "outbound": [
            {"port": 30000 + index, "tags": {"kuma.io/service": "backend"}}
            for index in range(3)
        ],
    }
}
BODY = b'{"labels":{},"owner":null,"spec":{"%06d":"' + b"x" * 300 + b'"},"status":null}'
BATCH_EVENTS = 10_000


@contextmanager
def server() -> Generator[EmbeddedServer]:
    """Run a PostgreSQL with its defaults (fsync on) in a folder that is then removed."""
    with tempfile.TemporaryDirectory(prefix="evstore-bench-") as folder:
        Path(folder).chmod(0o755)
        with EmbeddedServer(Path(folder) / "pg") as running:
            yield running


def fresh(running: EmbeddedServer, name: str) -> Config:
    """Return the settings of a new, migrated database."""
    running.create_database(name)
    config = running.config(name)
    anyio.run(migrate_up, config)
    return config


async def fill(config: Config, *, events: int, resources: int) -> None:
    """Append `events` events about `resources` resources, as an instance would."""
    state = Resources()
    async with open_log(config) as log:
        await log.connect()
        head = await log.head()
        command = Command(changes=(), actor="bench")
        for first in range(0, events, BATCH_EVENTS):
            overlay = Overlay(state)
            drafts = [
                Draft(
                    Operation.CREATED if number < resources else Operation.UPDATED,
                    f"Dataplane/default/dp-{number % resources:06d}",
                    BODY % number,
                )
                for number in range(first, min(first + BATCH_EVENTS, events))
            ]
            stamped = stamp(
                command,
                drafts,
                state=overlay,
                after=head,
                tx=os.urandom(16).hex(),
                time=max(head.time + 1, log.clock()),
            )
            await log.append(stamped, after=head)
            state.apply(stamped)
            head = stamped[-1].head


def report(
    question: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Print one table for people and one line of JSON for programs."""
    table = Table(title=question)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(
            *(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row)
        )
    Console().print(table)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    line = {
        "question": question,
        "machine": machine,
        "commit": _commit(),
        "results": [dict(zip(columns, row, strict=True)) for row in rows],
    }
    print(json.dumps(line))


def _commit() -> str:
    git = ["git", "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(
            git, capture_output=True, check=True, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
