"""How the projections of a program stand: what is stored, and what a start comes to."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from evstore.clock import to_datetime
from evstore.snapshots.content import folds_of

from .folding import bring, custom_of, digest_of, stopped_of
from .programs import Program

if TYPE_CHECKING:
    from uuid import UUID

    from evstore.app import App
    from evstore.config import Config
    from evstore.folds.projections import Projections
    from evstore.folds.stopped import Stopped
    from evstore.log import Instance, Log
    from evstore.snapshots.content import Fold

    from .folding import Advance

RUNNING: Final = timedelta(minutes=1)


class ProjectionStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How one projection stands.

    `stored` is the position of the newest snapshot that a start would begin from, or of
    the floor of a log that was compacted, None where there is none, and `behind` how many events it would replay. `position` is what
    it has folded up to, and `digest` that of the state there; a projection of one's own
    that has `stopped` has no state. `instances` are those that have this `label`.
    """

    name: str
    version: int
    label: str
    stored: int | None
    behind: int
    position: int
    digest: bytes | None
    stopped: Stopped | None
    instances: tuple[UUID, ...]


class ProjectionsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How all projections of a program stand, at the position `head` of the log.

    `instances` are those that were seen in the last minute by the log's clock, the last
    seen first.
    """

    head: int
    projections: list[ProjectionStanding]
    instances: list[Instance]


async def projections_status(
    config: Config, app: App | None = None, *, advance: Advance | None = None
) -> ProjectionsStatus:
    """Fold the projections from their newest snapshots to the head, and say what is.

    Nothing is written. Without an app there is the built-in projection alone. `advance`
    is told how many events have been folded, and of how many.

    Raises:
        InvalidError: a type, an upcaster or a projection cannot be used.
        SchemaError: the database is not at the version that this program needs, or an
            event is in a shape that it does not know.
        CompactedError: a projection of the app has no snapshot above the log's floor.
        UnavailableError: the log cannot be read.
    """
    async with Program(app).origin(config, drops=False) as origin:
        log = origin.log
        running = await running_instances(log)
        projections = await origin.begun()
        stored = {fold.name: fold.head.position for fold in folds_of(projections)}
        begin = projections.behind
        head = (await log.head()).position

        def told(position: int) -> None:
            if advance is not None:
                advance(position - begin, head - begin)

        await bring(log, projections, until=head, advance=told)
        standings: list[ProjectionStanding] = []
        for fold in folds_of(projections):
            label = origin.label(fold)
            digest = digest_of(fold)  # first: it may stop the projection
            stopped = stopped_of(projections, fold)
            standings.append(
                ProjectionStanding(
                    name=fold.name,
                    version=fold.version,
                    label=label,
                    stored=stored[fold.name] or None,
                    behind=head - stored[fold.name],
                    position=_folded(projections, fold),
                    digest=digest,
                    stopped=stopped,
                    instances=tuple(
                        each.id for each in running if label in each.projections
                    ),
                )
            )
        return ProjectionsStatus(head=head, projections=standings, instances=running)


def _folded(projections: Projections, fold: Fold) -> int:
    """Return the position up to which a fold has a state, or had one."""
    if fold.stopped:
        return custom_of(projections, fold.name).head.position
    return fold.head.position


async def running_instances(log: Log) -> list[Instance]:
    """Return the instances that were seen in the last minute, by the log's clock."""
    since = to_datetime(log.clock()) - RUNNING
    return [
        each
        for each in await log.instances()
        if each.seen_at is not None and each.seen_at >= since
    ]
