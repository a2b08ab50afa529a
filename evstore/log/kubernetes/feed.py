"""How the copy of the log in memory follows the log in the cluster.

One LIST fills it. From then on each change is either our own, or one that the watch
brings, or one that is asked for by its name: that of the position after the head. The
watch is for speed alone; whoever needs to know where the log ends asks for the next
name, which the API server answers from a quorum of etcd.

Changes that are an hour old may be removed, below a floor that is recorded first. So a
free name says something only for a while after a look at where the log ends; after that
the floor is looked at, too.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from evstore.clock import boot_microseconds
from evstore.errors import DivergedError, UnavailableError
from evstore.log.failures import ForeignLogError, UnreadableError

from . import base, objects
from .copy import Copy, check_order, version_of

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from uuid import UUID

    from evstore.log.ledger import Ledger
    from evstore.model import Head, StoredEvent

    from .client import Client
    from .shelf import Shelf

logger = logging.getLogger(__name__)

CONFIRMED_SECONDS_MAX: Final = 1800


class Look(msgspec.Struct, frozen=True):
    """When a look at the end of the log began, and how much had failed up to then."""

    began: int
    disturbances: int


class Feed:
    """Keeps a copy of one log up to date."""

    def __init__(self, client: Client, shelf: Shelf, identity: UUID) -> None:
        self._client = client
        self._shelf = shelf
        self.copy = Copy(identity)
        self._grown = anyio.Event()
        self._own = ""
        # When we have last begun to look at where the log ends, and where that was.
        self._confirmed_at: int | None = None
        self._confirmed = 0
        self._confirmed_disturbances = 0
        self._upsets = 0
        self._loading = anyio.Lock()

    @property
    def ledger(self) -> Ledger:
        """The events that the copy has."""
        return self.copy.ledger

    @property
    def head(self) -> Head:
        """The end of the copy."""
        return self.copy.head

    def _wake(self) -> None:
        self._grown.set()
        self._grown = anyio.Event()

    @contextmanager
    def appending(self, ending: bytes) -> Generator[None]:
        """Leave it to the body to take in an append of our own that ends with this hash.

        What the watch brings of it, before or after its answer, is not looked into.
        """
        self._own = ending.hex()
        try:
            yield
        finally:
            self._own = ""

    def is_new(self, news: objects.News) -> bool:
        """Whether somebody else has created a change after our head."""
        ours = news.spec is not None and news.spec.hash == self._own
        return objects.position_of(news) > self.head.position and not ours

    def look(self) -> Look:
        """Return what tells later how long ago now is, and what has failed since."""
        return Look(boot_microseconds(), self._disturbances)

    @property
    def _disturbances(self) -> int:
        return self._client.failures + self._upsets

    def upset(self) -> None:
        """Take nothing for confirmed any more, as something has failed or is gone."""
        self._upsets += 1

    def adopt(
        self, events: Sequence[StoredEvent], metadata: objects.Metadata, *, look: Look
    ) -> None:
        """Take in events that we have appended directly after the head since a look.

        Nobody is woken: who waits does so for what others append.

        Raises:
            DivergedError: the cluster has lost what was before them.
        """
        if metadata.resource_version.isdecimal() and (
            version_of(metadata) <= self.copy.version
        ):
            self._distrust()
            message = "the cluster was set back to an earlier state"
            raise DivergedError(message)
        self.copy.adopt(events, metadata)
        self._confirm(look)

    def _distrust(self) -> None:
        """Read the log anew before anything else is taken from the copy."""
        self.copy.uid = ""  # the object at our head is not what it was
        self._confirmed_at = None

    async def check_before(self, first: int | None, uid: str, *, since: Look) -> None:
        """Check that a change is there still, if anything has failed since a look.

        The server may have come back with an older state in between, and what has been
        created then stands behind a gap.

        Raises:
            DivergedError: it is not, and what follows it is no part of the log.
        """
        if first is None or self._disturbances == since.disturbances:
            return
        if await self._shelf.uid(first) != uid:
            self._distrust()
            message = f"the log has lost event {first}"
            raise DivergedError(message)

    async def take(self, change: objects.Change) -> None:
        """Take in a change, if it is the one that follows the head.

        Raises:
            DivergedError: it begins there, and follows another event than our last.
            UnavailableError: it holds no events.
        """
        copy = self.copy
        if objects.position_of(change) != copy.head.position + 1:
            return
        check_order(change, copy)
        if version_of(change.metadata) <= copy.version:
            # Ours was written anew since, or the cluster was set back.
            await self._check_end()
        try:
            events = await self._shelf.events(change)
        except UnreadableError as error:
            raise _unreadable(error.position) from error
        # Somebody else may have taken it in meanwhile.
        if copy is self.copy and events[0].position == copy.head.position + 1:
            copy.adopt(events, change.metadata)
            self._wake()

    async def load(self, identity: UUID) -> None:
        """Read the whole log, in place of what was read before.

        Raises:
            ForeignLogError: there is a change of another log.
            DivergedError: there is a change that does not follow the one before it.
            UnavailableError: the cluster does not answer, or what is stored is damaged.
        """
        async with self._loading:
            await self._load(identity)

    async def _load(self, identity: UUID) -> None:
        while True:
            copy = await self._read(identity)
            if copy is None:
                continue
            self.copy = copy
            self._confirmed_at, self._confirmed = None, copy.ledger.floor.position
            try:
                await self._reach_end()
            except ForeignLogError:
                raise
            except DivergedError:
                continue  # it was set back, or compacted, since the list
            self._wake()
            return

    async def _read(self, identity: UUID) -> Copy | None:
        """Read what there is; None where some of it was removed meanwhile."""
        try:
            copy = Copy(identity, await base.read(self._shelf))
        except UnreadableError as error:
            raise _unreadable(error.position) from error
        damaged: UnreadableError | None = None
        try:
            await self._list_into(copy)
        except UnreadableError as error:
            damaged = error
        if damaged is None:
            return copy
        if (await self._shelf.log()).floor > copy.ledger.floor.position:
            return None
        raise _unreadable(damaged.position) from damaged

    async def _list_into(self, copy: Copy) -> None:
        whole = True
        async for page in self._shelf.changes():
            for change in page:
                position = objects.position_of(change)
                if position <= copy.ledger.floor.position:
                    continue  # void, or about to be removed
                # What lies past a gap is no part of the log.
                if whole and position != copy.head.position + 1:
                    whole = False
                    logger.warning(
                        "change %s is behind a gap, and so no part of the log: event %d "
                        'has been lost or deleted; "evstore verify" tells more',
                        change.metadata.name,
                        copy.head.position + 1,
                    )
                if whole:
                    check_order(change, copy)
                    copy.adopt(await self._shelf.events(change), change.metadata)

    async def catch_up(self) -> None:
        """Take in what follows, change by change, until there is none."""
        while True:
            change = await self._shelf.change(self.head.position + 1)
            if change is None:
                return
            await self.take(change)

    async def refresh(self) -> None:
        """Take in all that was in the log when this was called, as a quorum has it.

        Where the log has lost our last event, it is read anew.

        Raises:
            ForeignLogError: another log is there now.
            UnavailableError: the cluster does not answer.
        """
        while True:
            copy = self.copy
            try:
                await self._reach_end()
            except ForeignLogError:
                raise
            except DivergedError as error:
                async with self._loading:
                    if copy is not self.copy:
                        continue  # another task has read it anew
                    logger.warning("reading the whole log anew: %s", error)
                    await self._reload()
            return

    async def _reach_end(self) -> None:
        """Take in what follows, and make sure that our head is the log's.

        Raises:
            DivergedError: the log has lost our last event, or was compacted beyond it.
        """
        while True:
            # A process may be suspended at any point: what is confirmed is as of now.
            copy, look = self.copy, self.look()
            await self._check_end()
            await self.catch_up()
            if not _recent(self._confirmed_at):
                floor = (await self._shelf.log()).floor
                if floor > self._confirmed:
                    message = f"the log was compacted beyond event {self._confirmed}"
                    raise DivergedError(message)
            if copy is self.copy:
                self._confirm(look)
                return

    async def _reload(self) -> None:
        """Read the whole log anew.

        Raises:
            ForeignLogError: another log is there now.
        """
        identity = await self._shelf.identity()
        if identity != self.copy.identity:
            message = f"the log in namespace {self._client.namespace} is another one"
            raise ForeignLogError(message)
        await self._load(identity)

    async def _check_end(self) -> None:
        """Check that the object that holds our last event is there, and the same."""
        while True:
            copy = self.copy
            uid, first = copy.uid, copy.last_first
            if first is None or await self._shelf.uid(first) == uid:
                return
            if copy is self.copy and copy.uid == uid:
                message = f"the log has lost event {first}"
                raise DivergedError(message)

    def _confirm(self, look: Look) -> None:
        self._confirmed_at = look.began
        self._confirmed = self.head.position
        self._confirmed_disturbances = look.disturbances

    async def ensure_confirmed(self) -> Look:
        """Make sure that our head was the log's not long ago, and no failure since.

        Returns the look that has told so. A server that failed in between may have come
        back with an older state.
        """
        if (
            self._confirmed_at is None
            or self._confirmed_disturbances != self._disturbances
            or not _recent(self._confirmed_at)
        ):
            await self.refresh()
        assert self._confirmed_at is not None, "refreshing has confirmed it"
        return Look(self._confirmed_at, self._confirmed_disturbances)

    async def is_void(self, position: int, *, confirmed: Look) -> bool:
        """Whether a change counts for nothing that was just created at a position.

        `confirmed` is the look by which the place before it was the head. Not long after
        that, nothing that had its name before can have been old enough to be removed.
        """
        if _recent(confirmed.began):
            return False
        return position <= (await self._shelf.log()).floor

    async def learn_floor(self) -> None:
        """Forget what was compacted, but for the state at the floor."""
        floor = (await self._shelf.log()).floor
        copy = self.copy
        if copy.ledger.floor.position < floor < copy.head.position:
            copy.compact(floor)

    async def settle_redactions(self) -> None:
        """Read events again whose redaction was announced and is not done in the copy."""
        for position in list(self.copy.pending):
            change = await self.change_with(position)
            if change is not None:
                self.copy.renew(await self._shelf.events(change))

    async def renew(self, change: objects.Change) -> None:
        """Take in a change that was written anew, if the copy has it."""
        if self.copy.first_of(objects.position_of(change)) is not None:
            events = await self._shelf.events(change)
            self.copy.renew(events)

    async def change_with(self, position: int) -> objects.Change | None:
        """Return the change that holds a position, as the cluster has it now."""
        first = self.copy.first_of(position)
        return None if first is None else await self._shelf.change(first)

    async def wait(self, after: int) -> None:
        """Return when the copy has events after a position."""
        while self.head.position <= after:
            await self._grown.wait()


def _recent(confirmed: int | None) -> bool:
    """Whether nothing after a place can have been removed since it was confirmed."""
    if confirmed is None:
        return False
    return boot_microseconds() - confirmed <= CONFIRMED_SECONDS_MAX * 1e6


def _unreadable(position: int) -> UnavailableError:
    message = f"what is stored at position {position} cannot be read"
    return UnavailableError(f'{message}; "evstore verify" tells more')
