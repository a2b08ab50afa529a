"""Work across floors that is not a command of a store: migrations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .config import StoreType
from .errors import ConfigError

if TYPE_CHECKING:
    from .config import Config, PostgresConfig
    from .log.postgres.migrations import Applied, Migration


class MigrationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `migrate_up` did: the migrations it applied, and the version now."""

    applied: list[Migration]
    version: int


async def migrate_up(config: Config) -> MigrationReport:
    """Apply what is new, each migration in a transaction of its own.

    Raises:
        ConfigError: the store type has nothing to migrate.
        SchemaError: the database is dirty, newer, or an applied file has changed.
        UnavailableError: the database cannot be reached.
    """
    from .log.postgres import migrations  # noqa: PLC0415 - psycopg loads slowly

    done = [each async for each in migrations.migrate(_postgres(config))]
    version = len((await migration_status(config)).applied)
    return MigrationReport(applied=done, version=version)


class MigrationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What has been applied to a database, and what this program brings besides."""

    applied: list[Applied]
    pending: list[Migration]


async def migration_status(config: Config) -> MigrationStatus:
    """Return what has been applied to the database, and what is to be."""
    from .log.postgres import migrations  # noqa: PLC0415 - psycopg loads slowly

    applied = await migrations.status(_postgres(config))
    return MigrationStatus(
        applied=applied, pending=migrations.available()[len(applied) :]
    )


def _postgres(config: Config) -> PostgresConfig:
    if config.type is not StoreType.POSTGRES:
        message = f"store.type is {config.type.value}: there is nothing to migrate"
        raise ConfigError(f"{message}; set it to postgres")
    return config.postgres
