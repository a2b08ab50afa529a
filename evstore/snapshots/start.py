"""A start: the newest snapshots that fit, then what follows in the log.

A snapshot is a cache and never a source. Whatever does not fit to the log and to this
program, or cannot be read, is passed over, and the log is read from further back.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from hashlib import sha256
from typing import TYPE_CHECKING

from evstore.errors import CompactedError, StoreError, UnavailableError
from evstore.folds.custom import CustomProjections
from evstore.folds.projections import Projections
from evstore.log import label_of
from evstore.model import Event
from evstore.schemas import AS_STORED

from .content import ContentError, folds_of
from .floor import begin_at_floor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from evstore.folds.projection import Definition
    from evstore.log import Log, Snapshot
    from evstore.model import Head, StoredEvent
    from evstore.schemas import Schemas

    from .content import Fold, Reading

logger = logging.getLogger(__name__)


def places_of(projections: Projections) -> set[Head]:
    """Return the places up to which folds have taken events in, but for the first one."""
    found = {fold.head for fold in folds_of(projections)}
    return {place for place in found if place.position}


class Origin:
    """Where the state of a log begins: makes projections and brings them to the head.

    `fresh` makes projections that have folded nothing; `log` hands out bodies in the
    shape that `schemas` declare. With `drops` a snapshot that does not fit is dropped,
    without it is only passed over.
    """

    def __init__(
        self,
        log: Log,
        fresh: Callable[[], Projections],
        schemas: Schemas = AS_STORED,
        *,
        drops: bool = True,
    ) -> None:
        self.log = log
        self._drops = drops
        self._schemas = schemas
        self.fresh = fresh

    @property
    def fingerprint(self) -> str:
        """What tells the upcasters from others."""
        return self._schemas.fingerprint

    def label(self, fold: Fold) -> str:
        """Return what the snapshots are labelled with that `fold` can begin from."""
        return label_of(fold.name, fold.version, self.fingerprint)

    async def state(self) -> Projections:
        """Return projections that have folded the log up to its head.

        Raises:
            UnavailableError: the log cannot be read.
            SchemaError: an event is in a shape that this program does not know.
            CompactedError: a projection of one's own has no snapshot above the floor.
        """
        while True:
            floor = self.log.floor
            try:
                return await self._replayed()
            except CompactedError:
                # What we were about to read was removed meanwhile; or it never will be.
                if self.log.floor == floor:
                    raise

    async def _replayed(self) -> Projections:
        projections = await self.begun()
        places = places_of(projections)
        await self._replay(projections)
        if not await self.has(places):
            # What follows is of another end than the snapshots are.
            logger.warning("the log lost its end during the start: reads all of it")
            projections = await self.beginning()
            await self._replay(projections)
        projections.custom.confirm()
        return projections

    async def _replay(self, projections: Projections) -> None:
        head = await self.log.head()
        events = self.log.replay(after=projections.behind, until=head.position)
        async with aclosing(events) as chunks:
            async for chunk in chunks:
                projections.apply(chunk)

    async def has(self, places: Iterable[Head]) -> bool:
        """Whether the log still has these places."""
        for place in places:
            if await self.log.place(place.position) != place:
                return False
        return True

    async def begun(self) -> Projections:
        """Return projections, each at the place of the newest snapshot that fits.

        Where a log was compacted, none stands below its floor.

        Raises:
            UnavailableError: the log cannot be read.
            SchemaError: this program cannot read all of the state at the floor.
            CompactedError: a projection of one's own has no snapshot above the floor.
        """
        projections = await self._thawed_all()
        await self._lift(projections)
        return projections

    async def beginning(self) -> Projections:
        """Return projections that have folded nothing that the log still has.

        They stand before the first event, or at the floor of a log that was compacted.

        Raises:
            UnavailableError: the log cannot be read.
            SchemaError: this program cannot read all of the state at the floor.
            CompactedError: a projection of one's own cannot begin there.
        """
        projections = self.fresh()
        await self._lift(projections)
        return projections

    async def _lift(self, projections: Projections) -> None:
        if self.log.floor != self.log.genesis:
            await begin_at_floor(self.log, projections)

    async def _thawed_all(self) -> Projections:
        projections = self.fresh()
        try:
            found = await self.log.snapshots()
        except UnavailableError:
            raise
        except StoreError as error:
            logger.warning("starts without snapshots: %s", error)
            return projections
        for fold in folds_of(projections):
            label = self.label(fold)
            for snapshot in found:
                if snapshot.stamp.head.position < self.log.floor.position:
                    break  # nothing leads on from there
                if snapshot.stamp.label == label and await self._thawed(fold, snapshot):
                    break
        if not self._schemas.can_read(projections.resources.newest_schemas):
            # Another program has taken it, who reads more: the log says what is wrong.
            return self.fresh()
        return projections

    async def _thawed(self, fold: Fold, snapshot: Snapshot) -> bool:
        """Begin from a snapshot, or drop it; return whether the fold has begun."""
        try:
            await self._thaw(fold, snapshot)
        except ContentError as error:
            logger.warning(
                "%s the snapshot of %s at %s, and reads the log from further back: %s",
                "drops" if self._drops else "passes over",
                fold.name,
                snapshot.stamp.head.position,
                error,
            )
            if self._drops:
                await self._drop(snapshot)
            return False
        return True

    async def _thaw(self, fold: Fold, snapshot: Snapshot) -> None:
        stamp = snapshot.stamp
        if stamp.log != self.log.identity:
            message = f"it is of the log {stamp.log}"
            raise ContentError(message)
        if await self.log.place(stamp.head.position) != stamp.head:
            message = "the log has no event with its hash there"
            raise ContentError(message)
        reading = fold.reading()
        await read(self.log, snapshot, reading)
        reading.thaw(stamp.head, stamp.digest)

    async def _drop(self, snapshot: Snapshot) -> None:
        try:
            await self.log.drop_snapshots([snapshot.id])
        except StoreError as error:
            logger.warning("could not drop the snapshot: %s", error)


def origin_of(
    log: Log,
    schemas: Schemas,
    projections: Sequence[Definition] = (),
    *,
    drops: bool = True,
) -> Origin:
    """Return the origin for a program: with its types and projections of its own."""
    types = schemas.structs

    def wrap(stored: StoredEvent) -> Event:
        return Event(stored, log.identity, types.get(stored.key.split("/")[0]))

    def fresh() -> Projections:
        custom = CustomProjections(projections, wrap, log.genesis)
        return Projections(log.genesis, custom)

    return Origin(log, fresh, schemas, drops=drops)


async def refold(log: Log, projections: Projections) -> None:
    """Fold again what has no state, as a redaction was announced and is not done.

    Raises:
        CompactedError: the first events were removed.
        UnavailableError: the log cannot be read.
    """
    while projections.custom.tainted:
        fresh = projections.custom.again(log.genesis)
        events = log.replay(after=0, until=projections.position)
        async with aclosing(events) as chunks:
            async for chunk in chunks:
                fresh.apply(chunk)
        accepted = projections.custom.accept(fresh, projections.head)
        assert accepted, "the log has been folded up to this place before"


async def read(log: Log, snapshot: Snapshot, reading: Reading) -> None:
    """Read all chunks of a snapshot.

    Raises:
        ContentError: they are not those that were stored.
        UnavailableError: the log cannot be read.
    """
    checksum = sha256()
    count = 0
    async with aclosing(log.load_snapshot(snapshot)) as chunks:
        async for chunk in chunks:
            checksum.update(chunk)
            count += 1
            reading.add(chunk)
    if (count, checksum.digest()) != (snapshot.chunks, snapshot.checksum):
        message = f"its {snapshot.chunks} chunks are not those that were stored"
        raise ContentError(message)
