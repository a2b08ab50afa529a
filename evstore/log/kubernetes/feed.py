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
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from evstore.clock import boot_microseconds
from evstore.errors import DivergedError, StoreError, UnavailableError
from evstore.log.failures import ForeignLogError, UnreadableError

from . import base, objects, watches
from .answers import GoneError
from .copy import Copy, check_order

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence
    from uuid import UUID

    from anyio.abc import TaskStatus

    from evstore.log.ledger import Ledger
    from evstore.model import Head, StoredEvent

    from .client import Client
    from .shelf import Shelf

logger = logging.getLogger(__name__)

CONFIRMED_SECONDS_MAX: Final = 1800
PAUSE_SECONDS_MAX: Final = 5.0
_PAUSE_SECONDS_MIN: Final = 0.05


class Feed:
    """Keeps a copy of one log up to date."""

    def __init__(self, client: Client, shelf: Shelf, identity: UUID) -> None:
        self._client = client
        self._shelf = shelf
        self.copy = Copy(identity)
        self.watching = False
        self._grown = anyio.Event()
        self._own = ""
        # When we have last begun to look at where the log ends, and where that was.
        self._confirmed_at: int | None = None
        self._confirmed = 0
        self._confirmed_failures = 0
        self._started: Callable[[], None] | None = None

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

    def adopt(
        self, events: Sequence[StoredEvent], metadata: objects.Metadata, *, began: int
    ) -> None:
        """Take in events that we began to append directly after the head, by boot time.

        Nobody is woken: who waits does so for what others append.

        Raises:
            DivergedError: the cluster has lost what was before them.
        """
        try:
            self.copy.adopt(events, metadata)
        except DivergedError:
            self.copy.uid = ""  # the object at our head is not what it was
            self._confirmed_at = None
            raise
        self._confirm(began)

    async def _take(self, change: objects.Change) -> None:
        """Take in a change, if it is the one that follows the head.

        Raises:
            DivergedError: it begins there, and follows another event than our last.
            UnavailableError: it holds no events.
        """
        copy = self.copy
        if objects.position_of(change) != copy.head.position + 1:
            return
        check_order(change, copy)
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
            await self._take(change)

    async def refresh(self) -> None:
        """Take in all that was in the log when this was called, as a quorum has it.

        Where the log has lost our last event, it is read anew.

        Raises:
            ForeignLogError: another log is there now.
            UnavailableError: the cluster does not answer.
        """
        try:
            await self._reach_end()
        except ForeignLogError:
            raise
        except DivergedError as error:
            logger.warning("reading the whole log anew: %s", error)
            await self.reload()

    async def _reach_end(self) -> None:
        """Take in what follows, and make sure that our head is the log's.

        Raises:
            DivergedError: the log has lost our last event, or was compacted beyond it.
        """
        # A process may be suspended at any point: what is confirmed is as of now.
        began = boot_microseconds()
        await self._check_end()
        await self.catch_up()
        if not _recent(self._confirmed_at):
            floor = (await self._shelf.log()).floor
            if floor > self._confirmed:
                message = f"the log was compacted beyond event {self._confirmed}"
                raise DivergedError(message)
        self._confirm(began)

    async def reload(self) -> None:
        """Read the whole log anew.

        Raises:
            ForeignLogError: another log is there now.
        """
        identity = await self._shelf.identity()
        if identity != self.copy.identity:
            message = f"the log in namespace {self._client.namespace} is another one"
            raise ForeignLogError(message)
        await self.load(identity)

    async def _check_end(self) -> None:
        """Check that the object that holds our last event is there, and the same."""
        copy = self.copy
        uid, first = copy.uid, copy.last_first
        if first is None:
            return
        found = await self._shelf.uid(first)
        if found != uid and copy is self.copy and copy.uid == uid:
            message = f"the log has lost event {first}"
            raise DivergedError(message)

    def _confirm(self, began: int) -> None:
        self._confirmed_at = began
        self._confirmed = self.head.position
        self._confirmed_failures = self._client.failures

    async def ensure_confirmed(self) -> int:
        """Make sure that our head was the log's not long ago, and no failure since.

        Returns when it was, for `is_void`. A server that failed in between may have come
        back with an older state.
        """
        if (
            self._confirmed_at is None
            or self._confirmed_failures != self._client.failures
            or not _recent(self._confirmed_at)
        ):
            await self.refresh()
        assert self._confirmed_at is not None, "refreshing has confirmed it"
        return self._confirmed_at

    async def is_void(self, position: int, *, confirmed: int) -> bool:
        """Whether a change counts for nothing that was just created at a position.

        `confirmed` is when the place before it was known to be the head. Not long after
        that, nothing that had its name before can have been old enough to be removed.
        """
        return not _recent(confirmed) and position <= (await self._shelf.log()).floor

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

    async def change_with(self, position: int) -> objects.Change | None:
        """Return the change that holds a position, as the cluster has it now."""
        first = self.copy.first_of(position)
        return None if first is None else await self._shelf.change(first)

    # Following.

    async def wait(self, after: int) -> None:
        """Return when the copy has events after a position."""
        while self.head.position <= after:
            await self._grown.wait()

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Follow by watches, one after the other, until cancelled.

        It has started when it hears of what is appended, or when it cannot.
        """
        self._started = task_status.started
        version = ""
        pause = _PAUSE_SECONDS_MIN
        while True:
            try:
                if not version:
                    version = await self._shelf.moment()
                    await self.refresh()
                async for reached in self._watch(version):
                    version, pause = reached, _PAUSE_SECONDS_MIN
            except (
                GoneError,
                StoreError,
                UnreadableError,
                msgspec.DecodeError,
            ) as error:
                # Whatever it was: asking by name leaves no gap.
                version = ""
                logger.debug("the watch ended: %s", error)
            finally:
                self.watching = False
                self._begin()
            await anyio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            pause = min(pause * 2, PAUSE_SECONDS_MAX)

    def _begin(self) -> None:
        """Tell, once, that following has started."""
        started, self._started = self._started, None
        if started is not None:
            started()

    async def _watch(self, version: str) -> AsyncGenerator[str]:
        """Watch once; yield the versions from which another watch can go on."""
        path = self._shelf.path(objects.CHANGES)
        async with watches.watching(self._client, path, version) as told:
            self.watching = True
            self._begin()
            async for each in told:
                yield await self._heed(each)

    async def _heed(self, told: watches.Told) -> str:
        """Take in what a line brings; return the version from which to go on."""
        news = objects.decode_news(told.object)
        position = objects.position_of(news)
        match told.type:
            case watches.ADDED if self._is_new(news, position):
                if position > self.head.position + 1:
                    await self.catch_up()
                await self._take(objects.decode_change(told.object))
            case watches.DELETED:
                self._confirmed_at = None  # perhaps it was our last one
                if position > self.ledger.floor.position:
                    await self.learn_floor()
            case watches.MODIFIED:
                change = objects.decode_change(told.object)
                self.copy.renew(await self._shelf.events(change))
            case _:
                pass  # a bookmark, or what we have
        return news.metadata.resource_version

    def _is_new(self, news: objects.News, position: int) -> bool:
        """Whether somebody else has created a change after our head."""
        ours = news.spec is not None and news.spec.hash == self._own
        return position > self.head.position and not ours


def _recent(confirmed: int | None) -> bool:
    """Whether nothing after a place can have been removed since it was confirmed."""
    if confirmed is None:
        return False
    return boot_microseconds() - confirmed <= CONFIRMED_SECONDS_MAX * 1e6


def _unreadable(position: int) -> UnavailableError:
    message = f"what is stored at position {position} cannot be read"
    return UnavailableError(f'{message}; "evstore verify" tells more')
