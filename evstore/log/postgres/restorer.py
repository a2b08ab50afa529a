"""Restoring: events as they were, copied into the table, and the identity before them."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from psycopg import errors as pg

from evstore.codec import field, genesis_hash
from evstore.log.failures import HeadMovedError

from . import statements
from .connections import connect, deadline, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from evstore.config import PostgresConfig
    from evstore.model import Head, StoredEvent

    from .connections import Connection

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
# The number of columns, then each of a fixed length, led by that length.
_FIXED: Final = struct.Struct(">h iq iq iq i16s ii ii".replace(" ", ""))
_COLUMNS: Final = 16
_LENGTH: Final = struct.Struct(">i")
_NULL: Final = _LENGTH.pack(-1)
_EPOCH_OF_POSTGRES: Final = 946_684_800_000_000  # the year 2000, in microseconds
_SLICE_BYTES: Final = 256 * 1024


class Restorer:
    """Adds events as they were, over a connection of its own.

    A server that takes longer than `seconds` over what it is given is unavailable.
    """

    def __init__(self, config: PostgresConfig, *, seconds: float) -> None:
        self._config = config
        self._seconds = seconds
        self._connection: Connection | None = None

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def restore(
        self, events: Sequence[StoredEvent], *, after: Head, identity: UUID
    ) -> None:
        """Add whole transactions as they were; see the log's contract."""
        connection = await self._ready()
        try:
            with translated(self._config), deadline(connection, self._seconds):
                binds = {"events": len(events)}
                await connection.execute(statements.ENSURE_PARTITIONS, binds)
                async with connection.transaction():
                    await connection.execute(statements.TURN)
                    await connection.execute(statements.SESSION_RESTORE)
                    await _adopt(connection, identity)
                    await _check_head(connection, after, identity)
                    await _copy(connection, events)
        except BaseException:
            # Its transaction is gone, or nobody knows: the next one begins anew.
            with suppress(Exception):
                await self.aclose()
            raise

    async def _ready(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await connect(self._config, purpose="restore")
        return self._connection


async def _adopt(connection: Connection, identity: UUID) -> None:
    try:
        async with connection.transaction():
            await connection.execute(statements.ADOPT, {"identity": identity})
    except pg.InsufficientPrivilege:
        # No matter where the identity is the right one already.
        cursor = await connection.execute(statements.IDENTITY)
        row = await cursor.fetchone()
        if row is None or row[0] != identity:
            raise
    except pg.ObjectNotInPrerequisiteState:
        raise HeadMovedError from None


async def _check_head(connection: Connection, after: Head, identity: UUID) -> None:
    """Check, under the lock, that the log ends at `after`."""
    cursor = await connection.execute(statements.HEAD)
    row = await cursor.fetchone()
    found = (0, genesis_hash(identity)) if row is None else (row[0], row[1])
    if found != (after.position, after.hash):
        raise HeadMovedError


async def _copy(connection: Connection, events: Iterable[StoredEvent]) -> None:
    part = bytearray(_SIGNATURE)
    async with (
        connection.cursor() as cursor,
        cursor.copy(statements.RESTORE) as copy,
    ):
        for event in events:
            part += _row(event)
            if len(part) >= _SLICE_BYTES:
                await copy.write(bytes(part))
                part.clear()
        await copy.write(bytes(part + _TRAILER))


def _row(event: StoredEvent) -> bytes:
    """Return an event as binary COPY takes it, the columns as restore.sql has them."""
    type_, mesh, name = event.key.split("/")
    fixed = _FIXED.pack(
        *(_COLUMNS, 8, event.position, 8, event.commit),
        *(8, event.time - _EPOCH_OF_POSTGRES, 16, bytes.fromhex(event.tx)),
        *(4, event.schema_version, 4, event.size),
    )
    texts = map(field, (event.actor, event.operation, type_, mesh, name))
    digest = event.body_digest
    rest = (
        _sized(event.salt),
        _sized(event.hash),
        _NULL if digest is None else _sized(digest),
        _sized(bytes(event.metadata)),
        _sized(bytes(event.body)),
    )
    return b"".join((fixed, *texts, *rest))


def _sized(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value
