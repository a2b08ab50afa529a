"""Callers that change resources of their own, one change after the other."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import anyio
from harness import SPEC, told

import evstore

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from evstore import Resource, Store
    from evstore.config import Config


class Load(NamedTuple):
    """What callers did from `began` to `ended`; times are those of perf_counter."""

    began: float
    ended: float
    answered: list[float]
    latencies: list[float]

    @property
    def rate(self) -> float:
        return len(self.answered) / (self.ended - self.began)


class Callers:
    """Some callers of one store; `rate` changes a second together, or all they can."""

    def __init__(self, store: Store, number: int, *, rate: float = 0) -> None:
        self._store = store
        self._number = number
        self._pause = number / rate if rate else 0.0
        self._mine: list[Resource] = []
        self._count = 0

    async def prepare(self) -> None:
        """Create a resource for each caller."""
        prefix = os.urandom(4).hex()

        async def create(number: int) -> None:
            name = f"dp-{prefix}-{number}"
            self._mine.append(await self._store.create("Dataplane", name, spec=SPEC))

        async with anyio.create_task_group() as tasks:
            for number in range(self._number):
                tasks.start_soon(create, number)

    async def run(self, seconds: float) -> Load:
        """Make changes for so long; what is answered later does not count."""
        answered: list[float] = []
        latencies: list[float] = []
        began = time.perf_counter()
        ended = began + seconds

        async def caller(number: int) -> None:
            mine = self._mine[number]
            # Paced callers do not all begin at once.
            due = began + self._pause * number / self._number
            while True:
                if self._pause:
                    await anyio.sleep(max(0.0, due - time.perf_counter()))
                    due += self._pause
                called = time.perf_counter()
                if called >= ended:
                    break
                self._count += 1
                spec = {**SPEC, "count": self._count}
                mine = await self._store.update(mine, spec=spec)
                now = time.perf_counter()
                if now <= ended:
                    answered.append(now)
                    latencies.append(now - called)
            self._mine[number] = mine

        async with anyio.create_task_group() as tasks:
            for number in range(self._number):
                tasks.start_soon(caller, number)
        return Load(began, ended, answered, latencies)


async def changes(config: Config, callers: int, seconds: float) -> Load:
    """Open a store, let its callers make changes, and close it."""
    async with evstore.open(config) as store:
        group = Callers(store, callers)
        await group.prepare()
        before = store.position
        load = await group.run(seconds)
        # Every answer stands for an event: what is counted is in the log.
        assert await store.head() - before >= len(load.answered)
        return load


def instance(pipe: Connection, config: Config, callers: int, rate: float = 0) -> None:
    """An instance in a process of its own: runs for as long as the pipe says, each time."""
    anyio.run(_instance, pipe, config, callers, rate)


async def _instance(
    pipe: Connection, config: Config, callers: int, rate: float
) -> None:
    async with evstore.open(config) as store:
        group = Callers(store, callers, rate=rate)
        await group.prepare()
        pipe.send(store.position)
        while (seconds := await told(pipe)) is not None:
            pipe.send(await group.run(seconds))
