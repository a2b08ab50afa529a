"""Migrations: what is applied, what would be done, and doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from evstore.config import StoreType
from evstore.log.extras import extra

from .database import database_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore.config import Config
    from evstore.log import Instance
    from evstore.log.kubernetes.migrations import Kind
    from evstore.log.postgres.migrating import LeftBehind
    from evstore.log.postgres.migrations import Applied, Migration


class MigrationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `migrate_up` did, and the version now.

    `applied` are migrations of a database, or the kinds that a cluster was given.
    """

    applied: Sequence[Migration | Kind]
    version: int


class MigrationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What has been applied to a database, what is to be, and which instances run.

    `instances` are those seen in the last minute, by the server's clock, the last seen
    first; `head` is the last position of the log.
    """

    applied: list[Applied]
    pending: list[Migration]
    head: int
    instances: list[Instance]


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A migration that is to be applied, and the running instances that it hurts."""

    migration: Migration
    left_behind: list[LeftBehind]


class MigrationPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What `migrate_up` would do now: `steps`, in order.

    `version` is what the database is at, 0 where it is empty; `head` and `instances`
    are those of `MigrationStatus`.
    """

    version: int
    head: int
    steps: list[PlannedStep]
    instances: list[Instance]


async def migrate_up(config: Config, *, force: bool = False) -> MigrationReport:
    """Apply what is new, each migration in a transaction of its own.

    A migration that would leave a running instance behind is refused, unless by `force`;
    those before it are applied. Instances are looked at in the transaction of the
    migration; one that starts in the same moment is not seen.

    Into a cluster the kinds are installed that this program needs; that hurts nobody.

    Raises:
        ConfigError: the store type has nothing to migrate, or we may not.
        SchemaError: the database is dirty or newer, an applied file has changed, or
            running instances would be left behind.
        UnavailableError: the database cannot be reached.
    """
    if config.type is StoreType.KUBERNETES:
        return await _install(config)
    from evstore.log.postgres import migrating  # noqa: PLC0415 - psycopg loads slowly

    database = database_of(config)
    done = [each async for each in migrating.migrate(database, force=force)]
    version = len((await migrating.look(database)).applied)
    return MigrationReport(applied=done, version=version)


async def _install(config: Config) -> MigrationReport:
    with extra("kubernetes"):
        from evstore.log.kubernetes import (  # noqa: PLC0415 - an extra
            manifests,
            migrations,
        )

    done = await migrations.migrate(config)
    return MigrationReport(applied=done, version=manifests.SCHEMA_VERSION)


async def migration_plan(config: Config) -> MigrationPlan:
    """Return what `migrate_up` would do now; change nothing and wait for nobody.

    Raises:
        ConfigError: the store type has nothing to migrate.
        SchemaError: the database is dirty or newer, or an applied file has changed.
        UnavailableError: the database cannot be reached.
    """
    from evstore.log.postgres import (  # noqa: PLC0415 - psycopg loads slowly
        migrating,
        migrations,
    )

    found = await migrating.look(database_of(config))
    migrations.check_history(found.applied)
    pending = migrations.available()[len(found.applied) :]
    behind = migrating.left_behind(found.running, found.applied, pending)
    return MigrationPlan(
        version=len(found.applied),
        head=found.head,
        steps=[
            PlannedStep(migration=migration, left_behind=left)
            for migration, left in zip(pending, behind, strict=True)
        ],
        instances=found.running,
    )


async def migration_status(config: Config) -> MigrationStatus:
    """Return what has been applied to the database, what is to be, and who runs.

    Raises:
        ConfigError: the store type has nothing to migrate.
        UnavailableError: the database cannot be reached.
    """
    from evstore.log.postgres import (  # noqa: PLC0415 - psycopg loads slowly
        migrating,
        migrations,
    )

    found = await migrating.look(database_of(config))
    return MigrationStatus(
        applied=found.applied,
        pending=migrations.available()[len(found.applied) :],
        head=found.head,
        instances=found.running,
    )
