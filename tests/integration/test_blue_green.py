"""Two releases on one database: other upcasters, and another version of a projection."""

from __future__ import annotations

import json
import random
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest
from anyio.streams.text import TextReceiveStream

import evstore
from command import Command
from evstore.log import open_log
from evstore.maintenance.programs import Program
from integration.colour import APPS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import Process, TaskGroup

    from evstore import Config, Event, Store

PROGRAM: Final = Path(__file__).with_name("colour.py")
EVERY: Final = 20
CHANGES: Final = 150


class Colour:
    """A release that runs as a process, and what it has said so far."""

    def __init__(self, name: str, process: Process) -> None:
        self.name: Final = name
        self.process: Final = process
        self.said: list[dict[str, Any]] = []
        self._heard = anyio.Event()

    async def listen(self) -> None:
        assert self.process.stdout is not None
        buffer = ""
        async for text in TextReceiveStream(self.process.stdout):
            *lines, buffer = (buffer + text).split("\n")
            self.said += map(json.loads, lines)
            heard, self._heard = self._heard, anyio.Event()
            heard.set()

    async def has_seen(self, position: int) -> None:
        """Return when it has told of that position."""
        with anyio.fail_after(30):
            while not any(each.get("list", [-1])[0] >= position for each in self.said):
                await self._heard.wait()

    async def end(self) -> None:
        """Have it close its store; return when it has."""
        self.process.terminate()
        with anyio.fail_after(30):
            assert await self.process.wait() == 0


@asynccontextmanager
async def running(
    config: Config, name: str, folder: Path, tasks: TaskGroup
) -> AsyncGenerator[Colour]:
    environ = Command(config, folder).environ(
        KUMA_STORE_EVSTORE_SNAPSHOTS_EVERY_EVENTS=str(EVERY)
    )
    process = await anyio.open_process(
        [sys.executable, str(PROGRAM), name], env=environ, stderr=None
    )
    one = Colour(name, process)
    tasks.start_soon(one.listen)
    try:
        yield one
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()


async def write(store: Store, changes: int, choose: random.Random) -> None:
    """Create, update and delete data planes."""
    for _ in range(changes):
        name = f"dp-{choose.randrange(9)}"
        spec = {"host": f"h-{choose.randrange(4)}"}
        page = await store.list("Dataplane", mesh="m")
        if choose.random() < 0.2 and name in {each.name for each in page.items}:
            await store.delete("Dataplane", name, mesh="m")
        else:
            await store.upsert(
                "Dataplane", name, mesh="m", change=lambda _, spec=spec: spec
            )


def seen_by(name: str, events: list[Event]) -> dict[int, tuple[Any, Any]]:
    """Return what a release has to show at each position: its view, and its listing."""
    member = {"blue": "host", "green": "address"}[name]
    hosts: dict[str, str] = {}
    view: dict[str, list[str]] = {}
    found: dict[int, tuple[Any, Any]] = {0: ({}, {})}
    for event in events:
        view = {
            host: [each for each in names if each != event.name]
            for host, names in view.items()
        }
        if event.spec is None:
            del hosts[event.name]
        else:
            hosts[event.name] = event.spec["host"]
            view.setdefault(event.spec["host"], []).append(event.name)
        if name == "green":
            view = {host: sorted(names) for host, names in view.items()}
        view = {host: names for host, names in view.items() if names}
        specs = {each: {member: host} for each, host in hosts.items()}
        found[event.position] = (view, specs)
    return found


async def stored(config: Config) -> dict[str, list[int]]:
    """Return the positions of the snapshots of each label."""
    positions: dict[str, list[int]] = {}
    async with open_log(config) as log:
        for each in await log.snapshots():
            positions.setdefault(each.stamp.label, []).append(each.stamp.head.position)
    return positions


def labels(name: str) -> list[str]:
    return [code.label for code in Program(APPS[name]).codes]


def check_said(name: str, said: list[dict[str, Any]], events: list[Event]) -> None:
    """Check that all that a release has told is what it had to be there."""
    expected = seen_by(name, events)
    views = [each["view"] for each in said if "view" in each]
    lists = [each["list"] for each in said if "list" in each]
    assert len(views) > CHANGES
    for position, view in views:
        assert view == expected[position][0]
    for position, specs in lists:
        assert specs == expected[position][1]


async def side_by_side(
    config: Config, store: Store, folder: Path, seed: int
) -> list[Colour]:
    """Have both run while another writes; return what they have said."""
    async with anyio.create_task_group() as tasks:
        async with (
            running(config, "blue", folder, tasks) as blue,
            running(config, "green", folder, tasks) as green,
        ):
            choose = random.Random(seed)
            while not (blue.said and green.said):
                await write(store, 5, choose)
            await write(store, CHANGES, choose)
            for one in (blue, green):
                await one.has_seen(store.position)
            for one in (blue, green):
                # One after the other: only one can save at a time.
                await one.end()
        tasks.cancel_scope.cancel()
    return [blue, green]


@pytest.mark.slow
async def test_two_releases_side_by_side_see_each_its_own_and_start_from_it(
    postgres_config: Config, tmp_path: Path
) -> None:
    assert not {*labels("blue")} & {*labels("green")}
    told: dict[str, list[dict[str, Any]]] = {"blue": [], "green": []}
    async with evstore.open(postgres_config) as store:
        for name in ("old-b", "old-a"):
            # Never changed again: later starts have them from a snapshot alone.
            await store.create("Dataplane", name, mesh="m", spec={"host": "h-old"})
        for turn in range(3):
            before = await stored(postgres_config)
            for one in await side_by_side(postgres_config, store, tmp_path, turn):
                told[one.name] += one.said
                began = one.said[0]
                newest = max(before.get(labels(one.name)[1], [0]))
                # What it has folded for the start is what follows its own snapshot.
                assert began["folded"] == began["position"] - newest
                assert bool(newest) == bool(turn)
        after = await stored(postgres_config)
        assert after.keys() == {*labels("blue"), *labels("green")}
        for positions in after.values():
            assert positions[0] == store.position
            assert len(positions) <= 2
        events = [event async for event in store.events()]
    for name, said in told.items():
        check_said(name, said, events)
