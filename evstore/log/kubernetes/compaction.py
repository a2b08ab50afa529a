"""Compaction: the floor is raised, and then what lies below it is removed."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from evstore.clock import to_datetime
from evstore.errors import UnavailableError
from evstore.log.failures import UnreadableError

from . import base as bases, objects, rights
from .answers import LostError
from .leftovers import Leftovers, Search
from .shelf import together

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from datetime import datetime

    from evstore.log.shapes import Base

    from .client import Client
    from .feed import Feed
    from .shelf import Shelf
    from .snapshots import Snapshots

# What is younger stays: twice as long as a look at where the log ends counts for.
YOUNG_SECONDS: Final = 3600


def old_until(now: int) -> datetime:
    """Return until when an object was created that a compaction may remove."""
    return to_datetime(now) - timedelta(seconds=YOUNG_SECONDS)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a compaction would remove: up to `floor`, which is the end of an object."""

    floor: int
    objects: int
    bytes: int


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A floor whose base is stored, and the object of the log as it was before that.

    It counts only if that object is still as it was: else somebody may have taken the
    base for left over.
    """

    floor: objects.Floor
    before: objects.LogObject


class Compactor:
    """Compacts the log of one namespace; `clock` is the server's."""

    def __init__(
        self,
        client: Client,
        shelf: Shelf,
        feed: Feed,
        snapshots: Snapshots,
        clock: Callable[[], int],
    ) -> None:
        self._client = client
        self._shelf = shelf
        self._feed = feed
        self._snapshots = snapshots
        self._clock = clock

    async def check_rights(self) -> None:
        """Check that our account may compact.

        Raises:
            ConfigError: it has not got the rights of that role.
        """
        await rights.check_compactor(self._client)

    async def plan(self, wanted: int) -> Plan:
        """Return what could be removed of what lies at or below a position.

        Never an object younger than an hour, nor the last one.
        """
        floor = reached = self._feed.ledger.floor.position
        count = size = 0
        waiting: objects.Change | None = None
        async for change in self._changes():
            first = objects.position_of(change)
            # Where the next one begins is where one ends, in a log without gaps.
            if waiting is not None:
                if first - 1 > max(wanted, floor):
                    break
                count, size = count + 1, size + await self._size(waiting)
                reached = max(reached, first - 1)
            waiting = None
            if self._is_old(change):
                waiting = change
            elif first > floor:
                break
        return Plan(floor=reached, objects=count, bytes=size)

    async def _changes(self) -> AsyncGenerator[objects.Change]:
        async for page in self._shelf.changes():
            for change in page:
                if objects.position_of(change):
                    yield change

    async def _size(self, change: objects.Change) -> int:
        names = [part.name for part in change.spec.chunks]
        chunks = await self._shelf.chunks(objects.CHUNKS, names)
        return len(change.spec.payload) + sum(len(each or "") for each in chunks)

    def _is_old(self, change: objects.Change) -> bool:
        return change.metadata.is_older_than(self._limit())

    def _limit(self) -> datetime:
        return old_until(self._clock())

    async def store(self, base: Base) -> Candidate:
        """Store a base; it counts for nothing before the floor is raised to it."""
        before = await self._shelf.log()
        payloads = bases.pack(base)
        names = objects.piece_names(len(payloads))
        await self._shelf.store_chunks(objects.SNAPSHOT_CHUNKS, names, payloads)
        floor = objects.Floor(
            position=base.head.position,
            hash=base.head.hash.hex(),
            time=base.head.time,
            digest=objects.digest_of("".join(payloads)),
            pieces=names,
        )
        return Candidate(floor=floor, before=before)

    async def load(self, floor: objects.Floor) -> Base:
        """Read a base back.

        Raises:
            UnavailableError: it is not as it was stored.
        """
        pieces = await self._shelf.chunks(objects.SNAPSHOT_CHUNKS, floor.pieces)
        try:
            return bases.unpack("".join(each or "" for each in pieces), floor)
        except UnreadableError as error:
            message = "the cluster did not keep the state as it was stored"
            raise UnavailableError(message) from error

    async def raise_floor(self, candidate: Candidate) -> bool:
        """Record the floor; False where the object of the log is not as it was.

        From then on everything at or below it is void.
        """
        floor, before = candidate.floor, candidate.before
        spec = objects.LogSpec(identity=str(self._feed.copy.identity), floor=floor)
        if before.floor >= floor.position or not await self._put(before, spec):
            await self.discard(floor)
            return False
        if before.spec.floor is not None:
            await self.discard(before.spec.floor)
        await self._feed.learn_floor()
        return True

    async def _put(self, before: objects.LogObject, spec: objects.LogSpec) -> bool:
        while True:
            with suppress(LostError):
                if await self._shelf.put_log(before, spec):
                    return True
            found = await self._shelf.log()
            if found.spec == spec:
                return True  # an answer was lost
            if found.metadata.resource_version != before.metadata.resource_version:
                return False

    async def discard(self, floor: objects.Floor) -> None:
        """Remove the pieces of a base that counts no more."""
        await self._shelf.remove_all(objects.SNAPSHOT_CHUNKS, floor.pieces)

    async def sweep(self) -> int:
        """Remove what lies at or below the floor; return how many objects that were.

        Also what another compaction has left; an object younger than an hour stays for
        the next.
        """
        floor = (await self._shelf.log()).floor
        removed = 0
        async for page in self._shelf.changes():
            gone = [each for each in page if 0 < objects.position_of(each) <= floor]
            old = [each for each in gone if self._is_old(each)]

            async def remove(index: int, old: list[objects.Change] = old) -> None:
                await self._remove(old[index])

            await together(remove, len(old))
            removed += len(old)
            if len(gone) < len(page):
                break
        return removed

    async def _remove(self, change: objects.Change) -> None:
        """Remove a change, its chunks first: once it is gone, nobody knows of them."""
        for part in change.spec.chunks:
            await self._shelf.remove(objects.CHUNKS, part.name)
        await self._shelf.remove(objects.CHANGES, change.metadata.name)

    async def leftovers(self) -> Leftovers:
        """Return the pieces that nothing refers to, and that are an hour old."""
        return await self._search().find(to_remove=False)

    async def clear(self) -> Leftovers:
        """Remove the pieces that nothing refers to; return what they were."""
        search = self._search()
        found = await search.find(to_remove=True)
        await search.remove(found)
        return found

    def _search(self) -> Search:
        return Search(self._shelf, self._feed, self._snapshots, self._limit())
