"""Snapshots in tables: saved by one at a time, whole or not at all; loaded as a stream."""

from __future__ import annotations

from contextlib import aclosing
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from psycopg import Rollback, sql

from evstore.codec import genesis_hash
from evstore.log.contract import SNAPSHOTS_KEPT
from evstore.log.shapes import Snapshot, Stamp
from evstore.model import Head

from . import statements
from .connections import deadline
from .reader import POSITION_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Sequence
    from uuid import UUID

    from .connections import Connection, Deadline
    from .reader import Reader

_TYPES: Final = ("bytea",)


async def snapshots(reader: Reader) -> list[Snapshot]:
    """Return all snapshots; see the log's contract."""
    # In binary: a role may write times in another style.
    rows = await reader.rows(statements.SNAPSHOTS, binary=True)
    return [
        Snapshot(
            id=row[0],
            stamp=Stamp(
                log=row[1],
                projection=row[2],
                version=row[3],
                fingerprint=row[4],
                head=Head(position=row[5], hash=row[6], time=row[7]),
                digest=row[8],
            ),
            chunks=row[9],
            size=row[10],
            checksum=row[11],
            taken_at=row[12],
            code_version=row[13],
        )
        for row in rows
    ]


async def load(reader: Reader, snapshot: Snapshot) -> AsyncGenerator[bytes]:
    """Yield the chunks that are there, streamed by one COPY, as of one moment."""
    query = sql.SQL(statements.SNAPSHOT_CHUNKS).format(  # pyright: ignore[reportArgumentType]
        snapshot=sql.Literal(snapshot.id)
    )
    async with aclosing(reader.copy(query, _TYPES)) as rows:
        async for (chunk,) in rows:
            yield chunk


async def save(
    reader: Reader, stamp: Stamp, chunks: AsyncIterable[bytes], *, code_version: str
) -> Snapshot | None:
    """Keep a snapshot in one transaction; see the log's contract.

    A chunk is a statement of its own: no other is in memory meanwhile, and a server that
    does not take it within the time-out of reads is noticed. A COPY would be a tenth
    faster, but nothing would end one by a saver that stands still, with its lock.
    """
    if not stamp.head.position and stamp.head != _genesis(stamp.log):
        return None
    saved: Snapshot | None = None
    async with reader.connection() as connection:
        with deadline(connection, reader.seconds) as limit:
            async with connection.transaction():
                saved = await _save(connection, limit, stamp, chunks, code_version)
                if saved is None:
                    raise Rollback
    return saved


async def _save(
    connection: Connection,
    limit: Deadline,
    stamp: Stamp,
    chunks: AsyncIterable[bytes],
    code_version: str,
) -> Snapshot | None:
    if not (await _row(connection, statements.SNAPSHOT_BEGIN))[0]:
        return None
    identity, count, size, checksum = uuid4(), 0, 0, sha256()
    async with aclosing(_timed(chunks, limit)) as timed:
        async for chunk in timed:
            count, size = count + 1, size + len(chunk)
            checksum.update(chunk)
            binds = {"snapshot": identity, "number": count, "data": chunk}
            await connection.execute(statements.SNAPSHOT_CHUNK, binds)
    # From here on no redaction gets by: either it is seen, or it drops this as well.
    await _row(connection, statements.SNAPSHOT_LOCK)
    kept = {
        "id": identity,
        "log": stamp.log,
        "projection": stamp.projection,
        "version": stamp.version,
        "fingerprint": stamp.fingerprint,
        "position": stamp.head.position,
        "hash": stamp.head.hash,
        "time": stamp.head.time,
        "digest": stamp.digest,
        "chunks": count,
        "size": size,
        "checksum": checksum.digest(),
        "code_version": code_version,
        "kept": SNAPSHOTS_KEPT,
    }
    cursor = await connection.execute(statements.SNAPSHOT_KEEP, kept, binary=True)
    row = await cursor.fetchone()
    if row is None:
        return None
    await connection.execute(statements.SNAPSHOT_PRUNE, kept)
    return Snapshot(
        id=identity,
        stamp=stamp,
        chunks=count,
        size=size,
        checksum=checksum.digest(),
        taken_at=row[0],
        code_version=code_version,
    )


async def drop(
    reader: Reader, snapshots: Sequence[UUID] | None = None, *, since: int = 0
) -> int:
    """Drop snapshots, and return how many; see the log's contract."""
    binds = {
        "snapshots": None if snapshots is None else list(snapshots),
        "since": min(since, POSITION_MAX),
    }
    async with reader.connection() as connection:
        with deadline(connection, reader.seconds):
            async with connection.transaction():
                await _row(connection, statements.SNAPSHOT_LOCK)
                cursor = await connection.execute(statements.SNAPSHOT_DROP, binds)
                return cursor.rowcount


async def _row(connection: Connection, statement: bytes) -> tuple[Any, ...]:
    cursor = await connection.execute(statement)
    row = await cursor.fetchone()
    assert row is not None, "the statement returns one row"
    return row


async def _timed(
    chunks: AsyncIterable[bytes], limit: Deadline
) -> AsyncGenerator[bytes]:
    """Yield the chunks; the time that they take to come is not the server's."""
    limit.stop()
    try:
        async for chunk in chunks:
            limit.start()
            yield chunk
            limit.stop()
    finally:
        limit.start()


def _genesis(log: UUID) -> Head:
    return Head(position=0, hash=genesis_hash(log), time=0)
