"""Rebuilding: projections get snapshots before a start has to wait for them."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio
import msgspec

from evstore.errors import UnavailableError
from evstore.log import label_of

from .content import folds_of
from .start import places_of, refold
from .taking import take

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from evstore.folds.projections import Projections
    from evstore.folds.stopped import Stopped
    from evstore.log import Stamp
    from evstore.model import Head

    from .content import Fold
    from .start import Origin

# What is folded by then need not be folded again after a kill or a crash.
STEP_EVENTS: Final = 200_000
TRIES: Final = 30
PAUSE_SECONDS: Final = 0.5


class Code(NamedTuple):
    """A projection as a program folds it; who shares `label` can share snapshots."""

    name: str
    version: int
    fingerprint: str

    @property
    def label(self) -> str:
        """What its snapshots are labelled with (`Stamp.label`)."""
        return label_of(self.name, self.version, self.fingerprint)


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A projection that other code has folded up to now, or that is far behind.

    `stored` is the position of the newest that fits, None where none does; `others`
    are the labels of those that other code has folded; `events` are to be replayed.
    """

    name: str
    version: int
    label: str
    stored: int | None
    others: tuple[str, ...]
    events: int


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a projection that was due.

    `position` is the last one of which a snapshot is stored, 0 where none is; `stopped`
    says where and why its fold has raised, None where it has not.
    """

    name: str
    version: int
    label: str
    position: int
    stopped: Stopped | None = None


def due_of(
    codes: Iterable[Code],
    stamps: Sequence[Stamp],
    *,
    head: int,
    events: int,
    floor: int = 0,
) -> list[Due]:
    """Return the projections that are to be rebuilt, by the stamps of one log.

    Those that only other code has stored, and those that a start would have to replay
    more than `events` for. From a snapshot below the `floor` of the log none can begin.
    """
    found: list[Due] = []
    for code in codes:
        places = [
            stamp.head.position
            for stamp in stamps
            if stamp.label == code.label and floor <= stamp.head.position <= head
        ]
        others = {
            stamp.label
            for stamp in stamps
            if stamp.projection == code.name and stamp.label != code.label
        }
        missing = head - max(places, default=floor)
        if missing > events or (missing and others and not places):
            found.append(
                Due(
                    name=code.name,
                    version=code.version,
                    label=code.label,
                    stored=max(places, default=None),
                    others=tuple(sorted(others)),
                    events=missing,
                )
            )
    return found


async def due(origin: Origin, *, events: int) -> list[Due]:
    """Return the projections that are to be rebuilt.

    As `due_of` does, by what snapshots say of themselves; none is read.

    Raises:
        UnavailableError: the log cannot be read.
    """
    log = origin.log
    head = await log.head()
    stamps = [
        each.stamp for each in await log.snapshots() if each.stamp.log == log.identity
    ]
    codes = [
        Code(fold.name, fold.version, origin.fingerprint)
        for fold in folds_of(origin.fresh())
    ]
    floor = log.floor.position
    return due_of(codes, stamps, head=head.position, events=events, floor=floor)


class Rebuilding:
    """One pass over the log for all that is due, with snapshots on the way.

    What a run before this one has stored is gone on from. Nothing but snapshots is
    written, so it may end anywhere, and instances may run meanwhile. Where `enough` is
    set, it ends at the next end of a transaction, with what is folded by then stored.
    `position` is the place that it has got to, `head` the one that it goes to.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        code_version: str,
        advance: Callable[[int, int], None] | None = None,
        enough: anyio.Event | None = None,
    ) -> None:
        """`advance` is told how many events have been replayed, and of how many."""
        self._log = origin.log
        self._origin = origin
        self._code_version = code_version
        self._advance = advance
        self._enough = enough
        self._stored: dict[str, int] = {}
        self._begun: set[Head] = set()
        self.position = 0
        self.head = 0

    @property
    def complete(self) -> bool:
        """Whether it has got to where the head was."""
        return self.position >= self.head

    async def run(self, names: Collection[str]) -> list[Rebuilt]:
        """Rebuild the projections of these names.

        Raises:
            UnavailableError: the log cannot be read, or snapshots cannot be kept.
            SchemaError: an event is in a shape that this program does not know.
        """
        if not names:
            return []
        projections = await self._origin.begun()
        self._begun = places_of(projections)
        folds = [fold for fold in folds_of(projections) if fold.name in names]
        # What runs beside them stands at the place of a snapshot, or is not needed.
        self._stored = {fold.name: fold.head.position for fold in folds}
        self.head = (await self._log.head()).position
        await self._replay(projections, folds)
        await refold(self._log, projections)
        if self.complete:
            projections.custom.confirm()
        for fold in folds:
            await self._finish(projections, fold)
        stopped = {each.name: each.stopped for each in projections.custom}
        return [
            Rebuilt(
                name=fold.name,
                version=fold.version,
                label=self._origin.label(fold),
                position=self._stored[fold.name],
                stopped=stopped.get(fold.name),
            )
            for fold in folds
        ]

    async def _replay(self, projections: Projections, folds: Sequence[Fold]) -> None:
        begin = stored = self.position = projections.behind
        self._tell(begin)
        replay = self._log.replay(after=begin, until=self.head)
        async with aclosing(replay) as chunks:
            async for chunk in chunks:
                projections.apply(chunk)
                last = chunk[-1]
                self.position = last.position
                self._tell(begin)
                if last.commit != last.position:
                    continue
                if self._enough is not None and self._enough.is_set():
                    return
                if last.position - stored >= STEP_EVENTS:
                    stored = last.position
                    for fold in folds:
                        await self._take(fold)

    def _tell(self, begin: int) -> None:
        if self._advance is not None:
            self._advance(self.position - begin, self.head - begin)

    async def _take(self, fold: Fold) -> bool:
        if fold.head.position <= self._stored[fold.name]:
            return True
        if not await self._origin.has(self._begun):
            message = "the log lost its end meanwhile; run it again"
            raise UnavailableError(message)
        taken = await take(
            self._log,
            fold,
            fingerprint=self._origin.fingerprint,
            code_version=self._code_version,
        )
        if taken is not None:
            self._stored[fold.name] = taken.stamp.head.position
        return taken is not None

    async def _finish(self, projections: Projections, fold: Fold) -> None:
        """Keep the last one; where another is being saved, wait and read on."""
        for number in range(TRIES):
            if await self._take(fold) or fold.stopped:
                return
            if number + 1 < TRIES:
                await anyio.sleep(PAUSE_SECONDS)
                if self.complete:
                    while events := await self._log.read_on(projections.head):
                        projections.apply(events)
        message = f"no snapshot of {fold.name} could be kept; run it again"
        raise UnavailableError(message)
