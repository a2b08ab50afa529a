"""A run: instances that fight for keys, faults at random, and the verdict on it all."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

import evstore
from evstore.clock import boot_microseconds
from evstore.embedded import EmbeddedServer
from evstore.log import open_log
from evstore.maintenance import migrate_up
from fault.proxy import open_proxy

from .checker import check
from .client import Client
from .disk import own_disk
from .faults import Victims, faults
from .instances import Instance
from .records import (
    Asked,
    History,
    Opening,
    Refused,
    Seen,
    Told,
    Unknown,
    read_history,
)
from .worker import HOT, INSTANCES, LAST_TOKEN, Assignment

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from evstore.config import Config
    from evstore.model import Head, StoredEvent

    from .evidence import Violation

LONG_SECONDS: Final = 60.0
END_SECONDS: Final = 90.0
_SETTINGS: Final = {"max_connections": "60", "max_wal_size": "128MB"}


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
    watched: int = 0
    violations: list[Violation] = field(default_factory=list)

    @property
    def in_vain(self) -> int:
        """How many faults found nobody to strike."""
        return sum(what is None for _, _, what in self.faults)


async def torture(
    server_folder: Path, histories: Path, *, seconds: float, seed: int
) -> Run:
    """Torture a server of its own for so long; every fault strikes at least once.

    Both folders are empty; what the clients have written down stays in `histories`. The
    seed decides which faults come, in which order, and what the instances ask for. When
    each of that happens is up to the machine.
    """
    run = Run(seed)
    with own_disk(server_folder) as disk:
        if isinstance(disk, str):
            run.not_possible.append(f"disk full: {disk}")
        with EmbeddedServer(server_folder, settings=_SETTINGS) as server:
            config = server.config()
            await migrate_up(config)
            last = History("end")
            async with _instances(config, histories, seed) as instances:
                victims = Victims(
                    server=server,
                    config=config,
                    instances=instances,
                    disk=disk,
                    chance=random.Random(seed),
                    # Longer than the server's own time-outs, if there is time.
                    stall_seconds_max=7.0 if seconds >= LONG_SECONDS else 1.0,
                )
                began = anyio.current_time()
                await _strike(victims, run, seconds)
                await _finish(config, instances, last)
                run.seconds = anyio.current_time() - began
            genesis, events = await read_log(config)
    _judge(run, histories, last, genesis, events)
    return run


@asynccontextmanager
async def _instances(
    config: Config, histories: Path, seed: int
) -> AsyncGenerator[list[Instance]]:
    async with AsyncExitStack() as stack:
        instances: list[Instance] = []
        for number in range(INSTANCES):
            proxy = await stack.enter_async_context(open_proxy(config))
            postgres = proxy.config.postgres
            assignment = Assignment(
                host=postgres.host,
                port=postgres.port,
                user=postgres.user,
                db_name=postgres.db_name,
                number=number,
                life=0,
                seed=seed,
                folder=str(histories),
            )
            instances.append(Instance(assignment, proxy))
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


async def _strike(victims: Victims, run: Run, seconds: float) -> None:
    """Strike with one fault after the other, each equally often."""
    began = anyio.current_time()
    possible = faults(victims)
    pause = 1.0 if seconds >= LONG_SECONDS else 0.3
    while True:
        for name in victims.chance.sample(list(possible), len(possible)):
            await anyio.sleep(victims.seconds(0.05, pause))
            at = anyio.current_time() - began
            if run.faults and len(run.faults) >= len(possible) and at > seconds:
                return
            run.faults.append((at, name, await possible[name](victims)))
            for instance in victims.instances:
                instance.proxy.requests.clear()  # a long run makes millions


async def _finish(config: Config, instances: list[Instance], last: History) -> None:
    """Have everybody stop writing; then write what all watchers wait for."""
    for instance in instances:
        await instance.stop_writing()
    last.records.append(Opening(at=boot_microseconds()))
    async with evstore.open(config) as store:
        client = Client(store, last.records.append, session=last.session)
        assert await client.upsert(HOT[0], token=LAST_TOKEN)


async def read_log(config: Config) -> tuple[Head, list[StoredEvent]]:
    """Return the place before the first event, and all events."""
    async with open_log(config) as log:
        return log.genesis, [each async for chunk in log.read() for each in chunk]


def _judge(
    run: Run,
    folder: Path,
    last: History,
    genesis: Head,
    events: list[StoredEvent],
) -> None:
    """Add to a run what came of it."""
    lives = [read_history(path) for path in sorted(folder.glob("*.jsonl"))]
    run.events = len(events)
    run.tallies = _tallies(lives)
    run.watched = sum(isinstance(each, Seen) for life in lives for each in life.records)
    run.violations = check(genesis, events, [*lives, last])


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
