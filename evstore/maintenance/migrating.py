"""Migrations: what is applied, what would be done, and doing it.

Of the tables, and of the projections: what other code has folded up to now is folded
again, before a start has to wait for that.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import msgspec

from evstore.config import StoreType
from evstore.instances.instance import CODE_VERSION
from evstore.log import label_of
from evstore.snapshots.rebuild import Rebuilding

from . import cluster
from .database import database_of
from .programs import Program, Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from uuid import UUID

    import anyio

    from evstore.app import App
    from evstore.config import Config
    from evstore.log import Instance, Snapshot
    from evstore.log.kubernetes.migrations import Kind
    from evstore.log.postgres.migrating import Found, LeftBehind
    from evstore.log.postgres.migrations import Applied, Migration
    from evstore.snapshots.rebuild import Due, Rebuilt
    from evstore.snapshots.start import Origin


class MigrationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `migrate_up` did: the migrations it applied, and the version now.

    `applied` are migrations of a database, or the kinds that a cluster was given.
    `rebuilt` are the projections that were due, those that have stopped among them.
    `left_out` are labels that running instances or snapshots have, and that only their
    own program could rebuild, where no app was given. `position` is how far the log was
    folded, `head` how far it was to be: less where it was to end before.

    `applied` are migrations of a database, or the kinds that a cluster was given.
    """

    applied: Sequence[Migration | Kind]
    version: int
    rebuilt: list[Rebuilt] = []
    left_out: tuple[str, ...] = ()
    position: int = 0
    head: int = 0

    @property
    def complete(self) -> bool:
        """Whether all that was due was folded, up to the head or to where it stopped."""
        return self.position >= self.head


