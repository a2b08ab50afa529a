"""One instance of a control plane under torture: it writes, reads and watches.

Run as a process of its own: `python -m fault.torture.worker`. The first line on standard
input is its assignment, the second tells it to stop writing. It says OPEN once its store
is open and QUIET once it has stopped writing, and ends when all of its watchers have seen
the last write. The end of the input means that nobody waits for it any more.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec
from anyio import to_thread

import evstore
from evstore import Bookmark
from evstore.clock import boot_microseconds
from evstore.config import (
    Config,
    EvstoreConfig,
    Limits,
    PostgresConfig,
    StoreType,
    UpsertConfig,
)
from evstore.errors import StoreError
from evstore.model import ANY, Filter, Key

from .client import Client, Watcher
from .records import (
    CREATE,
    UPSERT,
    Asked,
    HistoryFile,
    Marked,
    Opening,
    Refused,
    Seen,
    Told,
    read_history,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from evstore import Event, Resource, Store

    from .records import Record

HOT: Final = [
    Key(type="Policy", mesh="default", name=f"hot-{number}") for number in range(5)
]
LAST_TOKEN: Final = "the end"
SLOW_SECONDS: Final = 0.3
INSTANCES: Final = 3
TASKS: Final = 4
BURST: Final = 60
REST_SECONDS: Final = 0.004
PHASE_MICROSECONDS: Final = 400_000
FINISH_SECONDS: Final = 30.0
OPEN: Final = "open"
QUIET: Final = "quiet"
UNAVAILABLE: Final = 75


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What a watcher of each instance follows, and how."""

    where: Filter = ANY
    marks: bool = False
    initial: bool = False
    slow_seconds: float = 0.0


WATCHED: Final = {
    "all": Watched(),
    "slow": Watched(marks=True, slow_seconds=SLOW_SECONDS),
    "policies": Watched(where=Filter(type="Policy"), marks=True),
    "one": Watched(where=Filter(type="Policy", mesh="default", name=HOT[0].name)),
    "initial": Watched(marks=True, initial=True),
}


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance is to do, and how it finds the log."""

    host: str
    port: int
    user: str
    db_name: str
    number: int
    life: int
    seed: int
    folder: str

    @property
    def name(self) -> str:
        return f"instance-{self.number + 1}"

    @property
    def session(self) -> str:
        return self.history(self.life).stem

    @property
    def config(self) -> Config:
        """Short deadlines and pauses, and a tail that slow watchers fall out of."""
        return Config(
            type=StoreType.POSTGRES,
            postgres=PostgresConfig(
                host=self.host, port=self.port, user=self.user, db_name=self.db_name
            ),
            upsert=UpsertConfig(conflict_retry_base_backoff=0.001),
            evstore=EvstoreConfig(
                heartbeat_interval=0.5,
                limits=Limits(
                    command_timeout=2.0, append_timeout=1.0, tail_events_max=100
                ),
            ),
        )

    def history(self, life: int) -> Path:
        """Return the file of one of its lives."""
        return Path(self.folder) / f"{self.name}.{life:04}.jsonl"


class Past:
    """What an instance's former lives have left: where watchers stood, open requests."""

    def __init__(self, assignment: Assignment) -> None:
        self.places: dict[str, tuple[int, str]] = {}
        self.unanswered: dict[str, Asked] = {}
        for path in map(assignment.history, range(assignment.life)):
            if path.exists():  # else it was killed before it could write anything
                self._read(read_history(path).records)

    def place(self, watcher: str, log: UUID) -> int | Bookmark | None:
        """Return where a watcher goes on."""
        watched = WATCHED[watcher]
        if watched.initial:
            return None  # it begins anew in each life
        position, digest = self.places.get(watcher, (0, ""))
        if not watched.marks or not position:
            return position
        return Bookmark(log=log, position=position, hash=bytes.fromhex(digest))

    def _read(self, records: list[Record]) -> None:
        tokens: dict[int, str] = {}
        for record in records:
            match record:
                case Seen() | Marked():
                    watcher = record.watcher.split("/")[1]
                    self.places[watcher] = (record.position, record.hash)
                case Asked(id=id_, token=token, request=True):
                    self.unanswered[token] = record
                    tokens[id_] = token
                case Told(id=id_) | Refused(id=id_):
                    self.unanswered.pop(tokens.get(id_, ""), None)
                case _:
                    pass


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
                for writer in writers:
                    writer.over = True
                for watcher in watchers:
                    watcher.slow_seconds = 0.0
            _say(QUIET)
            tasks.cancel_scope.deadline = anyio.current_time() + FINISH_SECONDS


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


def main() -> None:
    assignment = msgspec.json.decode(sys.stdin.readline(), type=Assignment)
    anyio.run(_serve, assignment)
    # A thread still waits for the input, and would be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
