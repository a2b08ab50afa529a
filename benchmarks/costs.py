"""Where does the time of a change go, in this process and in the server?

Callers as in append.py, over one store. The processor's time is what the kernel counted:
for the client that of its process, for the server that of all its processes. Which rooms
of evstore the client was in is sampled a thousand times a second of its processor time,
by the innermost frame; what a library does for a room counts as that room's.

Usage: python benchmarks/costs.py [--seconds N] [--rounds N] [--quick]
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from figures import Figure
from harness import arguments, fresh, report, server, settings_of
from load import Callers

import evstore

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

    from evstore.config import Config
    from evstore.embedded import EmbeddedServer

CALLERS = (1, 8, 64, 256)
SAMPLED = 64
SAMPLE_SECONDS = 0.001
PACKAGE = f"{Path(evstore.__file__).parent}/"
SHARE_LEAST = 0.02  # of what is named in the notes


async def once(
    config: Config, running: EmbeddedServer, callers: int, seconds: float
) -> tuple[float, float, float, Counter[str]]:
    """Return changes a second, the two processors' us a change, and samples by room."""
    async with evstore.open(config) as store:
        group = Callers(store, callers)
        await group.prepare()
        await group.run(seconds / 4)
        with sampled() as rooms:
            server_before, before = server_seconds(running), time.process_time()
            load = await group.run(seconds)
            client = time.process_time() - before
            served = server_seconds(running) - server_before
    changes = len(load.answered)
    return load.rate, client / changes * 1e6, served / changes * 1e6, rooms


@contextmanager
def sampled() -> Generator[Counter[str]]:
    """Count in which room the interpreter is, as its processor time passes."""
    found: Counter[str] = Counter()

    def look(_: int, frame: FrameType | None) -> None:
        found[room_of(frame)] += 1

    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, SAMPLE_SECONDS, SAMPLE_SECONDS)
    try:
        yield found
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def room_of(frame: FrameType | None) -> str:
    """Return the room of the innermost frame of evstore, or whose frame it is instead."""
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE):
            return path.removeprefix(PACKAGE).partition("/")[0].removesuffix(".py")
        if path == __file__ or Path(path).name == "load.py":
            return "the callers"
        frame = frame.f_back
    return "the event loop"


def server_seconds(running: EmbeddedServer) -> float:
    """Return the processor time of the server's processes that are there now."""
    folder = Path(running.psql("SHOW data_directory"))
    postmaster = (folder / "postmaster.pid").read_text().split()[0]
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if postmaster in (fields[1], path.parent.name):  # its parent, or itself
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def shares(rooms: Counter[str]) -> str:
    """Return the shares of the rooms, the largest first."""
    whole = rooms.total()
    named = [
        f"{room} {count / whole:.0%}"
        for room, count in rooms.most_common()
        if count / whole >= SHARE_LEAST
    ]
    return ", ".join(named)


def main() -> None:
    options = arguments(__doc__)
    rows: list[list[Any]] = []
    rooms: Counter[str] = Counter()
    with server() as running:
        settings = settings_of(running)
        config = fresh(running, "costs")
        for callers in CALLERS:
            found = [
                anyio.run(once, config, running, callers, options.seconds)
                for _ in range(options.rounds)
            ]
            rate, client, served = (
                Figure.of(each[index] for each in found) for index in range(3)
            )
            busy = Figure.of(each[0] * each[1] / 1e4 for each in found)
            rows.append([callers, rate, client, busy, served])
            if callers == SAMPLED:
                rooms = sum((each[3] for each in found), Counter())
    report(
        "processor time of a change",
        ["callers", "changes/s", "client, us", "of its core %", "server, us"],
        rows,
        notes=[f"the client at {SAMPLED} callers: {shares(rooms)}"],
        settings=settings,
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
