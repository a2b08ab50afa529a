"""One instance of a control plane under torture: it writes, reads and watches.

Run as a process of its own: `python -m fault.torture.worker`. The first line on standard
input is its assignment, the second tells it to stop writing. It says OPEN once its store
is open and QUIET once it has stopped writing, and ends when all of its watchers have seen
the last write. The end of the input means that nobody waits for it any more.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec
from anyio import to_thread

import evstore
from evstore.clock import boot_microseconds
from evstore.errors import StoreError
from evstore.model import Key

from .assignment import HOT, WATCHED, Assignment, Cluster, Past
from .client import Client, Watcher
from .records import CREATE, UPSERT, Asked, HistoryFile, Opening

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore import Event, Resource, Store

    from .records import Record

LAST_TOKEN: Final = "the end"
INSTANCES: Final = 3
TASKS: Final = 4
BURST: Final = 60
REST_SECONDS: Final = 0.004
PHASE_MICROSECONDS: Final = 400_000
FINISH_SECONDS: Final = 90.0
STOP_SECONDS: Final = 10.0
OPEN: Final = "open"
QUIET: Final = "quiet"
UNAVAILABLE: Final = 75


class Writer:
    """Makes one random call after the other, on keys that all instances fight for."""

    def __init__(self, client: Client, chance: random.Random, *, number: int) -> None:
        self._number = number
        self._client = client
        self._chance = chance
        self._fresh: list[Key] = []
        self.over = False

    async def run(self) -> None:
        """Work until it is over, some of the time beside the others and some alone."""
        actions = [
            (self._compare_and_set, 5),
            (self._upsert, 3),
            (self._overwrite, 1),
            (self._delete, 1),
            (self._create, 3),
            (self._delete_fresh, 1),
            (self._transact, 2),
            (self._look, 2),
            (self._burst, 0.4),
        ]
        calls, weights = zip(*actions, strict=True)
        while not self.over:
            if self._is_on():
                await self._chance.choices(calls, weights)[0]()
            await anyio.sleep(self._chance.random() * REST_SECONDS)

    async def repeat(self, unanswered: list[Asked]) -> None:
        """Ask again for what a former life was not answered."""
        for asked in unanswered:
            how: dict[str, Any] = {"token": asked.token}
            match [(change.what, change.key) for change in asked.changes]:
                case [(what, key)] if what == CREATE:
                    await self._client.create(Key.from_text(key), **how)
                case [(what, key)] if what == UPSERT:
                    await self._client.upsert(Key.from_text(key), **how)
                case _:
                    pass  # what a former life had read is not known any more

    def _is_on(self) -> bool:
        """Whether it is this instance's time to write: everybody's, or one's after another.

        All go by the same clock.
        """
        phase = boot_microseconds() // PHASE_MICROSECONDS % (2 * INSTANCES)
        return phase % 2 == 0 or phase // 2 == self._number

    def _how(self) -> dict[str, Any]:
        """Return how to ask: mostly with a request id, seldom without patience."""
        hasty = self._chance.random() < 0.03
        patience = self._chance.random() * 0.02 if hasty else None
        return {"request": self._chance.random() < 0.7, "patience": patience}

    async def _hot(self) -> Resource[Any] | None:
        consistent = self._chance.random() < 0.1
        key = self._chance.choice(HOT)
        found = await self._client.get(key, consistent=consistent)
        if found is None and not self.over:
            await self._client.create(key, **self._how())
        return found

    async def _compare_and_set(self) -> None:
        if found := await self._hot():
            await self._client.update(found, **self._how())

    async def _upsert(self) -> None:
        await self._client.upsert(self._chance.choice(HOT), **self._how())

    async def _overwrite(self) -> None:
        await self._client.update(self._chance.choice(HOT), **self._how())

    async def _delete(self) -> None:
        if found := await self._hot():
            version = found.version if self._chance.random() < 0.5 else None
            await self._client.delete(found.key, version=version, **self._how())

    async def _create(self) -> None:
        key = self._name()
        if await self._client.create(key, **self._how()):
            self._fresh.append(key)

    async def _delete_fresh(self) -> None:
        if self._fresh:
            await self._client.delete(self._fresh.pop(), **self._how())

    async def _transact(self) -> None:
        found = [each for each in (await self._hot(), await self._hot()) if each]
        targets = list({each.key: each for each in found}.values())
        await self._client.transact(targets, self._name(), **self._how())

    async def _burst(self) -> None:
        """Ask for more at once than goes into one append, and into a second behind it."""
        actions = (self._create, self._create, self._upsert, self._compare_and_set)
        async with anyio.create_task_group() as tasks:
            for _ in range(BURST):
                tasks.start_soon(self._chance.choice(actions))

    async def _look(self) -> None:
        await self._client.get(self._chance.choice(HOT), consistent=True)
        self._client.fold()

    def _name(self) -> Key:
        name = self._client.token().replace(".", "-")
        return Key(type="Dataplane", mesh="default", name=name)


async def work(
    assignment: Assignment, record: Callable[[Record], None], stop: anyio.Event
) -> None:
    """Write until told to stop, and watch until the last write has been seen."""
    past = Past(assignment)
    record(Opening(at=boot_microseconds()))
    async with evstore.open(assignment.config) as store:
        _say(OPEN)
        client = Client(store, record, session=assignment.session)
        chance = random.Random(f"{assignment.seed} {assignment.session}")
        writers = [
            Writer(client, chance, number=assignment.number) for _ in range(TASKS)
        ]
        watchers = _watchers(assignment, store, record, past)
        async with anyio.create_task_group() as tasks:
            for watcher in watchers:
                tasks.start_soon(_follow, watcher)
            async with anyio.create_task_group() as writing:
                writing.start_soon(writers[0].repeat, list(past.unanswered.values()))
                for writer in writers:
                    writing.start_soon(writer.run)
                await stop.wait()
                client.over = True
                for writer in writers:
                    writer.over = True
                for watcher in watchers:
                    watcher.slow_seconds = 0.0
            _say(QUIET)
            tasks.cancel_scope.deadline = anyio.current_time() + FINISH_SECONDS
        client.fold()


def _watchers(
    assignment: Assignment,
    store: Store,
    record: Callable[[Record], None],
    past: Past,
) -> list[Watcher]:
    return [
        Watcher(
            store,
            record,
            name=f"{assignment.name}/{name}",
            place=past.place(name, store.identity),
            where=watched.where,
            marks=watched.marks,
            slow_seconds=watched.slow_seconds,
        )
        for name, watched in WATCHED.items()
    ]


async def _follow(watcher: Watcher) -> None:
    try:
        await watcher.follow(_is_last)
    finally:
        # Also where it was waited for in vain: then something is missing.
        watcher.end()


def _is_last(event: Event) -> bool:
    return event.reason == LAST_TOKEN


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def _serve(assignment: Assignment) -> None:
    stop = anyio.Event()
    with HistoryFile(assignment.history(assignment.life)) as history:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_obey, stop)
            try:
                await work(assignment, history.record, stop)
            except StoreError as error:
                # The server is away just now: whoever started this starts it again.
                sys.stderr.write(f"{assignment.session}: {error}\n")
                sys.stderr.flush()
                os._exit(UNAVAILABLE)
            tasks.cancel_scope.cancel()


async def _obey(stop: anyio.Event) -> None:
    if not await to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        os._exit(0)
    stop.set()
    await to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    os._exit(0)


def _stop_before_creating() -> None:
    """Stop this process before it next creates a change, after a SIGUSR1.

    It knows then where the log ended, and sends its create when it goes on. Where it
    creates nothing in time, it is not stopped: nobody would let it go on.
    """
    from evstore.log.kubernetes.shelf import Shelf  # noqa: PLC0415 - for a cluster only

    create, until = Shelf.create, [0]

    def tell(*_: object) -> None:
        until[0] = boot_microseconds() + int(STOP_SECONDS * 1e6)

    async def late(self: Shelf, *args: Any, **named: Any) -> Any:
        if boot_microseconds() < until[0]:
            until[0] = 0
            os.kill(os.getpid(), signal.SIGSTOP)
        return await create(self, *args, **named)

    signal.signal(signal.SIGUSR1, tell)
    Shelf.create = late  # type: ignore[method-assign]


def main() -> None:
    assignment = msgspec.json.decode(sys.stdin.readline(), type=Assignment)
    if isinstance(assignment.place, Cluster):
        from evstore.log.kubernetes import feed  # noqa: PLC0415 - for a cluster only

        seconds = assignment.place.confirmed_seconds
        feed.CONFIRMED_SECONDS_MAX = seconds  # type: ignore[misc]
        _stop_before_creating()
    anyio.run(_serve, assignment)
    # A thread still waits for the input, and would be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
