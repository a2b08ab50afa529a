"""How fast are questions about the past, on a long log?

The log has 50,000 resources in five meshes, and behind it a last day of 10,000 changes in
transactions of 100, each hundredth of them by another actor. A list is that of one mesh, a
fifth of all. What is asked for is drawn by lot, the same each time.

Usage: python benchmarks/history.py [--events N] [--resources N] [--day N] [--quick]
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import anyio
from figures import Aim, Figure, percentile
from harness import arguments, fill, fresh, report, server, settings_of

import evstore

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from evstore import Store
    from evstore.config import Config

    Ask = Callable[[random.Random], Awaitable[None]]

MESHES = [f"mesh-{number}" for number in range(5)]
TYPE = "Dataplane"
RARE = 100  # each hundredth change of the last day is the rare actor's
TRANSACTION_EVENTS = 100
TIMES_MAX = 1_000

GET, LIST = "get at a position", "list at a position"
HISTORY, BLAME = "history of one resource", "blame of one resource"
BY_ACTOR = "events of an actor, last day"


async def fill_day(store: Store, options: argparse.Namespace) -> datetime:
    """Make the changes of the last day; return when it began."""
    lots = random.Random(2)
    name = f"dp-{0:06d}"
    began = (
        await store.update(evstore.Key(type=TYPE, mesh=MESHES[0], name=name), spec={})
    ).modified_at
    each = options.resources // len(MESHES)
    for number in range(options.day // TRANSACTION_EVENTS):
        rare = number % RARE == 0
        async with store.transaction(actor="rare" if rare else "bench") as tx:
            chosen = lots.sample(range(each), TRANSACTION_EVENTS)
            for one in chosen:
                key = evstore.Key(
                    type=TYPE, mesh=lots.choice(MESHES), name=f"dp-{one:06d}"
                )
                tx.update(key, spec={"day": number, "one": one})
    return began


async def measured(seconds: float, ask: Ask) -> Figure:
    """Return the median of milliseconds that asking takes, with the 10th and 90th."""
    lots = random.Random(1)
    await ask(lots)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and len(taken) < TIMES_MAX:
        began = time.perf_counter()
        await ask(lots)
        taken.append(1e3 * (time.perf_counter() - began))
    assert taken, "it was asked at least once"
    tenth, half, most = (percentile(taken, share) for share in (0.1, 0.5, 0.9))
    return Figure(half, tenth, most, len(taken))


class Asking:
    """Asks a store, each time about something that was drawn by lot."""

    def __init__(
        self, store: Store, options: argparse.Namespace, day: datetime
    ) -> None:
        self._store = store
        self._each = options.resources // len(MESHES)
        self._first = options.resources  # from here on, all of them are there
        self._head = store.position
        self._day = day
        self._day_began = self._head - options.day

    def _one(self, lots: random.Random) -> tuple[str, str]:
        return f"dp-{lots.randrange(self._each):06d}", lots.choice(MESHES)

    async def get(self, lots: random.Random) -> None:
        name, mesh = self._one(lots)
        at = lots.randrange(self._first, self._head)
        assert (await self._store.get(TYPE, name, mesh=mesh, at=at)).name == name

    async def list(self, lots: random.Random) -> None:
        at = lots.randrange(self._first, self._head)
        page = await self._store.list(TYPE, mesh=lots.choice(MESHES), at=at)
        assert page.total == self._each

    async def history(self, lots: random.Random) -> None:
        name, mesh = self._one(lots)
        async for version in self._store.history(TYPE, name, mesh=mesh):
            assert version.differences

    async def blame(self, lots: random.Random) -> None:
        name, mesh = self._one(lots)
        assert (await self._store.blame(TYPE, name, mesh=mesh)).leaves

    async def by_actor(self, _: random.Random) -> None:
        events = self._store.events(actor="rare", since=self._day)
        assert len([event async for event in events]) >= TRANSACTION_EVENTS

    def diff(self, events: int) -> Ask:
        """Return what asks for the diff of two places of the last day."""

        async def ask(lots: random.Random) -> None:
            start = lots.randint(self._day_began, self._head - events)
            assert (await self._store.diff(start, start + events)).changes

        return ask


async def questions(config: Config, options: argparse.Namespace) -> dict[str, Figure]:
    async with evstore.open(config) as store:
        began = await fill_day(store, options)
        asking = Asking(store, options, began)
        asked: dict[str, Ask] = {
            GET: asking.get,
            LIST: asking.list,
            HISTORY: asking.history,
            BLAME: asking.blame,
            BY_ACTOR: asking.by_actor,
        }
        for count in (TRANSACTION_EVENTS, 10 * TRANSACTION_EVENTS, options.day):
            asked[f"diff over {count:,} events"] = asking.diff(count)
        return {
            what: await measured(options.seconds, ask) for what, ask in asked.items()
        }


def main() -> None:
    options = arguments(
        __doc__,
        events={"type": int, "default": 1_000_000, "quick": 30_000},
        resources={"type": int, "default": 50_000, "quick": 5_000},
        day={"type": int, "default": 10_000, "quick": 2_000},
    )
    with server() as running:
        settings = settings_of(running)
        config = fresh(running, "history")
        anyio.run(
            lambda: fill(
                config,
                events=options.events,
                resources=options.resources,
                meshes=MESHES,
            )
        )
        found = anyio.run(questions, config, options)
    aims = {GET: 3.0, LIST: 500.0, HISTORY: 5.0, BY_ACTOR: 50.0}
    report(
        f"the past: {options.events + options.day:,} events,"
        f" {options.resources:,} resources",
        ["what", "ms (10th to 90th percentile)"],
        [[what, figure] for what, figure in found.items()],
        aims=[
            Aim(f"{what}, ms", asked, found[what].median, "ms", at_most=True)
            for what, asked in aims.items()
        ],
        settings=settings,
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
