"""Keeps the objects of a mirror as the state is: writes what differs, and no more.

Names are marked: by events of the log, by the watch of the cluster, by a comparison of
everything. One worker goes through the marked names, each once however often it was
marked, looks at the newest state, and writes at most once. What it knows of an object is
what its last write answered; what it hears of besides is somebody else's doing.
"""

from __future__ import annotations

import logging
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from evstore.background import background
from evstore.errors import ConfigError, StoreError, UnavailableError
from evstore.log.kubernetes.answers import GoneError

from . import content
from .cluster import MANAGER, RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from evstore.folds.resources import Resources
    from evstore.model import Record
    from evstore.watching.tail import Tail

    from .cluster import MirrorObjects, Warnings
    from .content import Seen
    from .pace import Pace

logger = logging.getLogger(__name__)

CHANGED: Final = "ChangedByHand"
CREATED: Final = "CreatedByHand"
DELETED: Final = "DeletedByHand"
PAUSE_SECONDS_MIN: Final = 0.1
PAUSE_SECONDS_MAX: Final = 10.0
_UNKNOWN: Final = "?"
_SLICE: Final = 200


class Keeper:
    """What one instance knows of the mirror while it is the one that writes."""

    def __init__(
        self,
        objects: MirrorObjects,
        warnings: Warnings,
        pace: Pace,
        *,
        resources: Callable[[], Resources],
        tail: Tail,
    ) -> None:
        self._objects = objects
        self._warnings = warnings
        self._pace = pace
        self._resources = resources
        self._tail = tail
        # By name of the object: the key it shows, and how the cluster has it.
        self._keys: dict[str, str] = {}
        self._seen: dict[str, Seen] = {}
        # What the watch has told and nobody has looked into: "" for gone.
        self._heard: dict[str, str] = {}
        self._marked: dict[str, None] = {}
        # Written or deleted without an answer: what turns up may be our own.
        self._unsure: set[str] = set()
        self._refused: dict[str, str] = {}
        self._stirred = anyio.Event()
        self._listed = anyio.Event()
        self._complaints: dict[str, str] = {}

    async def run(self) -> None:
        """Keep the mirror until cancelled."""
        async with background() as tasks:
            tasks.start_soon(self._follow_log)
            tasks.start_soon(self._follow_cluster)
            await self._listed.wait()
            await self._work()

    def _mark(self, name: str) -> None:
        self._marked[name] = None
        self._stirred.set()

    # What is to be looked at.

    async def _follow_log(self) -> None:
        """Mark what changes in the state."""
        position, generation = self._tail.position, self._tail.generation
        await self._mark_all()
        while True:
            events = None
            if generation == self._tail.generation:
                events = self._tail.after(position)
            if events is None:
                # Another history, or too far behind to know what has changed.
                position, generation = self._tail.position, self._tail.generation
                await self._mark_all()
            elif events:
                position = events[-1].position
                for event in events:
                    self._mark_key(event.key)
                await anyio.lowlevel.checkpoint()
            else:
                await self._tail.changed()

    def _mark_key(self, key: str) -> None:
        if content.is_mirrored(key):
            name = content.name_of(key)
            self._keys[name] = key
            self._mark(name)

    async def _mark_all(self) -> None:
        """Mark all that is, or may be, in the state or in the cluster."""
        for number, key in enumerate([each.key for each in self._resources()]):
            self._mark_key(key)
            if number % _SLICE == 0:
                await anyio.lowlevel.checkpoint()
        for name in [*self._keys, *self._seen]:
            self._mark(name)

    async def _follow_cluster(self) -> None:
        """Learn what there is, then mark what changes, until cancelled."""
        version = ""
        pause = PAUSE_SECONDS_MIN
        while True:
            try:
                if not version:
                    version = await self._list()
                async with aclosing(self._objects.watch(version)) as changes:
                    async for heard in changes:
                        version, pause = heard.reached, PAUSE_SECONDS_MIN
                        if heard.name:
                            self._hear(heard.name, heard.resource_version)
                self._complaints.pop("watching", None)
                pause = PAUSE_SECONDS_MIN
            except GoneError:
                version = ""
            except (StoreError, msgspec.DecodeError) as error:
                self._complain("watching", error)
            await anyio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            pause = min(pause * 2, PAUSE_SECONDS_MAX)

    def _hear(self, name: str, resource_version: str) -> None:
        self._heard[name] = resource_version
        self._mark(name)

    async def _list(self) -> str:
        """List everything once; return from where the watch goes on."""
        found: dict[str, Seen] = {}
        version = await self._objects.all(found)
        for name, seen in found.items():
            if not self._listed.is_set() and seen.source:
                self._seen[name] = seen
                self._mark(name)
            else:
                self._hear(name, seen.resource_version)
        for name in self._seen.keys() - found.keys():
            self._hear(name, "")
        self._listed.set()
        return version

    # Doing it.

    async def _work(self) -> None:
        pause = PAUSE_SECONDS_MIN
        while True:
            while not self._marked:
                self._stirred = anyio.Event()
                await self._stirred.wait()
            name = next(iter(self._marked))
            del self._marked[name]
            try:
                await self._settle(name)
                self._complaints.pop("writing", None)
                pause = PAUSE_SECONDS_MIN
            except StoreError as error:
                self._complain("writing", error)
                self._look_again(name)
                await anyio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
                pause = min(pause * 2, PAUSE_SECONDS_MAX)

    def _look_again(self, name: str) -> None:
        self._hear(name, _UNKNOWN)

    async def _settle(self, name: str) -> None:
        """Make an object what it should be, with one write at most."""
        heard = self._heard.pop(name, None)
        if heard is not None and heard != self._version_of(name):
            await self._judge(name)
        if not self._fits(name):
            await self._pace.ready()
        if self._fits(name):
            self._tidy(name)
            # Thousands may fit, one after the other.
            await anyio.lowlevel.checkpoint()
            return
        self._pace.took()
        record = self._wanted(name)
        if record is None:
            await self._remove(name)
        else:
            await self._show(name, record)

    def _version_of(self, name: str) -> str:
        seen = self._seen.get(name)
        return seen.resource_version if seen else ""

    def _wanted(self, name: str) -> Record | None:
        """Return what an object is to show; None where there is to be none."""
        key = self._keys.get(name)
        return self._resources().get(key) if key is not None else None

    def _fits(self, name: str) -> bool:
        """Whether there is nothing to do, or nothing that could be done."""
        seen, record = self._seen.get(name), self._wanted(name)
        if record is None:
            return seen is None or seen.leaving
        source = content.source_of(record)
        if self._refused.get(name) == source:
            return True
        return seen is not None and seen.source == source

    def _tidy(self, name: str) -> None:
        """Forget what is neither to be there nor is."""
        if self._wanted(name) is None:
            self._refused.pop(name, None)
            if name not in self._seen:
                self._keys.pop(name, None)

    async def _show(self, name: str, record: Record) -> None:
        document = content.document_of(record)
        seen = self._seen.get(name)
        try:
            written = await self._sure(
                name,
                self._objects.create(document)
                if seen is None
                else self._objects.replace(document, seen),
            )
        except RefusedError as error:
            self._refused[name] = content.source_of(record)
            logger.warning("%s cannot be mirrored: %s", record.key, error)
            return
        self._refused.pop(name, None)
        if written is None:
            self._look_again(name)
        else:
            self._seen[name] = written

    async def _remove(self, name: str) -> None:
        seen = self._seen[name]
        if await self._sure(name, self._objects.delete(name, seen)):
            # With a finalizer it is still there; then the watch tells.
            del self._seen[name]
            self._tidy(name)
        else:
            self._look_again(name)

    async def _sure(self, name: str, writing: Awaitable[Any]) -> Any:
        """Write; where no answer comes, remember that it may be done."""
        try:
            return await writing
        except UnavailableError:
            self._unsure.add(name)
            raise

    # What others have done.

    async def _judge(self, name: str) -> None:
        """See how an object is, and warn where it is somebody's doing."""
        found = await self._objects.get(name)
        before = self._seen.get(name)
        ours = name in self._unsure
        if found is None:
            missed = before is not None and not before.leaving and not ours
            if missed and self._wanted(name) is not None:
                assert before is not None
                await self._warn(name, before, DELETED, "deleted by hand")
            self._seen.pop(name, None)
        else:
            seen = content.seen_of(found)
            wanted = self._wanted(name) is not None
            reason = _blame(before, seen, wanted=wanted, ours=ours)
            if reason:
                editor = content.editor_of(found, but=MANAGER)
                what = "changed" if reason == CHANGED else "created"
                by = f", last written with {editor}" if editor else ""
                await self._warn(name, seen, reason, f"{what} by hand{by}")
            self._seen[name] = seen
        self._unsure.discard(name)

    async def _warn(self, name: str, seen: Seen, reason: str, what: str) -> None:
        record = self._wanted(name)
        done = (
            f"put back as the log has it, at version {record.version}"
            if record
            else "deleted, as the log has no such resource"
        )
        logger.warning("mirror object %s was %s; it is %s", name, what, done)
        message = f"{what}; {done}. A mirror only shows: use evstore to change anything"
        await self._pace.ready()
        self._pace.took()
        try:
            await self._warnings.tell(name, seen, reason, message)
        except ConfigError as error:
            # That we may not tell must not keep us from putting it back.
            self._complain("warnings", error)

    def _complain(self, about: str, error: Exception) -> None:
        """Say once what is in the way."""
        if str(error) != self._complaints.get(about):
            self._complaints[about] = str(error)
            logger.warning("cannot mirror, will try again: %s", error)


def _blame(before: Seen | None, seen: Seen, *, wanted: bool, ours: bool) -> str:
    """Return what somebody has done to an object; "" if it was a mirror's own writer."""
    if before is not None and before.resource_version == seen.resource_version:
        return ""
    if not seen.source:
        return CHANGED if wanted or before is not None else CREATED
    if before is None:
        return "" if ours or seen.leaving else CREATED
    # Somebody may have put back what he had kept of it.
    older = before.uid == seen.uid and seen.version < before.version
    return CHANGED if older or (before.uid != seen.uid and not ours) else ""
