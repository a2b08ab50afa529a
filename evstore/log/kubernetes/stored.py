"""The log as the cluster has it, to be verified: nothing need be right about it."""

from __future__ import annotations

from bisect import bisect_right
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from evstore.model import Head

from . import base, migrations, objects, proof, rights
from .client import Client
from .copy import genesis_of
from .shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from evstore.config import Config
    from evstore.log.shapes import AuditedEvent, Base
    from evstore.model import Filter, StoredEvent

_FAR = 2**62


class StoredLog:
    """What a verification asks of a log, without a copy of it: that could not be made."""

    def __init__(self, client: Client, shelf: Shelf, found: objects.LogObject) -> None:
        self._client = client
        self._shelf = shelf
        self._object = found
        self._firsts: list[int] = []
        self._last: objects.Change | None = None
        self.identity = UUID(found.spec.identity)

    @property
    def genesis(self) -> Head:
        """The place before the first event."""
        return genesis_of(self.identity)

    @property
    def floor(self) -> Head:
        """The place below which changes were removed."""
        floor = self._object.spec.floor
        return floor.head if floor is not None else self.genesis

    async def find_end(self) -> None:
        """Find the last change, behind whatever gap, and whose log the first one is of."""
        floor = self.floor.position
        self._firsts = [
            first
            async for page in self._shelf.bare(objects.CHANGES)
            for each in page
            if (first := objects.position_of(each)) > floor
        ]
        if not self._firsts:
            return
        if self._object.spec.floor is None:
            change = await self._shelf.change(self._firsts[0])
            self.identity = (change and _identity(change)) or self.identity
        self._last = await self._shelf.change(self._firsts[-1])

    async def head(self) -> Head:
        """Return where the last change ends; its hash is for the verification to make."""
        last = self._last
        if last is None:
            return self.floor
        position = max(objects.position_of(last), last.spec.position)
        return Head(position=position, hash=b"", time=0)

    async def base(self) -> Base | None:
        """Return what is certified of the state at the floor."""
        return await base.read(self._shelf)

    def audit(self, *, after: int, until: int) -> AsyncGenerator[list[AuditedEvent]]:
        """Yield what the cluster has in a range, in order, unchecked."""
        return proof.audit(self._shelf, after=after, until=until)

    async def pick(self, positions: Sequence[int]) -> list[StoredEvent]:
        """Return the events at positions, as far as they are there."""
        found: list[StoredEvent] = []
        for position in sorted(positions):
            index = bisect_right(self._firsts, position) - 1
            change = (
                await self._shelf.change(self._firsts[index]) if index >= 0 else None
            )
            events = await self._shelf.events(change) if change else []
            found += [event for event in events if event.position == position]
            await proof.check_floor(self._shelf, position - 1)
        return found

    async def read(
        self, *, after: int, where: Filter
    ) -> AsyncGenerator[list[StoredEvent]]:
        """Yield the events after a position that a filter lets through."""
        async with aclosing(self.audit(after=after, until=_FAR)) as chunks:
            async for chunk in chunks:
                yield [event for event in chunk if where.accepts(event)]

    async def unguarded(self) -> list[str]:
        """Return the rights of our account that keep the log from being append-only."""
        return await rights.unguarded(self._client)


@asynccontextmanager
async def open_stored(config: Config) -> AsyncGenerator[StoredLog]:
    """Open the log that `config` names to be verified, whatever was done to it.

    Raises:
        SchemaError: the cluster has not the kinds that this program needs.
        UnavailableError: the cluster cannot be reached.
        ConfigError: how the cluster is reached is not known, or it refuses us.
    """
    client = Client(config.kubernetes, seconds=config.evstore.limits.read_timeout)
    try:
        await client.open()
        await migrations.check_version(client)
        shelf = Shelf(client)
        log = StoredLog(client, shelf, await shelf.log())
        await log.find_end()
        yield log
    finally:
        await client.aclose()


def _identity(change: objects.Change) -> UUID | None:
    try:
        return UUID(change.spec.log)
    except ValueError:
        return None
