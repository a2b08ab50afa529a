"""Rights: what a role needs to run a store, granted and looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg import sql

from evstore.doctor.postgres.facts import Rights
from evstore.errors import ConfigError, InvalidError

from . import statements
from .connections import connect, translated

if TYPE_CHECKING:
    from evstore.config import PostgresConfig

    from .connections import Connection

_ROLE_BYTES_MAX: Final = 63  # PostgreSQL cuts longer ones, and then means another role
_NO_ROLES: Final = frozenset({"public", "none"})  # also where they are quoted


def grants(role: str) -> list[str]:
    """Return the statements that give a role what running a store takes, and no more.

    Raises:
        InvalidError: no role can have this name.
    """
    size = len(role.encode(errors="replace"))
    if not 0 < size <= _ROLE_BYTES_MAX or "\0" in role or role in _NO_ROLES:
        allowed = f"1 to {_ROLE_BYTES_MAX} bytes, and neither public nor none"
        message = f"{role!r} is not the name of a role: {allowed}"
        raise InvalidError(message, path="role")
    text = sql.SQL(statements.GRANT).format(  # pyright: ignore[reportArgumentType]
        role=sql.Identifier(role)
    )
    return text.as_string().splitlines()


async def grant(config: PostgresConfig, role: str) -> list[str]:
    """Give a role what running a store takes, all or nothing; return what was run.

    Raises:
        InvalidError: there is no such role.
        ConfigError: our own role may not grant that: it does not own the tables.
        SchemaError: the database is not migrated.
        UnavailableError: the database cannot be reached.
    """
    wanted = grants(role)
    connection = await connect(config, purpose="grant")
    try:
        with translated(config):
            async with connection.transaction():
                if await rights(connection, role) is None:
                    message = f"there is no role {role}; make it first, CREATE ROLE"
                    raise InvalidError(message, path="role")
                for statement in wanted:
                    await connection.execute(statement.encode())
                # To who may not grant, the server only gives a warning.
                found = await rights(connection, role)
                if found is None or found.missing:
                    message = f"store.postgres.user: role {config.user} may not grant"
                    raise ConfigError(f"{message} this; run it as the owner")
    finally:
        await connection.close()
    return wanted


async def rights(connection: Connection, role: str | None = None) -> Rights | None:
    """Return what a role lacks and what it may do beyond; without a role, our own.

    None where there is no such role.
    """
    cursor = await connection.execute(statements.RIGHTS, {"role": role})
    row = await cursor.fetchone()
    if row is None:
        return None
    name, superuser, owner, missing, beyond = row
    return Rights(
        role=name,
        superuser=superuser,
        owner=owner,
        missing=tuple(missing),
        beyond=tuple(beyond),
    )
