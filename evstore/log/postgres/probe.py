"""Probes: what `evstore doctor` asks a server. They change nothing, and judge nothing.

Each is bounded in time, and stands for itself: what one of them is refused is `Unknown`,
and the others go on.
"""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import psycopg

from evstore.clock import boot_microseconds, wall_microseconds
from evstore.doctor.facts import Clock, Snapshots, Unknown
from evstore.doctor.postgres.facts import (
    AppendLock,
    Facts,
    Partitions,
    ReadReplica,
    Schema,
    Server,
    Session,
    Sessions,
    Standby,
    Table,
    Tls,
)
from evstore.errors import SchemaError, StoreError

from . import statements
from .connections import (
    Connection,
    connect,
    deadline,
    parameters,
    translated,
)
from .migrations import applied, available, check_version
from .rights import rights

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from evstore.config import Config, PostgresConfig
    from evstore.doctor.postgres.facts import Rights

_T = TypeVar("_T")
_Row = tuple[Any, ...]

_PROBE_SECONDS_MAX: Final = 10.0
_NOTIFICATION_SECONDS_MAX: Final = 2.0
_CLOCK_TRIES: Final = 3
_LISTEN: Final = b"LISTEN evstore_doctor"
_NOTIFY: Final = b"SELECT pg_notify('evstore_doctor', %(payload)s)"
_SECOND: Final = 1_000_000


async def examine(config: Config) -> Facts:
    """Ask the server that `config` names for all that a doctor looks at.

    Raises:
        ConfigError: the server refuses user, password or database.
        UnavailableError: it cannot be reached, or was lost on the way.
    """
    async with _connected(config.postgres) as connection:
        with translated(config.postgres):
            return await _Probes(connection, config).facts()


