"""Bugs that are put in on purpose, and stores whose calls the checker judges."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

import evstore
from evstore.clock import boot_microseconds
from evstore.codec import event_hash
from evstore.log import HeadMovedError, InDoubtError, open_log
from evstore.model import Key
from fault.history import adjusted
from fault.torture.archive import Archive
from fault.torture.checker import check
from fault.torture.client import Client
from fault.torture.records import History, Opening

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from evstore import Config
    from evstore.log import Log
    from evstore.model import Head, StoredEvent
    from fault.torture.evidence import Rule

NEVER_SECONDS: Final = 3600.0
FIRST, SECOND = (Key(type="Mesh", name=name) for name in ("first", "second"))

broken_or_not = pytest.mark.parametrize("broken", [True, False], ids=["bug", "no bug"])


class Recorded:
    """The histories of stores of this process."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._histories: list[History] = []
        self.archive: Final = Archive()

    @asynccontextmanager
    async def open(self, session: str, config: Config) -> AsyncGenerator[Client]:
        """Open a store whose calls are recorded."""
        history = History(session)
        self._histories.append(history)
        history.records.append(Opening(at=boot_microseconds()))
        async with evstore.open(config) as store:
            yield Client(store, history.records.append, session=session)

    async def rules(self) -> set[Rule]:
        """Return the rules that the checker finds broken."""
        await self.read()
        archive = self.archive
        assert archive.genesis is not None, "it was read"
        found = archive.violations + check(
            archive.genesis, archive.events, self._histories, floor=archive.floor
        )
        return {each.rule for each in found}

    async def read(self) -> None:
        """Read what the log has now: afterwards, and before some of it is removed."""
        await self.archive.read(self._config)


class Changed:
    """A log that does what another one does, but for what a bug changes."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def send(self, *_: object, **__: object) -> bool:
        return False  # each append goes through `append`


def introduce(monkeypatch: pytest.MonkeyPatch, bug: Callable[[Log], object]) -> None:
    """Let stores that are opened from now on have a bug in their log."""

    @asynccontextmanager
    async def open_changed(config: Config) -> AsyncGenerator[object]:
        async with open_log(config) as log:
            yield bug(log)

    monkeypatch.setattr("evstore.store.opening.open_log", open_changed)


def deaf(config: Config) -> Config:
    """Return a configuration of a store that hears of nobody else."""
    return adjusted(
        config, notify=False, poll_interval=NEVER_SECONDS, heartbeat_interval=0.0
    )


class TrustsNotifications(Changed):
    async def wait(self, after: int, *, seconds: float) -> None:
        del seconds
        await self._log.wait(after, seconds=NEVER_SECONDS)


class DoesNothingOnConflict(Changed):
    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        try:
            await self._log.append(events, after=after)
        except HeadMovedError:
            return  # no row, and no error


class RetriesBlindly(Changed):
    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        try:
            await self._log.append(events, after=after)
        except InDoubtError:
            head = await self._log.head()
            await self._log.append(_stamped_again(events, after, head), after=head)


def _stamped_again(
    events: Sequence[StoredEvent], before: Head, after: Head
) -> list[StoredEvent]:
    """Return the same changes as a transaction of its own, after another place."""
    moved = after.position - before.position
    previous, tx = after.hash, os.urandom(16).hex()
    stamped: list[StoredEvent] = []
    for event in events:
        fresh = msgspec.structs.replace(
            event,
            position=event.position + moved,
            commit=event.commit + moved,
            tx=tx,
            time=after.time + 1,
        )
        previous = event_hash(previous, fresh)
        stamped.append(msgspec.structs.replace(fresh, hash=previous))
    return stamped
