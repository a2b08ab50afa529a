"""What tests of the doctor and of rights share: its checks by name, roles, statements."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from evstore.maintenance import doctor
from fault.history import connected

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evstore import Config
    from evstore.doctor.checks import Check


def as_user(config: Config, user: str, **postgres: object) -> Config:
    """Return a configuration with another role."""
    changed = msgspec.structs.replace(config.postgres, user=user, **postgres)
    return msgspec.structs.replace(config, postgres=changed)


async def checks(config: Config) -> dict[str, Check]:
    """Return what the doctor says, by the name of the check."""
    found = await doctor(config)
    assert len({each.check for each in found}) == len(found)
    return {each.check: each for each in found}


async def execute(config: Config, statement: str, *, user: str = "kuma") -> None:
    """Execute a statement past the store; `kuma` owns its tables."""
    async with connected(config, user=user) as connection:
        await connection.execute(statement.encode())


@asynccontextmanager
async def role_of(config: Config) -> AsyncGenerator[str]:
    """Make a role without any right, for the time of one test."""
    name = f"run_{config.postgres.db_name}"
    await execute(config, f"CREATE ROLE {name} LOGIN", user="postgres")
    try:
        yield name
    finally:
        await execute(config, f"DROP OWNED BY {name}", user="postgres")
        await execute(config, f"DROP ROLE {name}", user="postgres")
