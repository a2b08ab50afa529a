"""What is left over: pieces in the cluster that nothing refers to, nor ever can.

Whatever is large is stored in pieces first, and then by an object that names them. Who
was cut off in between, or lost a race, leaves pieces behind. That they are not named
today does not say that they never will be: who stored them may only be slow, even
asleep. So each sort of piece has a rule of its own, and all must be an hour old.

- A chunk says by its name where in the log its change begins. Where the log goes beyond
  that, the name of that change is taken, or void. It may also be of a redaction: then
  nothing goes before what was announced is done, which changes the object that a late
  one would have to find unchanged.
- A piece of a certified state is stored after a look at the object of the log, and named
  only if that is still as it was. It is changed before any piece is removed.
- A piece of a snapshot is named within half an hour, or the snapshot is given up; one
  that appeared nevertheless does not fit its checksum, and is used by nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from evstore.log.failures import UnreadableError
from evstore.model import Operation
from evstore.redaction import announcement_of

from . import objects
from .shelf import together

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from evstore.model import StoredEvent
    from evstore.redaction import Announcement

    from .feed import Feed
    from .shelf import Shelf
    from .snapshots import Snapshots


class Leftovers(msgspec.Struct, frozen=True, kw_only=True):
    """Pieces that nothing refers to: of changes, and of snapshots and certified states.

    `bytes` is what they hold.
    """

    chunks: list[str]
    pieces: list[str]
    bytes: int

    @property
    def objects(self) -> int:
        """How many there are."""
        return len(self.chunks) + len(self.pieces)


class Search:
    """Looks for what is left over in the log that a feed follows, from before `limit`."""

    def __init__(
        self, shelf: Shelf, feed: Feed, snapshots: Snapshots, limit: datetime
    ) -> None:
        self._shelf = shelf
        self._feed = feed
        self._snapshots = snapshots
        self._limit = limit

    async def find(self, *, to_remove: bool) -> Leftovers:
        """Return what is left over; `to_remove` changes the object of the log before.

        What is referred to is read after what is there, never the other way round.
        """
        chunks = await self._shelf.old(objects.CHUNKS, self._limit)
        pieces = await self._shelf.old(objects.SNAPSHOT_CHUNKS, self._limit)
        if chunks:
            chunks = await self._without_change(chunks)
        if pieces:
            if to_remove:
                await self._shelf.mark_log()
            pieces = await self._unnamed(pieces)
        size = await self._size(objects.CHUNKS, chunks)
        size += await self._size(objects.SNAPSHOT_CHUNKS, pieces)
        return Leftovers(chunks=chunks, pieces=pieces, bytes=size)

    async def _without_change(self, chunks: Iterable[str]) -> list[str]:
        """Return the chunks that no change names, and none can name any more."""
        await self._feed.refresh()
        head = self._feed.head.position
        firsts = {name: objects.first_of_chunk(name) for name in chunks}
        passed = {name: first for name, first in firsts.items() if 0 < first <= head}
        if not passed:
            return []
        # The changes are read after the head: one that came before it is among them.
        async for page in self._shelf.changes():
            for change in page:
                for part in change.spec.chunks:
                    passed.pop(part.name, None)
        unsettled = await self._unsettled(set(passed.values()))
        return [name for name, first in passed.items() if first not in unsettled]

    async def _unsettled(self, firsts: set[int]) -> set[int]:
        """Return where changes begin of which a redaction was announced and is not done."""
        last: dict[int, Announcement] = {}
        for event in self._feed.ledger.since(self._feed.ledger.floor.position):
            if event.operation is Operation.REDACTED:
                announced = _announced(event)
                if announced is not None:
                    last[announced.position] = announced
        unsettled: set[int] = set()
        for position, announced in last.items():
            first = self._feed.copy.first_of(position)
            if first in firsts and not await self._is_done(position, announced):
                unsettled.add(first)
        return unsettled

    async def _is_done(self, position: int, announced: Announcement) -> bool:
        """Whether a redaction is done in the cluster, whatever our copy has."""
        change = await self._feed.change_with(position)
        if change is None:
            return False
        try:
            events = await self._shelf.events(change)
        except UnreadableError:
            return False
        return announced.allows(events[position - events[0].position])

    async def _unnamed(self, pieces: Iterable[str]) -> list[str]:
        """Return the pieces that neither the floor nor any snapshot names."""
        floor = (await self._shelf.log()).spec.floor
        named = set(floor.pieces) if floor else set[str]()
        named |= await self._snapshots.pieces()
        return [name for name in pieces if name not in named]

    async def _size(self, plural: str, names: list[str]) -> int:
        size = 0

        async def add(index: int) -> None:
            nonlocal size
            (payload,) = await self._shelf.chunks(plural, names[index : index + 1])
            size += len(payload or "")

        await together(add, len(names))
        return size

    async def remove(self, found: Leftovers) -> None:
        """Remove what was found with `to_remove`."""
        for plural, names in (
            (objects.CHUNKS, found.chunks),
            (objects.SNAPSHOT_CHUNKS, found.pieces),
        ):
            await self._shelf.remove_all(plural, names)


def _announced(event: StoredEvent) -> Announcement | None:
    try:
        return announcement_of(event)
    except msgspec.DecodeError:
        return None  # it was not made by us, and nobody redacts by it
