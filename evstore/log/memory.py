"""A log in a list: the same contract, and nothing survives the process.

It is a real log, not a fake: deciding, folding and watching run the same code on it.
Several stores of one process and event loop may share one.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - an append lands in the loop's next turn
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
import msgspec

from evstore.clock import to_datetime, to_microseconds, wall_microseconds
from evstore.codec import body_digest, genesis_hash
from evstore.errors import DivergedError
from evstore.model import ANY, Filter, Head, Operation, StoredEvent

from .contract import SNAPSHOTS_KEPT
from .failures import HeadMovedError
from .ledger import Ledger
from .shapes import AuditedEvent, Instance, Snapshot, Stamp

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        Callable,
        Sequence,
    )
    from uuid import UUID

    from evstore.tally import Activity


class MemoryLog:
    """A log that lives in this process alone."""

    def __init__(self) -> None:
        self.identity: UUID = uuid4()
        self.genesis = Head(position=0, hash=genesis_hash(self.identity), time=0)
        self._ledger = Ledger(self.genesis)
        self._instances: dict[UUID, Instance] = {}
        self._snapshots: dict[UUID, tuple[Snapshot, list[bytes]]] = {}
        self._saving = anyio.Lock()
        self._grown = anyio.Event()
        self._turn = anyio.Lock()

    @property
    def floor(self) -> Head:
        """The place before the first event: nothing is ever removed."""
        return self.genesis

    async def base(self) -> None:
        """There is none below the first event."""

    def clock(self) -> int:
        """Return the host's time."""
        return wall_microseconds()

    async def head(self) -> Head:
        """Return the last place in the log."""
        return self._ledger.head

    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        """Add whole transactions directly after `after`: all of them, or none."""
        self._append(events, after)

    def _append(self, events: Sequence[StoredEvent], after: Head) -> None:
        if self._ledger.head != after:
            raise HeadMovedError
        self._ledger.extend(events)
        self._grown.set()
        self._grown = anyio.Event()

    async def restore(
        self, events: Sequence[StoredEvent], *, after: Head, identity: UUID
    ) -> None:
        """Add whole transactions as they were; an empty log takes over `identity`."""
        if identity != self.identity:
            if self._ledger.top or after.position:
                raise HeadMovedError
            self.identity = identity
            self.genesis = Head(position=0, hash=genesis_hash(identity), time=0)
            self._ledger = Ledger(self.genesis)
        self._append(events, after)

    def send(
        self,
        events: Sequence[StoredEvent],
        *,
        after: Head,
        landed: Callable[[Exception | None], None],
    ) -> bool:
        """Append in a moment; see the log's contract."""

        def land() -> None:
            try:
                self._append(events, after)
            except HeadMovedError as error:
                landed(error)
            else:
                landed(None)

        asyncio.get_running_loop().call_soon(land)
        return True

    @property
    def overlaps(self) -> bool:
        """As far as a list can tell: it holds nobody up."""
        return True

    @asynccontextmanager
    async def turn(self, after: Head) -> AsyncGenerator[MemoryLog._Turn]:
        """Wait in a fair queue for the right to append next, and read what is new."""
        async with self._turn:
            yield MemoryLog._Turn(self, await self.read_on(after))

    class _Turn:
        def __init__(self, log: MemoryLog, following: list[StoredEvent]) -> None:
            self._log = log
            self.following = following

        async def read_on(self, after: Head) -> list[StoredEvent]:
            return await self._log.read_on(after)

        async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
            await self._log.append(events, after=after)

    async def connect(self) -> None:
        """Nothing to reach."""

    async def read_on(self, after: Head) -> list[StoredEvent]:
        """Return whole transactions after a place, some thousands of events at most."""
        if self._ledger.place(after.position) != after:
            message = f"the log has no event {after.position} with this hash"
            raise DivergedError(message)
        return self._ledger.following(after.position)

    async def place(self, position: int) -> Head | None:
        """Return the place at a position, None where the log has not got there."""
        return self._ledger.place(position)

    async def locate(self, time: int) -> Head:
        """Return the last place whose time is not after `time`."""
        return self._ledger.locate(time)

    async def commit_of(self, position: int) -> Head | None:
        """Return the place at the end of the transaction that `position` is part of."""
        return self._ledger.commit_of(position)

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
        async for chunk in self._ledger.read(
            after=after, until=until, where=where, reverse=reverse, limit=limit
        ):
            yield chunk

    async def replay(
        self, *, after: int, until: int
    ) -> AsyncGenerator[list[StoredEvent]]:
        """Yield all events with `after < position <= until`, as fast as they come."""
        async for chunk in self.read(after=after, until=until):
            yield chunk

    async def audit(
        self, *, after: int, until: int
    ) -> AsyncGenerator[list[AuditedEvent]]:
        """Yield what is stored in a range, in order."""
        async for chunk in self.read(after=after, until=until):
            yield [
                AuditedEvent(**msgspec.structs.asdict(event), stored_size=event.size)
                for event in chunk
            ]

    async def unguarded(self) -> list[str]:
        """Return nothing: there is nothing around a list that could be missing."""
        return []

    async def check_redactor(self) -> None:
        """Return at once: whoever has the list owns it."""

    async def redact(
        self, position: int, *, body: bytes, salt: bytes, before: bytes, announced: int
    ) -> bool:
        """Replace body and salt of an event; keep the digest of what was there first."""
        assert announced <= self._ledger.top, "it was announced before"
        event = self._ledger.event(position)
        digest = body_digest(event.salt, event.body)
        if digest != before:
            return False
        self._ledger.replace(
            msgspec.structs.replace(
                event,
                body=msgspec.Raw(body),
                salt=salt,
                body_digest=event.body_digest or digest,
            )
        )
        return True

    async def latest(self, *, where: Filter, until: int) -> list[StoredEvent]:
        """Return the last event of each key at or before `until`."""
        return self._ledger.latest(where=where, until=until)

    async def previous(
        self, places: Sequence[tuple[str, int]]
    ) -> list[StoredEvent | None]:
        """Return for each key and position the last event of the key before it."""
        return self._ledger.previous(places)

    async def pick(self, positions: Sequence[int]) -> list[StoredEvent]:
        """Return the events at these positions, in order of position."""
        return self._ledger.pick(positions)

    async def activity(self, *, after: int, until: int, top: int) -> Activity:
        """Count the events in a range."""
        return self._ledger.activity(after=after, until=until, top=top)

    async def storage(self) -> None:
        """There is no disk."""

    @property
    def listening(self) -> bool:
        """Always: an append wakes whoever waits."""
        return True

    def connections(self) -> None:
        """There are none."""

    async def wait(self, after: int, *, seconds: float) -> None:
        """Return when there may be events after `after`, at the latest in `seconds`."""
        if self._ledger.top > after:
            return
        with suppress(TimeoutError), anyio.fail_after(seconds):
            await self._grown.wait()

    async def settle(self) -> None:
        """Return at once: what is in the list is as safe as it gets."""

    async def beat(self, instance: Instance, *, renewal: bool = False) -> bool:
        """Record a heartbeat of this instance; return whether it stands."""
        if self._instances.pop(instance.id, None) is None and renewal:
            return False
        self._instances[instance.id] = msgspec.structs.replace(
            instance, seen_at=to_datetime(self.clock())
        )
        return True

    async def tend(self) -> None:
        """Nothing to do."""

    async def expire(self, instance: UUID, *, seconds: float) -> float:
        """Forget an instance that has not been seen for so long, by the host's clock."""
        found = self._instances.get(instance)
        if found is None:
            return 0.0
        assert found.seen_at is not None, "heartbeats have a time"
        left = seconds - (self.clock() - to_microseconds(found.seen_at)) / 1e6
        if left > 0:
            return left
        del self._instances[instance]
        return 0.0

    async def instances(self) -> list[Instance]:
        """Return the heartbeats of all instances, newest first."""
        return list(self._instances.values())[::-1]

    async def snapshots(self) -> list[Snapshot]:
        """Return all snapshots, the one of the highest position first."""
        found = [snapshot for snapshot, _ in self._snapshots.values()]
        return sorted(
            found, key=lambda each: (each.stamp.head.position, each.taken_at)
        )[::-1]

    async def load_snapshot(self, snapshot: Snapshot) -> AsyncGenerator[bytes]:
        """Yield the chunks that are there, in order."""
        for chunk in self._snapshots.get(snapshot.id, (snapshot, []))[1]:
            yield chunk

    async def save_snapshot(
        self, stamp: Stamp, chunks: AsyncIterable[bytes], *, code_version: str
    ) -> Snapshot | None:
        """Keep a snapshot; see the log's contract."""
        try:
            self._saving.acquire_nowait()
        except anyio.WouldBlock:
            return None
        try:
            parts = [chunk async for chunk in chunks]
        finally:
            self._saving.release()
        return self._keep(stamp, parts, code_version)

    def _keep(
        self, stamp: Stamp, parts: list[bytes], code_version: str
    ) -> Snapshot | None:
        place = self._ledger.place(stamp.head.position)
        if stamp.log != self.identity or place != stamp.head:
            return None
        since = self._ledger.since(stamp.head.position)
        if any(event.operation is Operation.REDACTED for event in since):
            return None
        snapshot = Snapshot(
            id=uuid4(),
            stamp=stamp,
            chunks=len(parts),
            size=sum(map(len, parts)),
            checksum=sha256(b"".join(parts)).digest(),
            taken_at=to_datetime(self.clock()),
            code_version=code_version,
        )
        self._snapshots[snapshot.id] = (snapshot, parts)
        self._prune(stamp)
        return snapshot

    def _prune(self, stamp: Stamp) -> None:
        """Keep the last two of a label. A day is longer than this log can tell."""
        alike = [
            each.id
            for each, _ in self._snapshots.values()
            if each.stamp.label == stamp.label
        ]
        for superfluous in alike[:-SNAPSHOTS_KEPT]:
            del self._snapshots[superfluous]

    async def drop_snapshots(
        self, snapshots: Sequence[UUID] | None = None, *, since: int = 0
    ) -> int:
        """Drop these snapshots, or all, of positions from `since` on; return how many."""
        dropped = [
            each.id
            for each, _ in self._snapshots.values()
            if (snapshots is None or each.id in snapshots)
            and each.stamp.head.position >= since
        ]
        for identity in dropped:
            del self._snapshots[identity]
        return len(dropped)

    def abort(self) -> None:
        """Nothing is ever under way."""

    async def aclose(self) -> None:
        """Nothing to let go of."""
