"""What every benchmark here shares: a server, a log of some length, processes, a report.

Each script answers one question, prints one table and one line of JSON. Figures hold for
one run on one machine; compare the ratios within a run, not runs. `--quick` is for trying
a script: what it prints is no measurement.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from figures import plain, text
from rich.console import Console
from rich.table import Table

import evstore
from evstore.config import SnapshotsConfig
from evstore.embedded import EmbeddedServer
from evstore.maintenance import migrate_up

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from multiprocessing.connection import Connection

    from figures import Aim

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
SPEC_JSON = json.dumps(SPEC, separators=(",", ":"))
FILLING = "x" * 300
TRANSACTION_EVENTS = 5_000
FILLERS = 3
ROOT = Path(__file__).parents[1]
SETTINGS = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
)
JOIN_SECONDS = 10


def arguments(about: str | None, **more: dict[str, Any]) -> argparse.Namespace:
    """Read the command line; `more` are options beside --seconds, --rounds, --quick.

    A default in `quick` counts where --quick is given.
    """
    options: dict[str, dict[str, Any]] = {
        "seconds": {"type": float, "default": 3.0, "quick": 1.0},
        "rounds": {"type": int, "default": 3, "quick": 1},
        **more,
    }
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="try the script; figures mean nothing"
    )
    quick = "--quick" in sys.argv[1:]
    for name, option in options.items():
        default = option.pop("default")
        quick_default = option.pop("quick", default)
        default = quick_default if quick else default
        parser.add_argument(f"--{name}", default=default, **option)
    return parser.parse_args()


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


def without_taking(config: Config) -> Config:
    """Return settings by which a store takes no snapshots; it would begin from one."""
    own = msgspec.structs.replace(
        config.evstore, snapshots=SnapshotsConfig(every_events=0)
    )
    return msgspec.structs.replace(config, evstore=own)


async def fill(
    config: Config,
    *,
    events: int,
    resources: int,
    meshes: Sequence[str] = ("default",),
    transaction_events: int = TRANSACTION_EVENTS,
    fillers: int = FILLERS,
) -> None:
    """Append `events` events of about 350 bytes, about `resources` resources.

    By large transactions, a few at a time; the resources are spread evenly over the
    meshes, dp-000000 and so on in each.
    """
    each = resources // len(meshes)

    async def append(first: int, end: int) -> None:
        async with store.transaction(actor="bench") as transaction:
            for number in range(first, min(first + transaction_events, end)):
                mesh = meshes[number % resources // each]
                name = f"dp-{number % each:06d}"
                spec = {f"{number:08d}": FILLING}
                if number < resources:
                    transaction.create("Dataplane", name, mesh=mesh, spec=spec)
                else:
                    key = evstore.Key(type="Dataplane", mesh=mesh, name=name)
                    transaction.update(key, spec=spec)

    async def writer(firsts: Iterator[int], end: int) -> None:
        for first in firsts:  # shared: each number is taken once
            await append(first, end)

    async with evstore.open(config) as store:
        for begin, end in ((0, min(resources, events)), (resources, events)):
            firsts = iter(range(begin, end, transaction_events))
            async with anyio.create_task_group() as tasks:
                for _ in range(fillers):
                    tasks.start_soon(writer, firsts, end)
        assert await store.head() == events


@contextmanager
def worker(function: Callable[..., None], *args: Any) -> Generator[Connection]:
    """Run `function(pipe, *args)` in a new process and give the pipe's other end.

    The function ends when the pipe is closed.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=function, args=(theirs, *args))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(JOIN_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


async def told(pipe: Connection) -> Any:
    """Return what comes out of a pipe, None at its end; the loop runs on meanwhile."""
    try:
        return await anyio.to_thread.run_sync(pipe.recv)
    except EOFError:
        return None


def report(  # noqa: PLR0913 - the parts of a report
    question: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    aims: Sequence[Aim] = (),
    notes: Sequence[str] = (),
    settings: dict[str, str] | None = None,
    quick: bool = False,
) -> None:
    """Print one table for people and one line of JSON for programs."""
    title = f"{question}{' (QUICK: no measurement)' if quick else ''}"
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*(text(cell) for cell in row))
    console = Console()
    console.print(table)
    for note in notes:
        console.print(note, style="dim")
    for aim in aims:
        bound = "at most" if aim.at_most else "at least"
        verdict = {True: "reached", False: "NOT REACHED", None: "not measured"}
        console.print(
            f"{aim.what}: {text(aim.measured) or '-'} {aim.unit}, asked {bound}"
            f" {text(aim.asked)}: {verdict[aim.reached]}"
        )
    line = {
        "question": question,
        "quick": quick,
        "command": " ".join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "machine": machine(),
        "settings": settings or {},
        "commit": commit(),
        "results": [dict(zip(columns, map(plain, row), strict=True)) for row in rows],
        "aims": [plain(aim) for aim in aims],
        "notes": list(notes),
    }
    print(json.dumps(line))


def settings_of(running: EmbeddedServer) -> dict[str, str]:
    """Return the server's version and the settings that matter for durability."""
    found = {name: running.psql(f"SHOW {name}") for name in SETTINGS}
    return {"PostgreSQL": running.psql("SHOW server_version"), **found}


def machine() -> str:
    """Return the machine in one line, with what its disk takes for durability."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in _lines("/proc/cpuinfo")
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return (
        f"{os.cpu_count()} cores ({model}), {platform.system()} {platform.release()},"
        f" Python {platform.python_version()},"
        f" fdatasync of 8 KiB {fdatasync_milliseconds():.2f} ms"
    )


def fdatasync_milliseconds(times: int = 200) -> float:
    """Return the median time of writing 8 KiB durably, where the servers write too."""
    taken: list[float] = []
    with tempfile.NamedTemporaryFile(prefix="evstore-bench-") as file:
        for _ in range(times):
            began = time.perf_counter()
            os.pwrite(file.fileno(), b"x" * 8192, 0)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return sorted(taken)[times // 2] * 1e3


def commit() -> str:
    """Return the commit that is measured, with a `+` where files differ from it."""
    try:
        head, changed = (
            subprocess.run(
                ["git", *words], capture_output=True, check=True, text=True, cwd=ROOT
            ).stdout.strip()
            for words in (("rev-parse", "--short", "HEAD"), ("diff", "--name-only"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    code = [name for name in changed.splitlines() if not name.startswith("docs/")]
    return f"{head}+" if code else head


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
