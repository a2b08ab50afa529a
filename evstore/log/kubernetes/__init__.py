"""The log in a Kubernetes cluster: an append is an object named by its position.

Who reads this for the first time begins with `objects` and `writer`. From below:

- the API server: `access` (where it is, who we are), `client` (requests), `answers`,
  `listing`, `watches`, `dates` (its clock), `leases`;
- what is kept there: `objects` (shapes and names, no I/O), `shelf` (reading and writing
  them), `base` (the state at the floor), `snapshots`;
- the log: `copy` (in memory, no I/O), `feed` (keeps it up to date), `writer`, `turns`,
  `heartbeats`, and this module, which keeps the contract;
- what takes rights of its own: `proof` (redactions), `restoring`, `compaction`,
  `leftovers`;
- the kinds and the roles: `manifests`, `migrations`, `rights`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from evstore.background import background
from evstore.errors import DivergedError
from evstore.log.failures import ForeignLogError
from evstore.log.patience import patiently
from evstore.log.shapes import Connections, Instance
from evstore.model import ANY, Filter, Head, StoredEvent

from . import base, migrations, proof, restoring, rights
from .client import Client
from .compaction import Compactor, Plan
from .dates import DatedClock
from .feed import Feed
from .follower import Follower
from .heartbeats import Heartbeats
from .leases import Leases
from .shelf import Shelf
from .snapshots import Snapshots
from .turns import TURNS, Queue
from .writer import Turn, Writer

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        Callable,
        Sequence,
    )
    from uuid import UUID

    from anyio.abc import TaskGroup

    from evstore.config import Config
    from evstore.log.shapes import AuditedEvent, Base, Snapshot, Stamp
    from evstore.tally import Activity

__all__ = ["Compactor", "KubernetesLog", "Plan", "open_kubernetes"]

CONNECTIONS_MAX = 100


@asynccontextmanager
async def open_kubernetes(config: Config) -> AsyncGenerator[KubernetesLog]:
    """Open the log in a cluster whose kinds are installed.

    A cluster that cannot be used is tried again for `startTimeout`. All of the log is
    read once.

    Raises:
        SchemaError: the kinds are not at the version that this program needs.
        UnavailableError: the cluster cannot be reached.
        ConfigError: how the cluster is reached is not known, or it refuses us.
    """
    clock = DatedClock()
    limits = config.evstore.limits
    client = Client(
        config.kubernetes, seconds=limits.append_timeout, measure=clock.measure
    )
    try:
        shelf = Shelf(client)

        async def begin() -> Feed:
            await client.open()
            await migrations.check_version(client)
            feed = Feed(client, shelf, await shelf.identity())
            await feed.load(feed.copy.identity)
            return feed

        feed = await patiently(begin, seconds=limits.start_timeout)
        async with background() as tasks:
            follower = Follower(client, shelf, feed) if config.evstore.notify else None
            log = KubernetesLog(client, shelf, feed, clock, tasks, follower=follower)
            if follower is not None:
                await tasks.start(follower.run)
            try:
                yield log
            finally:
                # Before the tasks are cancelled: what is cut off closes at once.
                with anyio.CancelScope(shield=True):
                    await client.aclose()
    finally:
        with anyio.CancelScope(shield=True):
            await client.aclose()


class KubernetesLog:
    """A log in a cluster, as its contract has it."""

    def __init__(
        self,
        client: Client,
        shelf: Shelf,
        feed: Feed,
        clock: DatedClock,
        tasks: TaskGroup,
        *,
        follower: Follower | None,
    ) -> None:
        self._client = client
        self._shelf = shelf
        self._feed = feed
        self._clock = clock
        self._follower = follower
        self._connected = False
        leases = Leases(client)
        self._queue = Queue(leases, TURNS, seconds=client.seconds)
        self._writer = Writer(shelf, feed, self._queue, tasks)
        self._heartbeats = Heartbeats(leases, clock.now)
        self._snapshots = Snapshots(
            client, shelf, feed, leases, self._heartbeats, clock.now
        )

    @property
    def identity(self) -> UUID:
        """The log's own id."""
        return self._feed.copy.identity

    @property
    def genesis(self) -> Head:
        """The place before the first event."""
        return self._feed.ledger.genesis

    @property
    def floor(self) -> Head:
        """The place below which changes were removed."""
        return self._feed.ledger.floor

    async def base(self) -> Base | None:
        """Return what is certified of the state at the floor, as the cluster has it."""
        return await base.read(self._shelf)

    def clock(self) -> int:
        """Return the host's time, kept within what the server's dates allow."""
        return self._clock.now()

    async def connect(self) -> None:
        """Make sure that the cluster answers, and has this log."""
        if await self._shelf.identity() != self.identity:
            message = "another log is in the namespace now"
            raise ForeignLogError(message)
        await self._feed.refresh()
        self._connected = True

    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        """Add whole transactions directly after `after`: all of them, or none."""
        await self._writer.append(events, after=after)

    def send(
        self,
        events: Sequence[StoredEvent],
        *,
        after: Head,
        landed: Callable[[Exception | None], None],
    ) -> bool:
        """Begin an append at once, unless the cluster has never been reached."""
        return self._connected and self._writer.send(events, after=after, landed=landed)

    @property
    def overlaps(self) -> bool:
        """Never: the second is sent when the first stands."""
        return False

    async def restore(
        self, events: Sequence[StoredEvent], *, after: Head, identity: UUID
    ) -> None:
        """Add whole transactions as they were; an empty log takes over `identity`."""
        await restoring.restore(
            self._client,
            self._shelf,
            self._feed,
            events,
            after=after,
            identity=identity,
        )

    @asynccontextmanager
    async def turn(self, after: Head) -> AsyncGenerator[Turn]:
        """Wait in a fair queue for the right to append next, and read what is new."""
        async with self._queue.turn():
            yield Turn(self, self._writer, await self.read_on(after))

    # Reading: the copy, after a look at whether it is all there is.

    async def _reach(self, position: int | None) -> None:
        """Make sure that the copy goes up to a position, or to the log's head."""
        if position is None or position > self._feed.ledger.top:
            await self._feed.refresh()
        if self._feed.copy.pending:
            await self._feed.settle_redactions()

    async def read_on(self, after: Head) -> list[StoredEvent]:
        """Return whole transactions after a place, some hundreds of events at least."""
        found = self._feed.ledger.following(after.position)
        if not found or found[-1].position == self._feed.head.position:
            await self._feed.refresh()
        if self._feed.ledger.place(after.position) != after:
            message = f"the log has no event {after.position} with this hash"
            raise DivergedError(message)
        return self._feed.ledger.following(after.position)

    async def head(self) -> Head:
        """Return the last place in the log."""
        await self._feed.refresh()
        return self._feed.head

    async def place(self, position: int) -> Head | None:
        """Return the place at a position, None where the log has not got there."""
        await self._reach(position)
        return self._feed.ledger.place(position)

    async def locate(self, time: int) -> Head:
        """Return the last place whose time is not after `time`."""
        await self._reach(None)
        return self._feed.ledger.locate(time)

    async def commit_of(self, position: int) -> Head | None:
        """Return the place at the end of the transaction that `position` is part of."""
        await self._reach(position)
        return self._feed.ledger.commit_of(position)

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
        await self._reach(until)
        async for chunk in self._feed.ledger.read(
            after=after, until=until, where=where, reverse=reverse, limit=limit
        ):
            yield chunk

    async def replay(
        self, *, after: int, until: int
    ) -> AsyncGenerator[list[StoredEvent]]:
        """Yield all events in a range: they are in memory, no connection is held."""
        async for chunk in self.read(after=after, until=until):
            yield chunk

    async def latest(self, *, where: Filter, until: int) -> list[StoredEvent]:
        """Return the last event of each key at or before `until`."""
        await self._reach(until)
        return self._feed.ledger.latest(where=where, until=until)

    async def previous(
        self, places: Sequence[tuple[str, int]]
    ) -> list[StoredEvent | None]:
        """Return for each key and position the last event of the key before it."""
        await self._reach(max((position for _, position in places), default=0))
        return self._feed.ledger.previous(places)

    async def pick(self, positions: Sequence[int]) -> list[StoredEvent]:
        """Return the events at these positions, in order of position."""
        await self._reach(max(positions, default=0))
        return self._feed.ledger.pick(positions)

    async def activity(self, *, after: int, until: int, top: int) -> Activity:
        """Count the events in a range."""
        await self._reach(until)
        return self._feed.ledger.activity(after=after, until=until, top=top)

    async def storage(self) -> None:
        """The API server does not tell what etcd takes on its disks."""

    # Proof.

    def audit(self, *, after: int, until: int) -> AsyncGenerator[list[AuditedEvent]]:
        """Yield what the cluster has in a range, in order, unchecked."""
        return proof.audit(self._shelf, after=after, until=until)

    async def unguarded(self) -> list[str]:
        """Return the rights of our account that keep the log from being append-only."""
        return await rights.unguarded(self._client)

    async def check_redactor(self) -> None:
        """Check that our account has the rights of the owner."""
        await rights.check_redactor(self._client)

    async def redact(
        self, position: int, *, body: bytes, salt: bytes, before: bytes, announced: int
    ) -> bool:
        """Write the change that holds an event anew, with other body and salt."""
        return await proof.redact(
            self._shelf,
            self._feed,
            position,
            body=body,
            salt=salt,
            before=before,
            announced=announced,
        )

    # Following.

    @property
    def listening(self) -> bool:
        """Whether a watch is open."""
        return self._follower is not None and self._follower.watching

    def connections(self) -> Connections:
        """Return how the requests to the API server stand."""
        return Connections(
            writer=self._connected,
            listener=self._follower.watching if self._follower else None,
            readers=self._client.under_way,
            readers_idle=0,
            readers_wanted=0,
            readers_max=CONNECTIONS_MAX,
        )

    async def wait(self, after: int, *, seconds: float) -> None:
        """Return when there may be events after `after`, at the latest in `seconds`."""
        with anyio.move_on_after(seconds):
            await self._feed.wait(after)

    async def settle(self) -> None:
        """Return at once: what can be read was agreed on by a quorum of etcd."""

    # Instances.

    async def beat(self, instance: Instance, *, renewal: bool = False) -> bool:
        """Record a heartbeat of this instance; return whether it stands."""
        return await self._heartbeats.beat(instance, renewal=renewal)

    async def tend(self) -> None:
        """Nothing to do."""

    async def expire(self, instance: UUID, *, seconds: float) -> float:
        """Forget an instance that has not been seen for so long, by the log's clock."""
        return await self._heartbeats.expire(instance, seconds=seconds)

    async def instances(self) -> list[Instance]:
        """Return the last heartbeat of each instance, newest first."""
        return await self._heartbeats.instances()

    # Snapshots.

    async def snapshots(self) -> list[Snapshot]:
        """Return all snapshots, the one of the highest position first."""
        return await self._snapshots.all()

    def load_snapshot(self, snapshot: Snapshot) -> AsyncGenerator[bytes]:
        """Yield the chunks that are there, in order, unchecked."""
        return self._snapshots.load(snapshot)

    async def save_snapshot(
        self, stamp: Stamp, chunks: AsyncIterable[bytes], *, code_version: str
    ) -> Snapshot | None:
        """Keep a snapshot, whole or not at all, and prune older ones."""
        return await self._snapshots.save(stamp, chunks, code_version=code_version)

    async def drop_snapshots(
        self, snapshots: Sequence[UUID] | None = None, *, since: int = 0
    ) -> int:
        """Drop these snapshots, or all, of positions from `since` on; return how many."""
        return await self._snapshots.drop(snapshots, since=since)

    # Compaction.

    def compactor(self) -> Compactor:
        """Return what removes history; see `evstore.maintenance.compact`."""
        return Compactor(
            self._client, self._shelf, self._feed, self._snapshots, self._clock.now
        )

    # The end.

    def abort(self) -> None:
        """Break off the requests that are under way; the server may still do them."""
        self._client.abort()

    async def aclose(self) -> None:
        """Let go of all connections."""
        await self._client.aclose()
