"""The doctor: facts are gathered, then judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstore.config import StoreType
from evstore.doctor.postgres.judgement import judge, unreachable
from evstore.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from evstore.config import Config
    from evstore.doctor.checks import Check


async def doctor(config: Config) -> list[Check]:
    """Look whether the database that `config` names is as it should be.

    Changes nothing. A server that cannot be reached, or is lost on the way, is one check
    that fails; each check says what was found and what to do.

    Raises:
        ConfigError: the store type has no database.
    """
    from evstore.log.postgres import probe  # noqa: PLC0415 - psycopg loads slowly

    if config.type is not StoreType.POSTGRES:
        message = f"store.type is {config.type.value}: the doctor looks at databases"
        raise ConfigError(f"{message} alone; set it to postgres")
    try:
        facts = await probe.examine(config)
    except (ConfigError, UnavailableError) as error:
        return unreachable(error)
    return judge(facts, config)
