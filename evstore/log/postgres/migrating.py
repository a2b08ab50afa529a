"""Bringing a database up to date, and what that means to the instances that run.

Each migration runs in a transaction of its own, under a lock that ends with the
transaction (so that it works behind a pooler), together with its row in
`schema_migration`; the version is read again under the lock, and the instances are
looked at there as well.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import psycopg

from evstore.errors import SchemaError

from . import migrations, snapshots, statements
from .connections import connect, translated
from .counting import instances_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from uuid import UUID

    from evstore.config import PostgresConfig
    from evstore.log.shapes import Instance, Snapshot

    from .connections import Connection
    from .migrations import Applied, Migration

_LOCK: Final = "SELECT pg_advisory_xact_lock(1702261620, 3)"
_ONE_MOMENT: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_IS_THERE: Final = "SELECT to_regclass('evstore.schema_migration') IS NOT NULL"
_MISTAKES: Final = ("0A", "22", "23", "42", "54")
_NAMED_MAX: Final = 3
_TABLE: Final = """
    CREATE SCHEMA IF NOT EXISTS evstore;
    CREATE TABLE IF NOT EXISTS evstore.schema_migration (
        version integer PRIMARY KEY,
        name text NOT NULL,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        dirty boolean NOT NULL DEFAULT false,
        readable_from integer NOT NULL,
        writable_from integer NOT NULL
    )
"""
_RECORD: Final = """
    INSERT INTO evstore.schema_migration
        (version, name, checksum, readable_from, writable_from)
    VALUES (%s, %s, %s, %s, %s)
"""


class LeftBehind(msgspec.Struct, frozen=True, kw_only=True):
    """A running instance that a migration takes away from: it can write no more.

    `reads` says whether it can go on reading.
    """

    instance: Instance
    reads: bool


class Found(NamedTuple):
    """A database as it was at one moment; `head` is the last position of its log.

    `snapshots` are those of the log `identity`, which is None where there is none yet.
    """

    applied: list[Applied]
    head: int
    running: list[Instance]
    identity: UUID | None = None
    snapshots: Sequence[Snapshot] = ()


class _Needs(NamedTuple):
    """The schema version that a program must know, to read and to write."""

    readable_from: int
    writable_from: int


async def migrate(
    config: PostgresConfig, *, force: bool = False
) -> AsyncIterator[Migration]:
    """Apply what is new, one transaction each; yield each once it is committed.

    A migration that would leave a running instance behind is refused, unless by `force`;
    those before it are applied. An instance that starts in the same moment is not seen.

    Raises:
        SchemaError: the database is dirty or newer, an applied file has changed, or a
            running instance would be left behind.
        UnavailableError: the database cannot be reached.
    """
    connection = await connect(config, purpose="migrate")
    try:
        while True:
            with translated(config):
                migration = await _next_step(connection, force=force)
            if migration is None:
                return
            yield migration
    finally:
        await connection.close()


async def look(config: PostgresConfig) -> Found:
    """Look at a database, whatever its version; change nothing and wait for nobody.

    Raises:
        UnavailableError: the database cannot be reached.
    """
    connection = await connect(config, purpose="status")
    try:
        with translated(config):
            async with connection.transaction():
                await connection.execute(_ONE_MOMENT)
                done = await _applied(connection)
                if not done:
                    return Found(done, 0, [])
                cursor = await connection.execute(statements.HEAD)
                row = await cursor.fetchone()
                cursor = await connection.execute(statements.IDENTITY)
                log = await cursor.fetchone()
                assert log is not None, "a log has an identity"
                return Found(
                    applied=done,
                    head=row[0] if row else 0,
                    running=await _running(connection),
                    identity=log[0],
                    snapshots=[
                        each
                        for each in await snapshots.stored(connection)
                        if each.stamp.log == log[0]
                    ],
                )
    finally:
        await connection.close()


def left_behind(
    running: Sequence[Instance],
    done: Iterable[Applied | Migration],
    steps: Sequence[Migration],
) -> list[list[LeftBehind]]:
    """Return for each of the next steps whom it leaves behind, after those before it.

    An instance is left behind by the step that takes from it what it has had till then:
    first writing, perhaps later reading.
    """
    needs = list(accumulate(map(_needs, steps), _both, initial=_all(done)))
    return [
        [
            LeftBehind(instance=each, reads=each.knows >= after.readable_from)
            for each in running
            if before.writable_from <= each.knows < after.writable_from
            or before.readable_from <= each.knows < after.readable_from
        ]
        for before, after in pairwise(needs)
    ]


def _needs(migration: Applied | Migration) -> _Needs:
    return _Needs(
        migration.readable_from,
        max(migration.readable_from, migration.writable_from),
    )


def _both(first: _Needs, second: _Needs) -> _Needs:
    return _Needs(*map(max, first, second))


def _all(done: Iterable[Applied | Migration]) -> _Needs:
    *_, needs = accumulate(map(_needs, done), _both, initial=_Needs(0, 0))
    return needs


async def _next_step(connection: Connection, *, force: bool) -> Migration | None:
    """Apply the first migration that is missing; return it, None where none is."""
    async with connection.transaction():
        await connection.execute(_LOCK)
        # Under the lock, so that two migrators that start together do not race.
        before = await _applied(connection)
        migrations.check_history(before)
        missing = migrations.available()[len(before) :]
        if not missing:
            return None
        migration = missing[0]
        if migration.version == 1:
            await connection.execute(_TABLE)
        elif not force:
            await _check_running(connection, before, migration)
        await _run(connection, migration)
        await connection.execute(
            _RECORD,
            (
                migration.version,
                migration.name,
                migration.checksum,
                migration.readable_from,
                migration.writable_from,
            ),
        )
        return migration


async def _check_running(
    connection: Connection, before: Sequence[Applied], migration: Migration
) -> None:
    running = await _running(connection)
    (behind,) = left_behind(running, before, [migration])
    if not behind:
        return
    named = ", ".join(map(_described, behind[:_NAMED_MAX]))
    if len(behind) > _NAMED_MAX:
        named += f" and {len(behind) - _NAMED_MAX} more"
    message = (
        f"migration {migration.version} ({migration.name}) would leave running "
        f"instances behind: {named}. Upgrade or stop them (one that was killed "
        f"counts for a minute); or force it, with --force. The database is at version {before[-1].version}"
    )
    raise SchemaError(message)


def _described(each: LeftBehind) -> str:
    instance = each.instance
    fate = "write" if each.reads else "read"
    program = f"evstore {instance.code_version}, which knows version {instance.knows}"
    return f"{instance.id} ({program}) could not {fate} any more"


async def _run(connection: Connection, migration: Migration) -> None:
    try:
        await connection.execute(migration.sql.encode())
    except psycopg.Error as error:
        state = error.sqlstate or ""
        if not state.startswith(_MISTAKES):
            raise
        # It would fail again: the database or the file is not what it has to be.
        parts = (error.diag.message_primary, error.diag.message_hint)
        reason = ". ".join(part for part in parts if part)
        message = f"migration {migration.version} ({migration.name}) failed: {reason}"
        raise SchemaError(message) from error


async def _applied(connection: Connection) -> list[Applied]:
    """Return what has been applied, without failing the transaction that asks."""
    cursor = await connection.execute(_IS_THERE)
    row = await cursor.fetchone()
    return await migrations.applied(connection) if row and row[0] else []


async def _running(connection: Connection) -> list[Instance]:
    # In binary: a role may write times in another style.
    cursor = await connection.execute(statements.RUNNING, binary=True)
    return instances_of(await cursor.fetchall())
