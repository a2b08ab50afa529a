"""The database that a configuration names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstore.config import StoreType
from evstore.errors import ConfigError

if TYPE_CHECKING:
    from evstore.config import Config, PostgresConfig


def database_of(config: Config) -> PostgresConfig:
    """Return the settings of the database.

    Raises:
        ConfigError: the store type has none.
    """
    if config.type is not StoreType.POSTGRES:
        message = f"store.type is {config.type.value}: there is nothing to migrate"
        raise ConfigError(f"{message}; set it to postgres")
    return config.postgres
