"""Rights: what a role needs to run a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstore.config import StoreType
from evstore.errors import ConfigError

from .database import database_of

if TYPE_CHECKING:
    from evstore.config import Config


def grants(role: str) -> list[str]:
    """Return the statements that give a role what running a store takes, and no more.

    Raises:
        InvalidError: no role can have this name.
    """
    from evstore.log.postgres import rights  # noqa: PLC0415 - psycopg loads slowly

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
    from evstore.log.postgres import rights  # noqa: PLC0415 - psycopg loads slowly

    if config.type is StoreType.KUBERNETES:
        message = "store.type is kubernetes: a cluster binds roles instead"
        raise ConfigError(f"{message}; cluster_manifests(config, account=...) has them")
    return await rights.grant(database_of(config), role)
