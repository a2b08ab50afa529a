"""The log in PostgreSQL: table `evstore.events`, whose primary key is the comparison."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

from evstore.background import background
from evstore.clock import OffsetClock
from evstore.codec import genesis_hash
from evstore.log.patience import patiently
from evstore.log.shapes import Connections, Instance
from evstore.model import ANY, Filter, Head, StoredEvent

from . import integrity, snapshots as stored, statements
from .connections import connect, deadline, translated
from .counting import activity_of, instances_of, storage_of
from .listener import Listener
from .migrations import available, check_version
from .reader import POSITION_MAX, Reader
from .replica import PastReader
from .restorer import Restorer
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from uuid import UUID

    from evstore.config import Config
    from evstore.log.shapes import AuditedEvent, Snapshot, Stamp
    from evstore.tally import Activity, Storage

    from .writer import Turn

__all__ = ["PostgresLog", "open_postgres"]


@asynccontextmanager
async def open_postgres(config: Config) -> AsyncGenerator[PostgresLog]:
    """Open the log in a migrated database.

    A server that cannot be used is tried again for `startTimeout`.

    Raises:
        SchemaError: the database is not at the version that this program needs.
        UnavailableError: the database cannot be reached.
        ConfigError: the server refuses us.
    """
    identity = await patiently(
        lambda: _begin(config), seconds=config.evstore.limits.start_timeout
    )
    async with background() as tasks:
        log = PostgresLog(config, identity)
        try:
            await log.open()
            if config.evstore.notify:
                tasks.start_soon(log.listener.run)
            for reader in log.readers:
                tasks.start_soon(reader.run)
            yield log
        finally:
            log.listener.close()
            with anyio.CancelScope(shield=True):
                await log.aclose()


async def _begin(config: Config) -> UUID:
    """Check that the database is ours, see to a partition; return the log's identity."""
    postgres = config.postgres
    connection = await connect(postgres, purpose="start")
    try:
        with (
            translated(postgres),
            deadline(connection, config.evstore.limits.read_timeout),
        ):
            await check_version(
                connection, tolerate_newer=postgres.tolerate_newer_db_versions
            )
            cursor = await connection.execute(statements.IDENTITY)
            row = await cursor.fetchone()
            await connection.execute(statements.ENSURE_PARTITION)
    finally:
        await connection.close()
    assert row is not None, "migration 0001 makes the row"
    identity: UUID = row[0]
    return identity


