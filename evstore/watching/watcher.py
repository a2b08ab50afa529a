"""One watcher: what it has seen, what comes next, and up to where that is all.

What is handed out goes in batches: events that pass, then the bookmark up to which
that was everything. Both come from one look at the tail or at the log, so a bookmark
never leads the events before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import anyio

from evstore.bookmark import Bookmark
from evstore.clock import boot_microseconds
from evstore.codec import canonical
from evstore.errors import DivergedError, InvalidError, UnavailableError
from evstore.folds.resources import record_of
from evstore.model import Filter, Operation
from evstore.past.listing import has_labels
from evstore.redaction import announcement_of, left_by

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Callable,
        Collection,
        Iterable,
        Mapping,
    )

    from evstore.folds.projections import Projections
    from evstore.log import Log
    from evstore.model import Head, Record, StoredEvent

    from .tail import Tail

INITIAL_EVENTS_MAX: Final = 500
INITIAL_BYTES_MAX: Final = 8 * 1024 * 1024
RECORDS_A_TURN: Final = 1_000
BOOKMARK_SECONDS: Final = 5.0
RETRY_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0)


class Batch(NamedTuple):
    """Events that pass, in order, and the bookmark behind them, where one is due."""

    events: list[StoredEvent]
    bookmark: Bookmark | None = None


class Watcher:
    """Follows the log from a place, for one consumer that pulls.

    Args:
        log: for what the tail does not hold.
        tail: what this process has applied last.
        projections: gives the state as it is, which is always at the tail's position.
        where: which keys are watched.
        labels: only resources that have all of these labels after an event, or had
            them before it.
        after: where to begin: a position, a bookmark, or None for everything that
            exists.
        bookmarks: whether batches come with bookmarks.
    """

    def __init__(  # noqa: PLR0913
        self,
        log: Log,
        tail: Tail,
        projections: Callable[[], Projections],
        *,
        where: Filter,
        labels: Mapping[str, str],
        after: int | Bookmark | None,
        bookmarks: bool,
    ) -> None:
        self._log = log
        self._tail = tail
        self._projections = projections
        self._where = where
        self._labels = labels
        self._after = after
        self._bookmarks = bookmarks
        self._generation = tail.generation
        self._begun = False
        self._position = 0
        # What matches, by key, and its version.
        self._members: dict[str, int] = {}
        self._existing: _Existing | None = None
        self._reading: _Reading | None = None
        # Whether events were handed out that no bookmark covers yet.
        self._uncovered = False
        self._covered = 0
        self._covered_at = boot_microseconds()

    def check(self) -> None:
        """Check that the log is still the one that is followed.

        Raises:
            DivergedError: it lost events that this process had applied.
            CompactedError: it was compacted beyond what this process had applied.
        """
        self._tail.check_unbroken(self._generation)

    async def following(self) -> Batch | None:
        """Return what comes next; wait for it. None once the store is closed.

        Once it has begun, a log that cannot be reached is waited for.

        Raises:
            InvalidError: the position to begin at is beyond the head.
            DivergedError: the log is not the one that was followed, or lost its end.
            CompactedError: some of what comes next was removed.
            UnavailableError: where to begin cannot be looked up, or the store was
                closed before the log had been read.
            SchemaError: this program cannot read what follows.
        """
        if not self._begun:
            await self._begin()
            self._begun = True
        failures = 0
        while True:
            self.check()
            try:
                batch = await self._step()
            except UnavailableError:
                if self._tail.closed:
                    raise
                self._reading = None
                await anyio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
                continue
            failures = 0
            if batch is None or batch.events or batch.bookmark:
                return batch

    async def aclose(self) -> None:
        """Let go of what is being read."""
        if self._reading is not None:
            await self._reading.chunks.aclose()

    # Where it begins.

    async def _begin(self) -> None:
        if self._after is None:
            # At one position: the state moves on while it is searched for labels.
            projections = self._projections()
            head = projections.head
            self._generation = self._tail.generation
            self._position = self._covered = head.position
            records = await self._matching(select(projections, self._where))
            if self._labels:
                self._members = {each.key: each.version for each in records}
            records.sort(key=_version)
            self._existing = _Existing(head, records)
            return
        self._position = self._covered = await self._place(self._after)
        if self._labels:
            self._members = await self._members_at(self._position)

    async def _place(self, after: int | Bookmark) -> int:
        """Return the position of a place that is in the log."""
        here = self._projections().head
        if not isinstance(after, Bookmark):
            if after > here.position:
                head = (await self._log.head()).position
                if after > head:
                    message = f"{after} is not a position up to the head, {head}"
                    raise InvalidError(message, path="after")
            return after
        if after.log != self._log.identity:
            message = f"the bookmark is of the log {after.log}, and this is another one"
            raise DivergedError(message)
        if (after.position, after.hash) != (here.position, here.hash):
            place = await self._log.place(after.position)
            if place is None or place.hash != after.hash:
                lost = "has not" if place is None else "has another event at"
                message = f"the log {lost} position {after.position} of the bookmark"
                raise DivergedError(f"{message}; list and watch again")
        return after.position

    async def _members_at(self, position: int) -> dict[str, int]:
        """Return what matches right after a position: keys and versions."""
        projections = self._projections()
        if position == projections.position:
            records = await self._matching(select(projections, self._where))
        elif position == 0:
            return {}
        else:
            events = await self._log.latest(where=self._where, until=position)
            found = (record_of(event) for event in events)
            records = await self._matching(filter(None, found))
        return {record.key: record.version for record in records}

    async def _matching(self, records: Iterable[Record]) -> list[Record]:
        """Return the records that have the labels; others run meanwhile."""
        found = list(records)
        if not self._labels:
            return found
        matching: list[Record] = []
        for start in range(0, len(found), RECORDS_A_TURN):
            part = found[start : start + RECORDS_A_TURN]
            matching += [each for each in part if has_labels(each.body, self._labels)]
            await anyio.lowlevel.checkpoint()
        return matching

    # What comes next.

    async def _step(self) -> Batch | None:
        if self._existing is not None:
            return await self._next_existing(self._existing)
        if self._reading is not None:
            return await self._read_on(self._reading)
        if self._position >= self._tail.position:
            if self._tail.closed:
                return None
            self._tail.check_readable()
            return await self._wait()
        # A consumer that never waits must not keep the others from running.
        await anyio.lowlevel.checkpoint()
        return await self._catch_up()

    async def _wait(self) -> Batch | None:
        seconds = self._seconds_to_bookmark()
        quiet = await self._tail.wait(self._where, seconds=seconds)
        self._position = max(self._position, quiet)
        if self._position < self._tail.position:
            return await self._catch_up()
        self.check()
        # All up to the state's place was looked at, and none of it passes.
        return self._batch([], self._projections().head)

    async def _catch_up(self) -> Batch:
        self.check()
        events = self._tail.after(self._position)
        if events is None:
            until = self._projections().head
            chunks = self._log.read(
                after=self._position, until=until.position, where=self._where
            )
            self._reading = _Reading(chunks, until)
            return await self._read_on(self._reading)
        self._position = events[-1].position
        return self._batch(self._passing(events), self._boundary(events))

    async def _read_on(self, reading: _Reading) -> Batch:
        chunk = await anext(reading.chunks, None)
        # The log may have diverged while it was read.
        self.check()
        if chunk is None:
            self._reading = None
            self._position = reading.until.position
            return self._batch([], reading.until)
        try:
            unlabelled = await self._unlabelled(chunk)
        except UnavailableError:
            await reading.chunks.aclose()
            raise
        self.check()
        self._position = chunk[-1].position
        return self._batch(self._passing(chunk, unlabelled), self._boundary(chunk))

    async def _unlabelled(self, events: list[StoredEvent]) -> set[int]:
        """Return which versions have lost the labels, of those that events redact.

        The fields of an announcement that is read here are those of the stored body,
        and what matches may be in another shape. So the log says what is left.
        """
        found = filter(None, map(announcement_of, events)) if self._labels else ()
        versions = {
            each.position
            for each in found
            if any(f"{field}/".startswith("/labels/") for field in each.fields)
        }
        left: list[StoredEvent] = []
        for version in sorted(versions):
            left += await self._log.pick([version])
        return {
            each.position for each in left if not has_labels(each.body, self._labels)
        }

    async def _next_existing(self, existing: _Existing) -> Batch:
        records = existing.next_records()
        if not records:
            self._existing = None
            self._uncovered = False
            return Batch([], self._bookmark(existing.head))
        events = await self._log.pick([record.version for record in records])
        self.check()
        if [each.hash for each in events] != [each.hash for each in records]:
            message = "the log lost events of the state; list and watch again"
            raise DivergedError(message)
        existing.done += len(records)
        return Batch(events)

    def _passing(
        self, events: list[StoredEvent], unlabelled: Collection[int] = ()
    ) -> list[StoredEvent]:
        passing = events
        if not self._where.everything:
            passing = list(filter(self._where.accepts, events))
        if self._labels:
            passing = [
                each for each in passing if self._is_or_was_member(each, unlabelled)
            ]
        return passing

    def _is_or_was_member(
        self, event: StoredEvent, unlabelled: Collection[int]
    ) -> bool:
        was = event.key in self._members
        match event.operation:
            case Operation.REDACTED:
                if was and self._loses_labels(event, unlabelled):
                    del self._members[event.key]
                return was
            case Operation.DELETED:
                is_now = False
            case _:
                is_now = has_labels(event.body, self._labels)
        if is_now:
            self._members[event.key] = event.position
        elif was:
            del self._members[event.key]
        return is_now or was

    def _loses_labels(self, event: StoredEvent, unlabelled: Collection[int]) -> bool:
        """Whether a redaction takes one of the labels from the version that matches."""
        announced = announcement_of(event)
        assert announced is not None, "the caller has looked"
        if announced.position != self._members[event.key]:
            return False
        if announced.position in unlabelled:
            return True
        body = canonical({"labels": dict(self._labels)}, "labels")
        return not has_labels(left_by(event, body, announced), self._labels)

    # Bookmarks.

    def _batch(self, events: list[StoredEvent], place: Head | None) -> Batch:
        """Return a batch; `place` is up to where it was all, if that ends a transaction."""
        self._uncovered = self._uncovered or bool(events)
        if place is None or not self._bookmarks:
            return Batch(events)
        if not self._uncovered:
            if self._seconds_to_bookmark():
                return Batch(events)
            if place.position <= self._covered:
                # Nothing new is covered: the next one is due an interval from now.
                self._covered_at = boot_microseconds()
                return Batch(events)
        return Batch(events, self._bookmark(place))

    def _boundary(self, events: list[StoredEvent]) -> Head | None:
        """Return the place of the last event if a bookmark may be there."""
        last = events[-1]
        if not self._bookmarks or last.position != last.commit:
            return None
        return last.head

    def _bookmark(self, place: Head) -> Bookmark:
        self._uncovered = False
        self._covered = place.position
        self._covered_at = boot_microseconds()
        return Bookmark(
            log=self._log.identity, position=place.position, hash=place.hash
        )

    def _seconds_to_bookmark(self) -> float | None:
        if not self._bookmarks:
            return None
        passed = (boot_microseconds() - self._covered_at) / 1e6
        return max(0.0, BOOKMARK_SECONDS - passed)


class _Reading(NamedTuple):
    """A pass over the log, up to the state's place when it began."""

    chunks: AsyncGenerator[list[StoredEvent]]
    until: Head


class _Existing:
    """What existed at one place, in order of version, and how much has been yielded."""

    def __init__(self, head: Head, records: list[Record]) -> None:
        self.head = head
        self.done = 0
        self._records = records

    def next_records(self) -> list[Record]:
        """Return the next ones, as many as may be in memory at a time."""
        found: list[Record] = []
        size = 0
        for record in self._records[self.done : self.done + INITIAL_EVENTS_MAX]:
            size += len(record.body)
            if found and size > INITIAL_BYTES_MAX:
                break
            found.append(record)
        return found


def select(projections: Projections, where: Filter) -> Iterable[Record]:
    """Return the resources of a state that a filter accepts."""
    resources = projections.resources
    if where.type is None:
        records: Iterable[Record] = resources
    elif where.mesh is not None and where.name is not None:
        record = resources.get(f"{where.type}/{where.mesh}/{where.name}")
        return [] if record is None else [record]
    else:
        records = resources.of_type(where.type)
    if where.mesh is None and where.name is None:
        return records
    return (record for record in records if where.accepts_key(record.key))


def _version(record: Record) -> int:
    return record.version
