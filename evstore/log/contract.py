"""The contract that every log keeps.

A log is one order of events, 1, 2, 3, ... without gaps. Appending is
compare-and-append: all of the events directly after a place that the caller has seen,
or none. `tests/contract` holds every log to what stands here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from evstore.model import ANY, Filter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from uuid import UUID

    from evstore.model import Head, StoredEvent
    from evstore.tally import Activity, Storage

    from .shapes import AuditedEvent, Base, Connections, Instance, Snapshot, Stamp

CHUNK_EVENTS: int = 500
CHUNK_BYTES_MAX: int = 8 * 1024 * 1024
SNAPSHOTS_KEPT: int = 2


class Turn(Protocol):
    """The right to append next, held for one append.

    `following` is what `Log.read_on` finds, read when nobody else could append any more.
    """

    following: list[StoredEvent]

    async def read_on(self, after: Head) -> list[StoredEvent]:
        """Read on as `Log.read_on` does; nobody else appends until the turn ends."""
        ...

    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        """Append as `Log.append` does, and end the turn."""
        ...


class Log(Protocol):
    """Where events live."""

    @property
    def identity(self) -> UUID:
        """The log's own id; no two logs share one, nor a hash."""
        ...

    @property
    def genesis(self) -> Head:
        """The place before the first event."""
        ...

    @property
    def floor(self) -> Head:
        """The place below which the history was removed; the genesis where none was.

        All that is asked about a place before it is refused with a `CompactedError`,
        except the genesis itself. It may rise while the log is open, where others compact
        the log.
        """
        ...

    async def base(self) -> Base | None:
        """Return what is certified of the state at the floor; None where it is genesis.

        Its place may be later than `floor` was.

        Raises:
            UnreadableError: what is stored is not what was certified.
            UnavailableError: the log cannot be reached.
        """
        ...

    def clock(self) -> int:
        """Return the log's time in microseconds since 1970; it may step."""
        ...

    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        """Add whole transactions directly after `after`: all of them, or none.

        Raises:
            HeadMovedError, BusyError, StampError, RejectedError: nothing was applied.
            InDoubtError: nobody knows; only the log can tell, so read on from `after`.
            UnavailableError: nothing was sent.
        """
        ...

    async def restore(
        self, events: Sequence[StoredEvent], *, after: Head, identity: UUID
    ) -> None:
        """Add whole transactions exactly as they were in the log `identity`.

        Nothing of them is checked but their place. An empty log takes over `identity`
        with the first of them, all or nothing, and has it from then on; whoever has it
        open as well finds another log. The database's owner may do that, no other role.

        Raises:
            HeadMovedError: nothing was applied: the log does not end at `after`, or is
                another one and not empty.
            UnavailableError: nobody knows; look at the head.
        """
        ...

    def send(
        self,
        events: Sequence[StoredEvent],
        *,
        after: Head,
        landed: Callable[[Exception | None], None],
    ) -> bool:
        """Begin an append at once and return, where that takes no waiting.

        False where it would: nothing was sent, and `append` is the way. While one is in
        flight a second may be sent, after the last event of the first: if the first
        fails, so does the second. `landed` is called from the event loop, in the order
        of the calls, with None or with what `append` would raise.
        """
        ...

    @property
    def overlaps(self) -> bool:
        """Whether the server works on two appends at a time.

        Where not, the second one sent only waits for the first, and one that is larger
        is faster than two.
        """
        ...

    def turn(self, after: Head) -> AbstractAsyncContextManager[Turn]:
        """Wait in a fair queue for the right to append next, and read what is new.

        Raises:
            DivergedError: the place is not in this log.
            UnavailableError: the turn did not come in time; nothing was applied.
        """
        ...

    async def connect(self) -> None:
        """Reach the log and measure its clock.

        Raises:
            DivergedError: another log is behind the address now.
            UnavailableError: it cannot be reached.
        """
        ...

    async def read_on(self, after: Head) -> list[StoredEvent]:
        """Return whole transactions after a place, some thousands of events at most.

        Empty where nothing follows.

        Raises:
            DivergedError: the place is not in this log: it lost its end, or it is
                another one.
            UnavailableError: the log cannot be reached.
        """
        ...

    async def head(self) -> Head:
        """Return the last place in the log."""
        ...

    async def place(self, position: int) -> Head | None:
        """Return the place at a position, None where the log has not got there."""
        ...

    async def locate(self, time: int) -> Head:
        """Return the last place whose time is not after `time`."""
        ...

    async def commit_of(self, position: int) -> Head | None:
        """Return the place at the end of the transaction that `position` is part of.

        None where the log has not got there.
        """
        ...

    def read(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        where: Filter = ANY,
        reverse: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[list[StoredEvent]]:
        """Yield events with `after < position <= until`, in chunks, in order.

        Without `until`, up to the head as it is when reading gets there. In reverse,
        what is left above the floor is yielded before it ends.

        Raises:
            CompactedError: some of them were removed.
        """
        ...

    def replay(self, *, after: int, until: int) -> AsyncGenerator[list[StoredEvent]]:
        """Yield all events with `after < position <= until`, as fast as they come.

        It holds a connection until it is closed.
        """
        ...

    def audit(self, *, after: int, until: int) -> AsyncGenerator[list[AuditedEvent]]:
        """Yield what is stored with `after < position <= until`, in order, unchecked.

        Positions may be missing. All of it is as of one moment.

        Raises:
            UnreadableError: what is stored at a position is no event; what lies before
                it has been yielded.
        """
        ...

    async def unguarded(self) -> list[str]:
        """Return why the log could be other than append-only, each as a statement."""
        ...

    async def check_redactor(self) -> None:
        """Check that we may redact, and drop the snapshots that may hold the body.

        Raises:
            ConfigError: only the owner of the tables may.
        """
        ...

    async def redact(
        self, position: int, *, body: bytes, salt: bytes, before: bytes, announced: int
    ) -> bool:
        """Replace body and salt of an event; keep the digest of what was there first.

        `announced` is the position of the event that announces it. False where the
        digest of what is there is no longer `before`.

        Raises:
            ConfigError: only the owner of the tables may.
        """
        ...

    async def latest(self, *, where: Filter, until: int) -> list[StoredEvent]:
        """Return the last event of each key at or before `until`.

        Redactions count as changes of nothing; a deleted resource has its deletion, but
        for one that is at or below the floor. In no particular order.
        """
        ...

    async def previous(
        self, places: Sequence[tuple[str, int]]
    ) -> list[StoredEvent | None]:
        """Return for each key and position the last event of the key before it.

        In the order of `places`, None where there is none. Redactions are passed over; a
        deleted resource has its deletion, but for one at or below the floor. All of them are in memory at once: ask for some
        hundreds at a time.
        """
        ...

    async def pick(self, positions: Sequence[int]) -> list[StoredEvent]:
        """Return the events at these positions, in order of position.

        Where the log has not got one of them, that is left out. All of them are in
        memory at once: ask for some hundreds at a time.
        """
        ...

    async def activity(self, *, after: int, until: int, top: int) -> Activity:
        """Count the events with `after < position <= until`, in several ways.

        Of actors and resources the `top` busiest are named.
        """
        ...

    async def storage(self) -> Storage | None:
        """Return what the log takes on disk; None where it is not on one."""
        ...

    @property
    def listening(self) -> bool:
        """Whether `wait` hears of appends at once; where not, it only times out."""
        ...

    def connections(self) -> Connections | None:
        """Return how the connections to the server stand; None where there is none."""
        ...

    async def wait(self, after: int, *, seconds: float) -> None:
        """Return when there may be events after `after`, at the latest in `seconds`."""
        ...

    async def settle(self) -> None:
        """Return when everything that is visible in the log is as safe as it gets.

        An append that was found by reading back may not be replicated yet.
        """
        ...

    async def beat(self, instance: Instance, *, renewal: bool = False) -> bool:
        """Record a heartbeat of this instance; return whether it stands.

        A renewal never brings back an instance that another one has expired: it returns
        False then. Such an instance needs another id.
        """
        ...

    async def tend(self) -> None:
        """Do what a log needs now and then, so that appends need not wait for it."""
        ...

    async def expire(self, instance: UUID, *, seconds: float) -> float:
        """Forget an instance that has not been seen for so long, by the log's clock.

        Returns how many seconds are left until it can be; 0 where no heartbeat of it is
        there any more, and then none will be: whatever it held can be taken.
        """
        ...

    async def instances(self) -> list[Instance]:
        """Return the last heartbeat of each instance, newest first.

        Instances that were not seen for a day are forgotten with the next heartbeat.
        """
        ...

    async def snapshots(self) -> list[Snapshot]:
        """Return all snapshots, the one of the highest position first.

        Also those of another log: a restored database may bring them along.

        Raises:
            ConfigError: our role lacks the rights: they came with a migration.
            UnavailableError: the log cannot be reached.
        """
        ...

    def load_snapshot(self, snapshot: Snapshot) -> AsyncGenerator[bytes]:
        """Yield the chunks that are there, in order, unchecked."""
        ...

    async def save_snapshot(
        self, stamp: Stamp, chunks: AsyncIterable[bytes], *, code_version: str
    ) -> Snapshot | None:
        """Keep a snapshot, whole or not at all, and prune older ones.

        Chunks are at most some MB each; a log may give up where the next is more than
        60 s in coming. None where another instance is saving one, the log has lost the
        place of the stamp, or an event was redacted after it: nothing was kept then. Of
        each label the last two are kept; of other labels of the projection, those that a
        running instance has or that are younger than a day.

        Raises:
            ConfigError: our role lacks the rights.
            UnavailableError: the log cannot be reached; nobody knows.
        """
        ...

    async def drop_snapshots(
        self, snapshots: Sequence[UUID] | None = None, *, since: int = 0
    ) -> int:
        """Drop these snapshots, or all, of positions from `since` on; return how many.

        One that is about to appear is waited for. One whose chunks still come may appear
        afterwards, but not where an event was redacted after it before this call.

        Raises:
            ConfigError: our role lacks the rights.
            UnavailableError: the log cannot be reached; nobody knows, and in a cluster
                some of them may be dropped.
        """
        ...

    def abort(self) -> None:
        """Break off what is under way, without cancelling it at the other side."""
        ...

    async def aclose(self) -> None:
        """Let go of all connections."""
        ...