class StoredProjection(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored and run under one label: a projection as certain code folds it.

    `own` says whether it is this program's, by the app that was given. `position` is
    that of the newest snapshot, None where there is none; a start of such a program
    replays `behind` events. `size` is of all `snapshots`, in bytes. `instances` are the
    running ones that fold it.
    """

    name: str
    version: int
    fingerprint: str
    own: bool
    snapshots: int
    size: int
    position: int | None
    behind: int
    taken_at: datetime | None
    instances: tuple[UUID, ...]

    @property
    def label(self) -> str:
        """The projection with its version and fingerprint."""
        return label_of(self.name, self.version, self.fingerprint)


class MigrationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What has been applied to a database, what is to be, and which instances run.

    `instances` are those seen in the last minute, by the server's clock, the last seen
    first; `head` is the last position of the log. `projections` are those that are
    stored, run, or of the app; `due` those that `migrate_up` would rebuild. A cluster
    has no migrations, and `kinds` instead, of version 0 where one is missing.
    """

    applied: list[Applied]
    pending: list[Migration]
    head: int
    instances: list[Instance]
    projections: list[StoredProjection] = []
    due: list[Due] = []
    kinds: list[Kind] = []


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A migration that is to be applied, and the running instances that it hurts."""

    migration: Migration
    left_behind: list[LeftBehind]


class PlannedRebuild(msgspec.Struct, frozen=True, kw_only=True):
    """A projection that is to be rebuilt, and the running instances of other code.

    Those go on with their own snapshots.
    """

    due: Due
    elsewhere: tuple[UUID, ...]


class MigrationPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What `migrate_up` would do now: `steps`, in order, then `rebuilds`.

    Into a cluster it would install `kinds`, instead of steps; they are as they are now.
    `version` is what the database is at, 0 where it is empty; `head` and `instances`
    are those of `MigrationStatus`, `left_out` is that of `MigrationReport`.
    """

    version: int
    head: int
    steps: list[PlannedStep]
    instances: list[Instance]
    rebuilds: list[PlannedRebuild] = []
    kinds: list[Kind] = []
    left_out: tuple[str, ...] = ()


async def migrate_up(
    config: Config,
    *,
    force: bool = False,
    app: App | None = None,
    advance: Callable[[int, int], None] | None = None,
    enough: anyio.Event | None = None,
) -> MigrationReport:
    """Apply what is new, each migration in a transaction of its own; then rebuild.

    A migration that would leave a running instance behind is refused, unless by `force`;
    those before it are applied. Instances are looked at in the transaction of the
    migration; one that starts in the same moment is not seen.

    Into a cluster the kinds are installed that this program needs; that hurts nobody.

    Rebuilt are the projections of `app`, and the built-in one, that only other code has
    stored, or that a start would have to replay as many events for as lie between two
    snapshots (`everyEvents`, else 10,000). Nothing but their snapshots is written; those
    of other code stay. `advance` is told how many events have been folded, and of how
    many. Once `enough` is set it ends early, with what is folded by then stored; the
    next run goes on from there, as after a kill from what was stored on the way. Where a
    cluster has no log yet, or none that we may look at, nothing is rebuilt.

    Raises:
        InvalidError: what the app declares cannot be used; nothing was done.
        ConfigError: the store type has nothing to migrate, or we may not.
        SchemaError: the database is dirty or newer, an applied file has changed,
            running instances would be left behind, or an event is in a shape that the
            app does not know.
        CompactedError: the log was compacted, and a projection of the app's own cannot
            be folded without what was removed.
        UnavailableError: the database cannot be reached, or no snapshot be kept.
    """
    program = Program(app)
    if config.type is StoreType.KUBERNETES:
        report = MigrationReport(
            applied=await cluster.install(config), version=cluster.schema_version()
        )
        if not await cluster.has_log(config):
            return report
        async with program.origin(config) as origin:
            standing = await cluster.standing_of(origin.log)
            due, left_out = program.due(config, standing)
            report = msgspec.structs.replace(report, left_out=left_out)
            return await _rebuilt(origin, report, due, advance, enough)
    from evstore.log.postgres import migrating  # noqa: PLC0415 - psycopg loads slowly

    database = database_of(config)
    done = [each async for each in migrating.migrate(database, force=force)]
    found = await migrating.look(database)
    due, left_out = program.due(config, _standing(found))
    report = MigrationReport(
        applied=done, version=len(found.applied), left_out=left_out
    )
    if not due:
        return report
    async with program.origin(config) as origin:
        return await _rebuilt(origin, report, due, advance, enough)


async def _rebuilt(
    origin: Origin,
    report: MigrationReport,
    due: Sequence[Due],
    advance: Callable[[int, int], None] | None,
    enough: anyio.Event | None,
) -> MigrationReport:
    rebuilding = Rebuilding(
        origin, code_version=CODE_VERSION, advance=advance, enough=enough
    )
    rebuilt = await rebuilding.run([each.name for each in due])
    return msgspec.structs.replace(
        report, rebuilt=rebuilt, position=rebuilding.position, head=rebuilding.head
    )


async def migration_plan(config: Config, *, app: App | None = None) -> MigrationPlan:
    """Return what `migrate_up` would do now; change nothing and wait for nobody.

    Raises:
        InvalidError: what the app declares cannot be used.
        ConfigError: the store type has nothing to migrate, or we may not look.
        SchemaError: the database is dirty or newer, or an applied file has changed.
        UnavailableError: the database cannot be reached.
    """
    program = Program(app)
    if config.type is StoreType.KUBERNETES:
        pending = await cluster.pending_kinds(config)
        standing = _NO_LOG if pending else await _of_cluster(config, program)
        version = min(
            (each.version for each in pending), default=cluster.schema_version()
        )
        return _planned(config, program, standing, version=version, kinds=pending)
    from evstore.log.postgres import (  # noqa: PLC0415 - psycopg loads slowly
        migrating,
        migrations,
    )

    found = await migrating.look(database_of(config))
    migrations.check_history(found.applied)
    new = migrations.available()[len(found.applied) :]
    behind = migrating.left_behind(found.running, found.applied, new)
    steps = [
        PlannedStep(migration=migration, left_behind=left)
        for migration, left in zip(new, behind, strict=True)
    ]
    return _planned(
        config, program, _standing(found), version=len(found.applied), steps=steps
    )


def _planned(
    config: Config,
    program: Program,
    standing: Standing,
    *,
    version: int,
    steps: Sequence[PlannedStep] = (),
    kinds: Sequence[Kind] = (),
) -> MigrationPlan:
    due, left_out = program.due(config, standing)
    return MigrationPlan(
        version=version,
        head=standing.head,
        steps=list(steps),
        kinds=list(kinds),
        instances=list(standing.running),
        rebuilds=[
            PlannedRebuild(due=each, elsewhere=_elsewhere(each, standing.running))
            for each in due
        ],
        left_out=left_out,
    )


async def migration_status(
    config: Config, *, app: App | None = None
) -> MigrationStatus:
    """Return what has been applied to the database, what is to be, and who runs.

    Raises:
        InvalidError: what the app declares cannot be used.
        ConfigError: the store type has nothing to migrate, or we may not look.
        UnavailableError: the database cannot be reached.
    """
    program = Program(app)
    if config.type is StoreType.KUBERNETES:
        kinds = await cluster.kinds(config)
        usable = all(each.version == cluster.schema_version() for each in kinds)
        standing = await _of_cluster(config, program) if usable else _NO_LOG
        return _status(config, program, standing, kinds=kinds)
    from evstore.log.postgres import (  # noqa: PLC0415 - psycopg loads slowly
        migrating,
        migrations,
    )

    found = await migrating.look(database_of(config))
    return _status(
        config,
        program,
        _standing(found),
        applied=found.applied,
        pending=migrations.available()[len(found.applied) :],
    )


def _status(
    config: Config,
    program: Program,
    standing: Standing,
    *,
    applied: Sequence[Applied] = (),
    pending: Sequence[Migration] = (),
    kinds: Sequence[Kind] = (),
) -> MigrationStatus:
    due, _ = program.due(config, standing)
    return MigrationStatus(
        applied=list(applied),
        pending=list(pending),
        kinds=list(kinds),
        head=standing.head,
        instances=list(standing.running),
        projections=_stored(program, standing),
        due=due,
    )


_NO_LOG: Final = Standing(head=0, running=(), snapshots=())


def _standing(found: Found) -> Standing:
    return Standing(found.head, found.running, found.snapshots)


async def _of_cluster(config: Config, program: Program) -> Standing:
    if not await cluster.has_log(config):
        return _NO_LOG
    async with program.origin(config, drops=False) as origin:
        return await cluster.standing_of(origin.log)


def _elsewhere(due: Due, running: Sequence[Instance]) -> tuple[UUID, ...]:
    """Return the instances that fold a projection of this name by other code."""
    return tuple(
        each.id
        for each in running
        if any(
            label.startswith(f"{due.name}:") and label != due.label
            for label in each.projections
        )
    )


def _stored(program: Program, found: Standing) -> list[StoredProjection]:
    """Return what is stored and run under each label, this program's first."""
    own = [code.label for code in program.codes]
    snapshots: dict[str, list[Snapshot]] = defaultdict(list)
    for each in found.snapshots:
        snapshots[each.stamp.label].append(each)
    run = [label for each in found.running for label in each.projections]
    labels = [*own, *sorted({*snapshots, *run} - {*own})]
    return [
        _stored_under(label, snapshots[label], found, own=label in own)
        for label in labels
    ]


def _stored_under(
    label: str, snapshots: Sequence[Snapshot], found: Standing, *, own: bool
) -> StoredProjection:
    name, version, fingerprint = label.split(":")
    newest = snapshots[0] if snapshots else None
    position = newest.stamp.head.position if newest else None
    return StoredProjection(
        name=name,
        version=int(version),
        fingerprint=fingerprint,
        own=own,
        snapshots=len(snapshots),
        size=sum(each.size for each in snapshots),
        position=position,
        behind=max(0, found.head - (position or 0)),
        taken_at=newest.taken_at if newest else None,
        instances=tuple(each.id for each in found.running if label in each.projections),
    )
