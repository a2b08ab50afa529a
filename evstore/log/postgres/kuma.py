"""Reads the database of an existing Kuma or Kong Mesh; changes nothing there."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec reads it
from typing import TYPE_CHECKING, Any

import msgspec
from psycopg import IsolationLevel, errors as pg

from evstore.errors import SchemaError

from . import statements
from .connections import connect, translated

if TYPE_CHECKING:
    from evstore.config import PostgresConfig


class KumaResource(msgspec.Struct, frozen=True, kw_only=True):
    """A row of Kuma's table `resources`; times are in UTC, and say no zone.

    Labels, status and owner came with later versions of Kuma.
    """

    type: str
    mesh: str
    name: str
    version: int
    spec: str | None
    creation_time: datetime
    modification_time: datetime
    owner_type: str | None = None
    owner_mesh: str | None = None
    owner_name: str | None = None
    labels: Any = None
    status: Any = None


async def read_resources(config: PostgresConfig) -> list[KumaResource]:
    """Return all resources of a Kuma database, as of one moment.

    Raises:
        SchemaError: the database is none of Kuma's.
        UnavailableError: it cannot be reached.
    """
    connection = await connect(config, purpose="kuma")
    try:
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await connection.set_read_only(True)
        with translated(config):
            async with connection.transaction():
                cursor = await connection.execute(statements.KUMA)
                rows = await cursor.fetchall()
    except SchemaError as error:
        if not isinstance(error.__cause__, pg.UndefinedTable):
            raise
        message = f"database {config.db_name} has no table resources: it is not Kuma's"
        raise SchemaError(message) from error
    finally:
        await connection.close()
    try:
        return [msgspec.json.decode(text, type=KumaResource) for (text,) in rows]
    except msgspec.ValidationError as error:
        message = f"table resources is not as Kuma has it: {error}"
        raise SchemaError(message) from None
