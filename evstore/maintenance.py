"""Work that needs no open store: migrations, rights, a doctor, proof, statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .anchors import sign
from .config import StoreType
from .doctor.judgement import judge, unreachable
from .errors import ConfigError, UnavailableError
from .log import open_log
from .past.stats import stats as log_stats
from .proof import chain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .anchors import Anchor, PrivateKey
    from .config import Config, PostgresConfig
    from .doctor.checks import Check
    from .log.postgres.migrations import Applied, Migration
    from .past.history import At
    from .past.stats import Stats
    from .proof.chain import Verification


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


def grants(role: str) -> list[str]:
    """Return the statements that give a role what running a store takes, and no more.

    Raises:
        InvalidError: no role can have this name.
    """
    from .log.postgres import rights  # noqa: PLC0415 - psycopg loads slowly

    return rights.grants(role)


async def grant(config: Config, role: str) -> list[str]:
    """Give a role what running a store takes, all or nothing; return what was run.

    Raises:
        InvalidError: there is no such role.
        ConfigError: the store type has no database, or the configured role may not
            grant that.
        SchemaError: the database is not migrated.
        UnavailableError: the database cannot be reached.
    """
    from .log.postgres import rights  # noqa: PLC0415 - psycopg loads slowly

    return await rights.grant(_postgres(config), role)


async def doctor(config: Config) -> list[Check]:
    """Look whether the database that `config` names is as it should be.

    Changes nothing. A server that cannot be reached, or is lost on the way, is one check
    that fails; each check says what was found and what to do.

    Raises:
        ConfigError: the store type has no database.
    """
    from .log.postgres import probe  # noqa: PLC0415 - psycopg loads slowly

    _postgres(config)
    try:
        facts = await probe.examine(config)
    except (ConfigError, UnavailableError) as error:
        return unreachable(error)
    return judge(facts, config)


async def verify(
    config: Config,
    *,
    anchors: Sequence[Anchor] = (),
    advance: Callable[[int], None] | None = None,
) -> Verification:
    """Verify the log that `config` names, as `Store.verify` does, without a store.

    `advance` is told up to which position it has got.

    Raises:
        SchemaError: the database is not at the version that this program needs.
        UnavailableError: the log cannot be read.
    """
    async with open_log(config) as log:
        return await chain.verify(log, anchors=anchors, advance=advance)


async def stats(
    config: Config, *, since: At | None = None, until: At | None = None
) -> Stats:
    """Return statistics of the events between two moments, both included.

    They are counted where the log is, in one pass over that range.

    Raises:
        InvalidError: a moment is none.
        SchemaError: the database is not at the version that this program needs.
        UnavailableError: the log cannot be read.
    """
    async with open_log(config) as log:
        return await log_stats(log, since=since, until=until)


async def anchor(config: Config, key: PrivateKey) -> Anchor:
    """Sign the head of the log that `config` names, as it is now.

    Raises:
        SchemaError: the database is not at the version that this program needs.
        UnavailableError: the log cannot be reached.
    """
    async with open_log(config) as log:
        await log.connect()  # which measures its clock
        head = await log.head()
        return sign(head, log=log.identity, signed=log.clock(), key=key)


def _postgres(config: Config) -> PostgresConfig:
    if config.type is not StoreType.POSTGRES:
        message = f"store.type is {config.type.value}: there is nothing to migrate"
        raise ConfigError(f"{message}; set it to postgres")
    return config.postgres
