"""How the copy of the log in memory follows the log in the cluster.

One LIST fills it. From then on each change is either our own, or one that the watch
brings, or one that is asked for by its name: that of the position after the head. The
watch is for speed alone; whoever needs to know where the log ends asks for the next
name, which the API server answers from a quorum of etcd.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from evstore.clock import boot_microseconds
from evstore.errors import DivergedError, StoreError, UnavailableError
from evstore.log.failures import ForeignLogError, UnreadableError

from . import objects
from .client import GONE, Client, GoneError
from .copy import Copy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from uuid import UUID

    from anyio.abc import TaskStatus

    from evstore.log.ledger import Ledger
    from evstore.model import Head, StoredEvent

    from .shelf import Shelf

logger = logging.getLogger(__name__)

CONFIRMED_SECONDS_MAX: Final = 1800
WATCH_SECONDS: Final = 240
# Bookmarks come about once a minute where nothing else does.
SILENCE_SECONDS_MAX: Final = 150.0
PAUSE_SECONDS_MAX: Final = 5.0
_PAUSE_SECONDS_MIN: Final = 0.05


class _WatchEvent(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _WatchError(msgspec.Struct):
    code: int = 0
    message: str = ""


_decode_event: Final = msgspec.json.Decoder(_WatchEvent).decode
_decode_error: Final = msgspec.json.Decoder(_WatchError).decode


class Feed:
    """Keeps a copy of one log up to date."""

    def __init__(self, client: Client, shelf: Shelf, identity: UUID) -> None:
        self._client = client
        self._shelf = shelf
        self.copy = Copy(identity)
        self.watching = False
        self._grown = anyio.Event()
        self._confirmed_at: int | None = None
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

    def adopt(self, events: Sequence[StoredEvent], metadata: objects.Metadata) -> None:
        """Take in events that we appended directly after the head.

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
        self._confirm()

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
            message = f"change {change.metadata.name} holds no events that can be read"
            raise UnavailableError(f'{message}; "evstore verify" tells more') from error
        # Somebody else may have taken it in meanwhile.
        if copy is self.copy and events[0].position == copy.head.position + 1:
            copy.adopt(events, change.metadata)
            self._wake()

    async def load(self, identity: UUID) -> None:
        """Read the whole log, in place of what was read before."""
        copy = Copy(identity)
        whole = True
        async for page in self._shelf.changes():
            for change in page:
                # What lies past a gap is no part of the log.
                whole = whole and objects.position_of(change) == copy.head.position + 1
                if whole:
                    check_order(change, copy)
                    copy.adopt(await self._shelf.events(change), change.metadata)
        self.copy = copy
        await self.catch_up()
        self._confirm()
        self._wake()

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
            await self._check_end()
            await self.catch_up()
        except ForeignLogError:
            raise
        except DivergedError as error:
            logger.warning("reading the whole log anew: %s", error)
            await self.reload()
        else:
            self._confirm()

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

    def _confirm(self) -> None:
        self._confirmed_at = boot_microseconds()
        self._confirmed_failures = self._client.failures

    async def ensure_confirmed(self) -> None:
        """Make sure that our head was the log's not long ago, and no failure since.

        A server that failed in between may have come back with an older state.
        """
        if (
            self._confirmed_at is None
            or self._confirmed_failures != self._client.failures
            or boot_microseconds() - self._confirmed_at > CONFIRMED_SECONDS_MAX * 1e6
        ):
            await self.refresh()

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
                    await self.catch_up()
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
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        path = self._shelf.path(objects.CHANGES)
        stream = self._client.stream(path, query=query, silence=SILENCE_SECONDS_MAX)
        async with stream as lines:
            self.watching = True
            self._begin()
            async for line in lines:
                yield await self._heed(line)

    async def _heed(self, line: bytes) -> str:
        event = _decode_event(line)
        match event.type:
            case "ERROR":
                error = _decode_error(event.object)
                if error.code == GONE:
                    raise GoneError("")
                raise UnavailableError(error.message)
            case "ADDED":
                change = objects.decode_change(event.object)
                if objects.position_of(change) > self.head.position + 1:
                    await self.catch_up()
                await self._take(change)
                return change.metadata.resource_version
            case "MODIFIED":
                change = objects.decode_change(event.object)
                self.copy.renew(await self._shelf.events(change))
                return change.metadata.resource_version
            case _:
                if event.type == "DELETED":
                    self._confirmed_at = None  # perhaps it was our last one
                return objects.decode_bare(event.object).metadata.resource_version


def check_order(change: objects.Change, copy: Copy) -> None:
    """Check that a change follows the last event of a copy.

    Raises:
        ForeignLogError: it is of another log.
        DivergedError: it follows another event.
    """
    if change.spec.log != str(copy.identity):
        message = f"change {change.metadata.name} is of another log"
        raise ForeignLogError(message)
    if change.spec.after != copy.head.hash.hex():
        name, position = change.metadata.name, copy.head.position
        message = f"change {name} does not follow event {position} as it was read"
        advice = "where the cluster was set back to a backup, it has to be deleted"
        raise DivergedError(f"{message}; {advice}")