class _Probes:
    """One examination, over one connection and some that are short."""

    def __init__(self, connection: Connection, config: Config) -> None:
        self._connection = connection
        self._config = config

    async def facts(self) -> Facts:
        """Return all that can be seen."""
        with deadline(self._connection, _PROBE_SECONDS_MAX):
            there: bool = (await self._row(statements.PROBE_TABLES_THERE))[0]
        return Facts(
            server=await self._known(self._server),
            clock=await self._clock(),
            heard=await self._heard() if self._config.evstore.notify else None,
            schema=await self._known(self._schema) if there else _unmigrated(),
            sessions=await self._known(self._sessions),
            append_lock=await self._known(self._append_lock),
            standbys=await self._known(self._standbys),
            rights=await self._known(self._rights) if there else None,
            unguarded=await self._known(self._unguarded) if there else None,
            partitions=await self._known(self._partitions) if there else None,
            snapshots=await self._known(self._snapshots) if there else None,
            tables=await self._known(self._tables) if there else None,
            read_replica=await self._read_replica() if there else None,
        )

    async def _known(self, probe: Callable[[], Awaitable[_T]]) -> _T | Unknown:
        """Return what a probe finds, or why the server would not tell."""
        try:
            with deadline(self._connection, _PROBE_SECONDS_MAX):
                async with self._connection.transaction():
                    await self._connection.execute(statements.PROBE_BOUNDS)
                    return await probe()
        except psycopg.Error as error:
            if self._connection.closed:
                raise
            return Unknown(str(error.diag.message_primary or error))

    async def _rows(
        self, statement: bytes, binds: dict[str, Any] | None = None
    ) -> list[_Row]:
        cursor = await self._connection.execute(statement, binds)
        return await cursor.fetchall()

    async def _row(self, statement: bytes, binds: dict[str, Any] | None = None) -> _Row:
        (row,) = await self._rows(statement, binds)
        return row

    async def _server(self) -> Server:
        row = await self._row(statements.PROBE_SERVER)
        encrypted = self._connection.pgconn.ssl_in_use
        return Server(
            version=row[0].split()[0],
            version_number=row[1],
            tls=Tls(version=row[2] or "", cipher=row[3] or "") if encrypted else None,
            fsync=row[4],
            full_page_writes=row[5],
            synchronous_commit=row[6],
            synchronous_standbys=row[7],
            # libpq was told another process than the one that answers.
            pooled=row[8] != self._connection.info.backend_pid,
        )

    async def _clock(self) -> Clock:
        """Compare the clocks; of several exchanges the quickest counts."""
        measured: list[tuple[int, int]] = []
        for _ in range(_CLOCK_TRIES):
            ours, sent = wall_microseconds(), boot_microseconds()
            with deadline(self._connection, _PROBE_SECONDS_MAX):
                theirs = (await self._row(statements.PROBE_CLOCK))[0]
            trip = boot_microseconds() - sent
            measured.append((trip, theirs - ours - trip // 2))
        trip, ahead = min(measured)
        return Clock(seconds_ahead=ahead / _SECOND, seconds_error=trip / 2 / _SECOND)

    async def _heard(self) -> bool | Unknown:
        """Whether one session hears what another one notifies.

        Two sessions: in its own, a pooler in transaction mode would let it be heard.
        """
        payload = secrets.token_hex(16)
        postgres = self._config.postgres
        try:
            async with (
                _connected(postgres) as listener,
                _connected(postgres) as notifier,
            ):
                with deadline(listener, _PROBE_SECONDS_MAX):
                    await listener.execute(_LISTEN)
                with deadline(notifier, _PROBE_SECONDS_MAX):
                    await notifier.execute(_NOTIFY, {"payload": payload})
                heard = listener.notifies(timeout=_NOTIFICATION_SECONDS_MAX)
                async with aclosing(heard) as notifications:
                    async for each in notifications:
                        if each.payload == payload:
                            return True
        except (StoreError, psycopg.Error) as error:
            return Unknown(" ".join(str(error).split()))
        return False

    async def _schema(self) -> Schema:
        needed = len(available())
        done = await applied(self._connection)
        if not done:
            return _unmigrated()
        tolerate = self._config.postgres.tolerate_newer_db_versions
        problem = None
        try:
            await check_version(self._connection, tolerate_newer=tolerate)
        except SchemaError as error:
            problem = str(error)
        return Schema(version=done[-1].version, needed=needed, problem=problem)

    async def _rights(self) -> Rights:
        found = await rights(self._connection)
        assert found is not None, "our own role exists"
        return found

    async def _unguarded(self) -> tuple[str, ...]:
        rows = await self._rows(statements.GUARDS)
        return tuple(f"{name} of evstore.{table}" for table, name in rows)

    async def _sessions(self) -> Sessions:
        rows = await self._rows(statements.PROBE_SESSIONS)
        return Sessions(
            idle=tuple(
                Session(process=r[0], role=r[1], program=r[2], seconds=r[4])
                for r in rows
                if r[3] is not None
            ),
            hidden=sum(row[3] is None for row in rows),
        )

    async def _append_lock(self) -> AppendLock:
        rows = await self._rows(statements.PROBE_APPEND_LOCK)
        holders = [
            (r[1], Session(process=r[2], role=r[3], program=r[4], seconds=r[5]))
            for r in rows
            if r[0]
        ]
        return AppendLock(
            turn=next((each for alone, each in holders if alone), None),
            shared=tuple(each for alone, each in holders if not alone),
            waiting=sum(not row[0] for row in rows),
        )

    async def _partitions(self) -> Partitions:
        head, end, size, covered = await self._row(statements.PROBE_PARTITIONS)
        return Partitions(head=head, end=end, size=size, covered=covered)

    async def _snapshots(self) -> Snapshots:
        row = await self._row(statements.PROBE_SNAPSHOTS)
        head, own, foreign, position, seconds = row
        return Snapshots(
            head=head, own=own, foreign=foreign, position=position, seconds=seconds
        )

    async def _standbys(self) -> tuple[Standby, ...]:
        return tuple(
            Standby(
                name=row[0],
                state=row[1],
                synchrony=row[2],
                bytes_behind=row[3],
                seconds_behind=row[4],
            )
            for row in await self._rows(statements.PROBE_STANDBYS)
        )

    async def _tables(self) -> tuple[Table, ...]:
        return tuple(
            Table(name=row[0], live=row[1], dead=row[2])
            for row in await self._rows(statements.PROBE_TABLES)
        )

    async def _read_replica(self) -> ReadReplica | Unknown | None:
        named = self._config.postgres.read_replica
        if not named.host:
            return None
        replica = msgspec.structs.replace(
            self._config.postgres, host=named.host, port=named.port
        )
        try:
            standby, identity, position, hash_ = await _asked_of(replica)
        except StoreError as error:
            return Unknown(str(error))
        binds = {"identity": identity, "position": position, "hash": hash_}

        async def behind() -> ReadReplica:
            same, events, seconds = await self._row(statements.PROBE_BEHIND, binds)
            return ReadReplica(
                address=f"{named.host}:{named.port}",
                standby=standby,
                same_log=same,
                events_behind=events,
                seconds_behind=seconds,
            )

        return await self._known(behind)


def _unmigrated() -> Schema:
    return Schema(version=0, needed=len(available()))


async def _asked_of(replica: PostgresConfig) -> _Row:
    """Ask the read replica which log it has, and how far."""
    settings = parameters(replica, purpose="doctor")
    with translated(replica):
        connection = await Connection.connect(
            **{**settings, "target_session_attrs": "any"}, autocommit=True
        )
        async with AsyncExitStack() as stack:
            stack.push_async_callback(connection.close)
            stack.enter_context(deadline(connection, _PROBE_SECONDS_MAX))
            async with connection.transaction():
                await connection.execute(statements.PROBE_BOUNDS)
                cursor = await connection.execute(statements.PROBE_REPLICA)
                row = await cursor.fetchone()
    assert row is not None, "migration 0001 makes the row"
    return row


@asynccontextmanager
async def _connected(config: PostgresConfig) -> AsyncGenerator[Connection]:
    connection = await connect(config, purpose="doctor")
    # Behind a pooler, the next statement may meet a process that knows none of them.
    connection.prepare_threshold = None
    try:
        yield connection
    finally:
        await connection.close()
