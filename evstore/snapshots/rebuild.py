"""Rebuilding: projections get snapshots before a start has to wait for them."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from evstore.errors import UnavailableError

from .content import folds_of
from .taking import take

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore.folds.projections import Projections

    from .content import Fold
    from .start import Origin

# What is folded by then need not be folded again after Ctrl-C or a crash.
STEP_EVENTS: Final = 200_000
TRIES: Final = 30
PAUSE_SECONDS: Final = 0.5


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


async def due(origin: Origin, *, events: int) -> list[Due]:
    """Return the projections that are to be rebuilt.

    Those that only other code has stored, and those that a start would have to replay
    more than `events` for. By what snapshots say of themselves; none is read.

    Raises:
        UnavailableError: the log cannot be read.
    """
    log = origin.log
    head = await log.head()
    stored = [
        each.stamp for each in await log.snapshots() if each.stamp.log == log.identity
    ]
    found: list[Due] = []
    for fold in folds_of(origin.fresh()):
        label = origin.label(fold)
        places = [
            stamp.head.position
            for stamp in stored
            if stamp.label == label and stamp.head.position <= head.position
        ]
        others = {
            stamp.label
            for stamp in stored
            if stamp.projection == fold.name and stamp.label != label
        }
        missing = head.position - max(places, default=log.floor.position)
        if missing > events or (others and not places):
            found.append(
                Due(
                    name=fold.name,
                    version=fold.version,
                    label=label,
                    stored=max(places, default=None),
                    others=tuple(sorted(others)),
                    events=missing,
                )
            )
    return found


class Rebuilding:
    """One pass over the log for all that is due, with snapshots on the way.

    What a run before this one has stored is gone on from. Nothing but snapshots is
    written, so it may end anywhere, and instances may run meanwhile.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        code_version: str,
        advance: Callable[[int, int], None] | None = None,
    ) -> None:
        """`advance` is told how many events have been replayed, and of how many."""
        self._log = origin.log
        self._origin = origin
        self._code_version = code_version
        self._advance = advance

    async def run(self, *, events: int) -> list[str]:
        """Rebuild what is due; return the names, of stopped projections as well.

        Raises:
            UnavailableError: the log cannot be read, or snapshots cannot be kept.
        """
        names = {each.name for each in await due(self._origin, events=events)}
        if not names:
            return []
        projections = await self._origin.begun()
        folds = [fold for fold in folds_of(projections) if fold.name in names]
        head = await self._log.head()
        begin = projections.behind
        stored = begin
        replay = self._log.replay(after=begin, until=head.position)
        async with aclosing(replay) as chunks:
            async for chunk in chunks:
                projections.apply(chunk)
                last = chunk[-1]
                if self._advance is not None:
                    self._advance(last.position - begin, head.position - begin)
                if last.commit == last.position and (
                    last.position - stored >= STEP_EVENTS
                ):
                    stored = last.position
                    for fold in folds:
                        await self._take(fold)
        for fold in folds:
            await self._finish(projections, fold)
        return [fold.name for fold in folds]

    async def _take(self, fold: Fold) -> bool:
        taken = await take(
            self._log,
            fold,
            fingerprint=self._origin.fingerprint,
            code_version=self._code_version,
        )
        return taken is not None

    async def _finish(self, projections: Projections, fold: Fold) -> None:
        """Keep the last one; where another is being saved, wait and read on."""
        for number in range(TRIES):
            if fold.stopped or await self._take(fold):
                return
            if number + 1 < TRIES:
                await anyio.sleep(PAUSE_SECONDS)
                while events := await self._log.read_on(projections.head):
                    projections.apply(events)
        message = f"no snapshot of {fold.name} could be kept; run it again"
        raise UnavailableError(message)
