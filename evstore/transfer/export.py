"""Exports: a log, or a part of it, as lines from which it can be restored exactly."""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING

from evstore.codec import event_hash
from evstore.errors import CompactedError, DivergedError
from evstore.model import ANY, Filter
from evstore.past.history import microseconds

from .exported import Header, transaction_line

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from evstore.log import Log
    from evstore.model import StoredEvent
    from evstore.past.history import At


class Export:
    """An export under way: the header, then the lines of its transactions.

    `position` is how far it has got.
    """

    def __init__(self, log: Log, header: Header) -> None:
        self.header = header
        self.position = header.after
        self._log = log
        self._hash = bytes.fromhex(header.after_hash)

    async def lines(self) -> AsyncGenerator[bytes]:
        """Yield the lines one after another, some transactions at a time in memory.

        Raises:
            DivergedError: the hash chain is broken; names the position. What is there
                before it can be exported with `until`.
        """
        yield self.header.line()
        async with aclosing(self._transactions()) as transactions:
            async for events in transactions:
                yield transaction_line(events)
                self.position = events[-1].position

    async def _transactions(self) -> AsyncGenerator[list[StoredEvent]]:
        header = self.header
        whole = header.filter.everything
        pending: list[StoredEvent] = []
        chunks = (
            self._log.replay(after=header.after, until=header.until)
            if whole
            else self._log.read(
                after=header.after, until=header.until, where=header.filter
            )
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                if whole:
                    self._check(chunk)
                for event in chunk:
                    if pending and pending[0].commit != event.commit:
                        yield pending
                        pending = []
                    pending.append(event)
        if pending:
            yield pending

    def _check(self, events: Iterable[StoredEvent]) -> None:
        previous = self._hash
        for event in events:
            if event_hash(previous, event) != event.hash:
                message = f"the hash chain is broken at position {event.position}"
                raise DivergedError(message)
            previous = event.hash
        self._hash = previous


async def begin_export(
    log: Log,
    *,
    since: At | None = None,
    until: At | None = None,
    where: Filter = ANY,
) -> Export:
    """Begin an export of the events of a filter, up to the head as it is now.

    `since` and `until` are positions or times, both included; inside a transaction they
    mean the whole of it. Without a filter the result can be restored: from the first
    event into an empty log, from later ones behind a log that ends just before them.

    Raises:
        InvalidError: a moment is none.
        CompactedError: some of it was removed.
    """
    head = await log.head()
    last = head if until is None else await log.place(await _last(log, until))
    assert last is not None, "the end of a transaction has a place"
    first = 0 if since is None else await _before(log, since)
    before = await log.place(min(first, last.position))
    assert before is not None, "the end of a transaction has a place"
    floor = log.floor.position
    if before.position < min(floor, last.position):
        message = f"the log was compacted: export it since position {floor + 1}"
        raise CompactedError(message, oldest=floor)
    header = Header(
        log=log.identity,
        after=before.position,
        after_hash=before.hash.hex(),
        until=last.position,
        until_hash=last.hash.hex(),
        filter=where,
    )
    return Export(log, header)


async def _last(log: Log, until: At) -> int:
    if isinstance(until, datetime):
        return (await log.locate(microseconds(until, "until"))).position
    commit = await log.commit_of(until)
    return (await log.head() if commit is None else commit).position


async def _before(log: Log, since: At) -> int:
    """Return the end of the last transaction before the one that `since` is in."""
    if isinstance(since, datetime):
        return (await log.locate(microseconds(since, "since") - 1)).position
    before = max(0, since - 1)
    commit = await log.commit_of(before)
    if commit is None:
        return (await log.head()).position
    if commit.position == before:
        return before
    async for events in log.read(until=before, reverse=True):
        for event in events:
            if event.commit != commit.position:
                return event.position
    return 0