class PostgresLog:
    """A log in PostgreSQL, as its contract has it."""

    def __init__(self, config: Config, identity: UUID) -> None:
        self._config = config
        self._clock = OffsetClock()
        limits = config.evstore.limits
        self._reader = Reader(config.postgres, identity, seconds=limits.read_timeout)
        self._past = PastReader(config, identity, self._reader)
        self.readers: Final = (self._reader, self._past)
        self._writer = Writer(config, identity, self._clock)
        self._restorer = Restorer(config.postgres, seconds=limits.command_timeout)
        self.listener = Listener(
            config.postgres,
            lambda process: self._writer.is_own(process),  # noqa: PLW0108 - it changes
        )
        self.identity = identity
        self.genesis = Head(position=0, hash=genesis_hash(identity), time=0)
        self._knows = len(available())

    @property
    def floor(self) -> Head:
        """The place before the first event: nothing is ever removed."""
        return self.genesis

    async def base(self) -> None:
        """There is none below the first event."""

    def clock(self) -> int:
        """Return the database's time as this host knows it."""
        return self._clock.now()

    async def open(self) -> None:
        """Open the pools of the reads."""
        await self._reader.open()
        await self._past.open()

    async def connect(self) -> None:
        """Open the writer's connection, which measures the clock."""
        await self._writer.connect()

    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        """Add whole transactions directly after `after`: all of them, or none."""
        await self._writer.append(events, after=after)

    async def restore(
        self, events: Sequence[StoredEvent], *, after: Head, identity: UUID
    ) -> None:
        """Add whole transactions as they were; an empty log takes over `identity`."""
        await self._restorer.restore(events, after=after, identity=identity)
        if identity != self.identity:
            await self._become(identity)

    async def _become(self, identity: UUID) -> None:
        """Go on as the log that was taken over."""
        self.identity = identity
        self.genesis = Head(position=0, hash=genesis_hash(identity), time=0)
        self._reader.identity = identity
        self._past.become(identity)
        await self._writer.aclose()
        self._writer = Writer(self._config, identity, self._clock)

    def send(
        self,
        events: Sequence[StoredEvent],
        *,
        after: Head,
        landed: Callable[[Exception | None], None],
    ) -> bool:
        """Begin an append at once, unless there is no connection."""
        return self._writer.send(events, after=after, landed=landed)

    @property
    def overlaps(self) -> bool:
        """They go out in one pipeline."""
        return True

    def turn(self, after: Head) -> AbstractAsyncContextManager[Turn]:
        """Wait in a fair queue for the right to append next, and read what is new."""
        return self._writer.turn(after)

    async def read_on(self, after: Head) -> list[StoredEvent]:
        """Return whole transactions after a place, some thousands of events at most."""
        return await self._writer.read_on(after)

    async def head(self) -> Head:
        """Return the last place in the log."""
        return await self._reader.place(statements.HEAD, {}) or self.genesis

    async def place(self, position: int) -> Head | None:
        """Return the place at a position, None where the log has not got there."""
        if position == 0:
            return self.genesis
        if position > POSITION_MAX:
            return None
        return await self._reader.place(statements.PLACE, {"position": position})

    async def locate(self, time: int) -> Head:
        """Return the last place whose time is not after `time`."""
        return await self._reader.place(statements.LOCATE, {"time": time}) or (
            self.genesis
        )

    async def commit_of(self, position: int) -> Head | None:
        """Return the place at the end of the transaction that `position` is part of."""
        if position == 0:
            return self.genesis
        if position > POSITION_MAX:
            return None
        return await self._reader.place(statements.COMMIT_OF, {"position": position})

    async def read(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        where: Filter = ANY,
        reverse: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[list[StoredEvent]]:
        """Yield events with `after < position <= until`, in chunks, in order."""
        async for chunk in self._past.read(
            after=after, until=until, where=where, reverse=reverse, limit=limit
        ):
            yield chunk

    def replay(self, *, after: int, until: int) -> AsyncGenerator[list[StoredEvent]]:
        """Yield all events in a range, as fast as they can be had."""
        return self._reader.replay(after=after, until=until)

    def audit(self, *, after: int, until: int) -> AsyncGenerator[list[AuditedEvent]]:
        """Yield what is stored in a range, unchecked, as fast as it can be had."""
        return integrity.audit(self._reader, after=after, until=until)

    async def unguarded(self) -> list[str]:
        """Return the triggers that are missing or switched off."""
        return await integrity.unguarded(self._reader)

    async def check_redactor(self) -> None:
        """Check that our role owns the table."""
        await integrity.check_redactor(self._reader)

    async def redact(
        self, position: int, *, body: bytes, salt: bytes, before: bytes, announced: int
    ) -> bool:
        """Replace body and salt of an event, as the guard of the table lets us."""
        return await integrity.redact(
            self._reader,
            position,
            body=body,
            salt=salt,
            before=before,
            announced=announced,
        )

    async def latest(self, *, where: Filter, until: int) -> list[StoredEvent]:
        """Return the last event of each key at or before `until`."""
        last = min(until, POSITION_MAX)
        return await self._past.ask(
            last, lambda reader: reader.latest(where=where, until=last)
        )

    async def previous(
        self, places: Sequence[tuple[str, int]]
    ) -> list[StoredEvent | None]:
        """Return for each key and position the last event of the key before it."""
        last = max((position for _, position in places), default=0)
        return await self._past.ask(last, lambda reader: reader.previous(places))

    async def pick(self, positions: Sequence[int]) -> list[StoredEvent]:
        """Return the events at these positions, in order of position."""
        return await self._reader.pick(positions)

    async def activity(self, *, after: int, until: int, top: int) -> Activity:
        """Count the events in a range, on the server."""
        last = min(until, POSITION_MAX)
        binds = {"after": min(after, last), "until": last, "top": top}
        rows = await self._past.ask(
            last, lambda reader: reader.rows(statements.ACTIVITY, binds)
        )
        return activity_of(rows)

    async def storage(self) -> Storage:
        """Return what the log takes on the server's disk."""
        rows = await self._reader.rows(statements.STORAGE)
        ((snapshot_bytes,),) = await self._reader.rows(statements.STORAGE_SNAPSHOTS)
        return storage_of(rows, snapshot_bytes=snapshot_bytes)

    @property
    def listening(self) -> bool:
        """Whether notifications are heard now."""
        return self.listener.connected

    def connections(self) -> Connections:
        """Return how the connections to the server stand."""
        return Connections(
            writer=self._writer.connected,
            listener=self._hears(),
            **self._reader.connections(),
        )

    def _hears(self) -> bool | None:
        expected = self._config.evstore.notify and not self.listener.pooled
        return self.listener.connected if expected else None

    async def wait(self, after: int, *, seconds: float) -> None:
        """Return when there may be events after `after`, at the latest in `seconds`."""
        del after  # a notification does not tell how far the log has got
        await self.listener.wait(seconds)

    async def settle(self) -> None:
        """Commit something behind what is visible, so that it is replicated as well.

        Raises:
            UnavailableError: the commit was not acknowledged.
        """
        await self._writer.settle()

    async def beat(self, instance: Instance, *, renewal: bool = False) -> bool:
        """Record a heartbeat of this instance; return whether it stands."""
        row = await self._reader.row(
            statements.BEAT,
            {
                "id": instance.id,
                "position": instance.position,
                "digest": instance.digest,
                "code_version": instance.code_version,
                "knows": instance.knows or self._knows,
                "projections": list(instance.projections),
                "renewal": renewal,
            },
        )
        assert row is not None, "the statement returns one row"
        stands: bool = row[0]
        return stands

    async def tend(self) -> None:
        """See to the next partition."""
        await self._reader.row(statements.ENSURE_PARTITION)

    async def expire(self, instance: UUID, *, seconds: float) -> float:
        """Forget an instance that has not been seen for so long, by the server's clock."""
        row = await self._reader.row(
            statements.EXPIRE, {"id": instance, "seconds": seconds}
        )
        return 0.0 if row is None else row[0]

    async def instances(self) -> list[Instance]:
        """Return the last heartbeat of each instance, newest first."""
        rows = await self._reader.rows(statements.INSTANCES, binary=True)
        return instances_of(rows)

    async def snapshots(self) -> list[Snapshot]:
        """Return all snapshots, the one of the highest position first."""
        return await stored.snapshots(self._reader)

    def load_snapshot(self, snapshot: Snapshot) -> AsyncGenerator[bytes]:
        """Yield the chunks that are there, as fast as they can be had."""
        return stored.load(self._reader, snapshot)

    async def save_snapshot(
        self, stamp: Stamp, chunks: AsyncIterable[bytes], *, code_version: str
    ) -> Snapshot | None:
        """Keep a snapshot, whole or not at all, and prune older ones."""
        return await stored.save(self._reader, stamp, chunks, code_version=code_version)

    async def drop_snapshots(
        self, snapshots: Sequence[UUID] | None = None, *, since: int = 0
    ) -> int:
        """Drop these snapshots, or all, of positions from `since` on."""
        return await stored.drop(self._reader, snapshots, since=since)

    def abort(self) -> None:
        """Break off what the writer is at; the server may still finish it."""
        self._writer.abort()

    async def aclose(self) -> None:
        """Let go of all connections."""
        await self._writer.aclose()
        await self._restorer.aclose()
        await self._past.aclose()
        await self._reader.aclose()
