"""The log as it was read again and again: what was there once stays as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from evstore.config import StoreType
from evstore.log import open_log
from evstore.log.kubernetes import objects
from evstore.log.kubernetes.client import Client
from evstore.log.kubernetes.copy import genesis_of
from evstore.log.kubernetes.shelf import Shelf

from .evidence import Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore.config import Config
    from evstore.model import Head, StoredEvent


_SECONDS: Final = 10.0


class Archive:
    """All events that a log has ever had, also those that were compacted.

    Each reading begins at the floor of its time. What two readings have must be the
    same in both, and each goes on where the one before it ended, or later.
    """

    def __init__(self) -> None:
        self.genesis: Head | None = None
        self.floor = 0
        self.events: list[StoredEvent] = []
        self.violations: list[Violation] = []

    async def read(self, config: Config) -> None:
        """Read what the log has now."""
        read = _read_objects if config.type is StoreType.KUBERNETES else _read_log
        self.genesis, floor, events = await read(config)
        self.add(floor, events)

    def add(self, floor: int, events: Sequence[StoredEvent]) -> None:
        """Take in a reading: all events after a floor."""
        known = self.events[floor:]
        for before, now in zip(known, events, strict=False):
            if before != now:
                self._vanished(before.position, f"is {now.position} {now.hash.hex()}")
        for gone in known[len(events) :]:
            self._vanished(gone.position, "the log ends before it")
        if floor > len(self.events):
            self._vanished(len(self.events) + 1, f"the floor is {floor}")
        self.floor = max(self.floor, floor)
        self.events += events[len(known) :]

    def _vanished(self, position: int, what: str) -> None:
        self.violations.append(Violation(Rule.VANISHED, f"position {position}", what))


async def _read_log(config: Config) -> tuple[Head, int, list[StoredEvent]]:
    async with open_log(config) as log:
        events = [each async for chunk in log.read() for each in chunk]
        return log.genesis, 0, events


async def _read_objects(config: Config) -> tuple[Head, int, list[StoredEvent]]:
    """Return what lies in the cluster, whether or not it is a log that can be read."""
    client = Client(config.kubernetes, seconds=_SECONDS)
    shelf = Shelf(client)
    try:
        identity, floor = await shelf.identity(), (await shelf.log()).floor
        events = [
            event
            async for page in shelf.changes()
            for change in page
            # What a late writer has left below the floor may reach beyond it.
            if objects.position_of(change) > floor
            for event in await shelf.events(change)
        ]
    finally:
        with anyio.CancelScope(shield=True):
            await client.aclose()
    return genesis_of(identity), floor, events
