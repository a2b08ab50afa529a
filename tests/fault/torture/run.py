"""A run: instances that fight for keys, faults at random, and the verdict on it all."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

import evstore
from evstore import maintenance
from evstore.clock import boot_microseconds

from .assignment import HOT, Assignment
from .checker import check
from .client import Client
from .evidence import Rule, Violation
from .ground import LONG_SECONDS, Victims, WayT
from .instances import Instance
from .on_cluster import cluster_ground
from .on_database import database_ground
from .records import (
    Asked,
    Ended,
    History,
    Opening,
    Refused,
    Seen,
    Told,
    Unknown,
    read_history,
)
from .worker import INSTANCES, LAST_TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from evstore.config import Config

    from .archive import Archive
    from .ground import Ground

END_SECONDS: Final = 120.0
GROUNDS: Final = {"postgres": database_ground, "kubernetes": cluster_ground}


@dataclass
class Tally:
    """What one instance did, over all of its lives."""

    name: str
    lives: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    gap_seconds_max: float = 0.0


@dataclass
class Run:
    """What was done, and what came of it."""

    seed: int
    seconds: float = 0.0
    faults: list[tuple[float, str, str | None]] = field(default_factory=list)
    not_possible: list[str] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)
    events: int = 0
    floor: int = 0
    watched: int = 0
    broken_off: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    @property
    def in_vain(self) -> int:
        """How many faults found nobody to strike."""
        return sum(what is None for _, _, what in self.faults)


async def torture(
    server_folder: Path,
    histories: Path,
    *,
    seconds: float,
    seed: int,
    store: str = "postgres",
) -> Run:
    """Torture a server of its own for so long; every fault strikes at least once.

    Both folders are empty; what the clients have written down stays in `histories`. The
    seed decides which faults come, in which order, and what the instances ask for. When
    each of that happens is up to the machine. `store` is one of `GROUNDS`.
    """
    run = Run(seed)
    last = History("end")
    async with GROUNDS[store](server_folder) as ground:
        run.not_possible = ground.not_possible
        async with _instances(ground, histories, seed) as instances:
            victims = Victims(
                instances=instances,
                chance=random.Random(seed),
                stall_seconds_max=(
                    ground.stall_seconds_long if seconds >= LONG_SECONDS else 1.0
                ),
            )
            began = anyio.current_time()
            await _strike(ground, victims, run, seconds)
            await _finish(ground.config, instances, last)
            run.seconds = anyio.current_time() - began
        run.violations = await ground.conclude()
        proof = await maintenance.verify(ground.config)
        run.violations += [
            Violation(Rule.CHAIN, "verified at the end", each.text)
            for each in proof.findings
        ]
    _judge(run, histories, last, ground.archive)
    return run


@asynccontextmanager
async def _instances(
    ground: Ground[WayT], histories: Path, seed: int
) -> AsyncGenerator[list[Instance[WayT]]]:
    async with AsyncExitStack() as stack:
        instances: list[Instance[WayT]] = []
        for number in range(INSTANCES):
            way = await stack.enter_async_context(ground.way(number))
            assignment = Assignment(
                place=way.place,
                patience=ground.patience,
                number=number,
                life=0,
                seed=seed,
                folder=str(histories),
            )
            instances.append(Instance(assignment, way))
        async with anyio.create_task_group() as tasks:
            for instance in instances:
                tasks.start_soon(instance.run)
            try:
                for instance in instances:
                    await instance.opened()
                yield instances
                with anyio.fail_after(END_SECONDS):
                    for instance in instances:
                        await instance.ended.wait()
            finally:
                tasks.cancel_scope.cancel()


async def _strike(
    ground: Ground[WayT], victims: Victims[WayT], run: Run, seconds: float
) -> None:
    """Strike with one fault after the other, each equally often."""
    began = anyio.current_time()
    possible = ground.faults(victims)
    pause = 1.0 if seconds >= LONG_SECONDS else 0.3
    while True:
        for name in victims.chance.sample(list(possible), len(possible)):
            await anyio.sleep(victims.seconds(0.05, pause))
            at = anyio.current_time() - began
            if run.faults and len(run.faults) >= len(possible) and at > seconds:
                return
            run.faults.append((at, name, await possible[name]()))
            for instance in victims.instances:
                instance.way.forget()


async def _finish(
    config: Config, instances: list[Instance[WayT]], last: History
) -> None:
    """Have everybody stop writing; then write what all watchers wait for."""
    async with anyio.create_task_group() as tasks:
        for instance in instances:
            tasks.start_soon(instance.stop_writing)
    last.records.append(Opening(at=boot_microseconds()))
    async with evstore.open(config) as store:
        client = Client(store, last.records.append, session=last.session)
        assert await client.upsert(HOT[0], token=LAST_TOKEN)
        client.fold()


def _judge(run: Run, folder: Path, last: History, archive: Archive) -> None:
    """Add to a run what came of it."""
    lives = [read_history(path) for path in sorted(folder.glob("*.jsonl"))]
    run.events = len(archive.events)
    run.floor = archive.floor
    run.tallies = _tallies(lives)
    run.watched = sum(isinstance(each, Seen) for life in lives for each in life.records)
    run.broken_off = Counter(
        each.error
        for life in lives
        for each in life.records
        if isinstance(each, Ended) and each.error
    )
    assert archive.genesis is not None, "the log was read at the end"
    run.violations += archive.violations
    run.violations += check(
        archive.genesis, archive.events, [*lives, last], floor=archive.floor
    )


def _tallies(lives: list[History]) -> list[Tally]:
    found: dict[str, Tally] = {}
    for history in lives:
        name = history.session.split(".")[0]
        tally = found.setdefault(name, Tally(name))
        tally.lives += 1
        before: int | None = None
        for record in history.records:
            match record:
                case Asked():
                    tally.calls["asked"] += 1
                case Told(at=at):
                    tally.calls["acknowledged"] += 1
                    if before is not None:
                        gap = (at - before) / 1e6
                        tally.gap_seconds_max = max(tally.gap_seconds_max, gap)
                    before = at
                case Refused(error=error):
                    tally.calls[_kind(error)] += 1
                case Unknown():
                    tally.calls["unknown"] += 1
                case _:
                    pass
    return list(found.values())


def _kind(error: str) -> str:
    return "unavailable" if error == "UnavailableError" else "refused"
