"""The doctor: facts are gathered, then judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstore.config import StoreType
from evstore.doctor import kubernetes, postgres
from evstore.errors import ConfigError, UnavailableError
from evstore.log.extras import extra

if TYPE_CHECKING:
    from evstore.config import Config
    from evstore.doctor.checks import Check


async def doctor(config: Config) -> list[Check]:
    """Look whether the database, or cluster, that `config` names is as it should be.

    Changes nothing. A server that cannot be reached, or is lost on the way, is one check
    that fails; each check says what was found and what to do.

    Raises:
        ConfigError: the store type has no server, or the extra is not installed.
    """
    match config.type:
        case StoreType.POSTGRES:
            return await _database(config)
        case StoreType.KUBERNETES:
            return await _cluster(config)
        case _:
            message = (
                f"store.type is {config.type.value}: the doctor looks at databases"
            )
            raise ConfigError(
                f"{message} and clusters; set it to postgres or kubernetes"
            )


async def _database(config: Config) -> list[Check]:
    from evstore.log.postgres import probe  # noqa: PLC0415 - psycopg loads slowly

    try:
        facts = await probe.examine(config)
    except (ConfigError, UnavailableError) as error:
        return postgres.unreachable(error)
    return postgres.judge(facts, config)


async def _cluster(config: Config) -> list[Check]:
    with extra("kubernetes"):
        from evstore.log.kubernetes import probes  # noqa: PLC0415 - an extra
    try:
        facts = await probes.examine(config)
    except (ConfigError, UnavailableError) as error:
        return kubernetes.unreachable(error)
    return kubernetes.judge(facts, config)
