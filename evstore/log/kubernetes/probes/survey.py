"""The log as it lies in the cluster: each change looked at once, whatever is wrong."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from evstore.doctor.kubernetes.facts import Log
from evstore.log.failures import UnreadableError
from evstore.log.kubernetes import objects
from evstore.log.kubernetes.compaction import old_until
from evstore.log.kubernetes.copy import genesis_of
from evstore.redaction import announcement_of

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from evstore.log.kubernetes.objects import Change, LogObject
    from evstore.log.kubernetes.shelf import Shelf
    from evstore.model import StoredEvent
    from evstore.redaction import Announcement

# What an event takes in a copy besides body and metadata, with the places of indexes.
EVENT_BYTES: Final = 1_000
_SECOND: Final = 1_000_000
_TRIES: Final = 3


class Survey:
    """What is found on one way through the log; `now` is the server's time.

    Of the positions `wanted`, `hashes` has those that the log has. `identity` is the
    log's, None where there is none yet. `chunks` are all that changes refer to, `found`
    is the object of the log that all of it was compared with.
    """

    def __init__(
        self,
        shelf: Shelf,
        found: LogObject | None,
        *,
        now: int,
        wanted: AbstractSet[int] = frozenset(),
    ) -> None:
        floor = found.spec.floor if found else None
        self.found = found
        self.identity = found.spec.identity if found else None
        self.floor = floor.position if floor else 0
        self.hashes: dict[int, str] = {self.floor: floor.hash} if floor else {}
        self.chunks: set[str] = set()
        self._shelf = shelf
        self._now = now
        self._wanted = wanted
        self._head = self.floor
        self._hash = floor.hash if floor else ""
        self._time: int | None = floor.time if floor else None
        self._version = 0
        self._firsts: list[int] = []
        self._events = 0
        self._bytes = 0
        self._below = 0
        self._gap: int | None = None
        self._problem = ""
        self._behind: list[str] = []
        self._damaged: list[str] = []
        self._announced: dict[int, list[Announcement]] = {}

    @property
    def last(self) -> str:
        """The name of the last change; "" where there is none."""
        return objects.name_of(self._firsts[-1]) if self._firsts else ""

    @property
    def broken(self) -> bool:
        """Whether there is anything that should not be."""
        return bool(self._behind or self._damaged)

    async def run(self) -> None:
        """Look at all changes there are."""
        async for page in self._shelf.changes():
            for change in page:
                await self._look(change)

    async def _look(self, change: Change) -> None:
        self.chunks |= {part.name for part in change.spec.chunks}
        position = objects.position_of(change)
        if position <= self.floor:
            old = change.metadata.is_older_than(old_until(self._now))
            self._below += bool(position) and old
            return
        if not self._behind and self._follows(change, position):
            await self._read(change)
        else:
            self._behind.append(change.metadata.name)

    def _follows(self, change: Change, position: int) -> bool:
        """Whether a change follows the head; if not, it is noted why."""
        if not self._firsts and not self.floor:
            # In a log that was never compacted the first change says whose it is.
            self.identity = change.spec.log
            self._hash = _genesis(change.spec.log)
        name, version = change.metadata.name, int(change.metadata.resource_version or 0)
        # One that was written anew, for a redaction, is newer than what follows it.
        original = change.metadata.generation == 1
        if position != self._head + 1:
            self._gap = self._head + 1
        elif change.spec.log != self.identity:
            self._problem = f"change {name} is of another log"
        elif change.spec.after != self._hash:
            self._problem = f"change {name} does not follow event {self._head:,}"
        elif original and version <= self._version:
            self._problem = f"change {name} is older than the one before it"
        else:
            self._version = version if original else self._version
            return True
        return False

    async def _read(self, change: Change) -> None:
        """Read a change; one that cannot be read says itself where it ends."""
        spec = change.spec
        first = objects.position_of(change)
        try:
            events = await self._shelf.events(change)
        except UnreadableError:
            self._damaged.append(change.metadata.name)
            events = []
        self._firsts.append(first)
        self._head = max(first, spec.position)
        self._hash = spec.hash
        self._events += len(events) or self._head - first + 1
        if events:
            self._head, self._hash = events[-1].position, events[-1].hash.hex()
            self._time = events[-1].time
        for event in events:
            self._heed(event)

    def _heed(self, event: StoredEvent) -> None:
        self._bytes += event.size + EVENT_BYTES
        if event.position in self._wanted:
            self.hashes[event.position] = event.hash.hex()
        try:
            announced = announcement_of(event)
        except msgspec.DecodeError:
            return  # it was not made by us: the proof tells
        if announced is not None and announced.position > self.floor:
            self._announced.setdefault(announced.position, []).append(announced)

    async def log(self, *, memory_bytes: int | None) -> Log:
        """Return what was found; looks once more at what was announced to go."""
        unfinished = [
            position
            for position, announced in sorted(self._announced.items())
            if not await self._is_done(position, announced)
        ]
        since = None if self._time is None else (self._now - self._time) / _SECOND
        return Log(
            objects=len(self._firsts),
            events=self._events,
            head=self._head,
            head_seconds=since,
            copy_bytes=self._bytes,
            memory_bytes=memory_bytes,
            gap=self._gap,
            behind=tuple(self._behind),
            problem=self._problem,
            damaged=tuple(self._damaged),
            below=self._below,
            redactions=tuple(unfinished),
        )

    async def _is_done(self, position: int, announced: list[Announcement]) -> bool:
        """Whether an event is without all that was announced to go, or is not there."""
        first = self._firsts[bisect_right(self._firsts, position) - 1]
        change = await self._shelf.change(first)
        try:
            events = await self._shelf.events(change) if change else []
            found = [event for event in events if event.position == position]
            return all(each.done(event) for event in found for each in announced)
        except (UnreadableError, msgspec.DecodeError):
            return False


async def survey(
    shelf: Shelf,
    found: LogObject | None,
    *,
    now: int,
    wanted: AbstractSet[int] = frozenset(),
) -> Survey:
    """Look at the log; where it was compacted meanwhile, once more."""
    tries = 0
    while True:
        done = Survey(shelf, found, now=now, wanted=wanted)
        await done.run()
        tries += 1
        if not done.broken or tries == _TRIES:
            return done
        found = await shelf.look()
        if found is None or found.floor == done.floor:
            return done


def _genesis(identity: str) -> str:
    try:
        return genesis_of(UUID(identity)).hash.hex()
    except ValueError:
        return ""  # no hash: what follows it is said not to
