"""Folding on to where somebody wants to look, as the log has it."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from evstore.snapshots.start import refold

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore.folds.custom import Custom
    from evstore.folds.projections import Projections
    from evstore.folds.stopped import Stopped
    from evstore.log import Log
    from evstore.model import StoredEvent
    from evstore.snapshots.content import Fold

    # Is told how many events have been folded, and of how many.
    Advance = Callable[[int, int], None]


async def bring(
    log: Log,
    projections: Projections,
    *,
    until: int,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Fold on up to a position, the end of a transaction; `advance` is told where it is.

    Raises:
        SchemaError: an event is in a shape that this program does not know.
        UnavailableError: the log cannot be read.
    """
    replay = log.replay(after=projections.behind, until=until)
    async with aclosing(replay) as chunks:
        async for chunk in chunks:
            projections.apply(chunk)
            advance(chunk[-1].position)
    await refold(log, projections)


def following(projections: Projections, events: list[StoredEvent]) -> list[StoredEvent]:
    """Return those of some events that a fold has not had yet."""
    return events[max(0, projections.behind + 1 - events[0].position) :]


def custom_of(projections: Projections, name: str) -> Custom:
    """Return the projection of one's own that has a name; there is one."""
    return next(each for each in projections.custom if each.name == name)


def stopped_of(projections: Projections, fold: Fold) -> Stopped | None:
    """Return where and why a fold has stopped; the built-in one never does."""
    return custom_of(projections, fold.name).stopped if fold.stopped else None


def digest_of(fold: Fold) -> bytes | None:
    """Return the digest of a fold's state; None where it has none.

    A state that is not of its declared type is found here; it stops its projection.
    """
    frozen = fold.freeze()
    return None if frozen is None or fold.stopped else frozen.digest
