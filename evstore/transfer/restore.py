"""Restoring a log from an export: the same identity, positions, times and hashes.

The hash chain is verified line by line as the lines are read, and events are handed to
the log as they are, some thousands at a time: nothing is decided again. No store should
be open on the log meanwhile; one that is finds another log, or more events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from evstore.codec import event_hash, genesis_hash
from evstore.commit.arguments import check_key
from evstore.errors import ConflictError, DivergedError, InvalidError
from evstore.keys import Key
from evstore.log import HeadMovedError
from evstore.model import Head

from .exported import ExportedLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from evstore.log import Log
    from evstore.model import StoredEvent

    from .exported import Header
    from .interchange import Line

BATCH_EVENTS: Final = 5_000
BATCH_BYTES: Final = 8 * 1024 * 1024


class Restored(msgspec.Struct, kw_only=True):
    """What a restore has done so far.

    `skipped` counts events that were in the log already; `position` is where the log
    ends.
    """

    lines: int = 0
    applied: int = 0
    skipped: int = 0
    position: int = 0


async def restore(
    log: Log,
    header: Header,
    lines: Iterable[Line],
    *,
    restored: Restored | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Restored:
    """Restore an export into a log that was never written, or go on with that.

    A log that has a beginning of the export, or what comes before a later part of it,
    gets the rest. `lines` are those after the header. `restored` is kept up to date, and
    returned; `advance` is called after each batch.

    Raises:
        InvalidError: the export is only a selection; or a line was changed, is missing,
            stands twice or in another order: names line and position. What stands
            before it is in the log, nothing of it is.
        DivergedError: the log holds something else.
        ConflictError: somebody writes to it meanwhile.
        UnavailableError: the log cannot be reached; the same again goes on.
    """
    restored = restored or Restored()
    if not header.filter.everything:
        message = "the export is a selection of the log's events and cannot be restored"
        raise InvalidError(f"{message}; its changes can be made again, with --restamp")
    restoring = _Restoring(log, header, restored, advance)
    await restoring.begin()
    try:
        for line in lines:
            await restoring.take(line)
    except InvalidError:
        # What is whole stays, whatever came after it.
        await restoring.flush()
        raise
    await restoring.flush()
    await restoring.finish()
    return restored


class _Restoring:
    """One restore under way: what was read, and what of it is not in the log yet."""

    def __init__(
        self, log: Log, header: Header, restored: Restored, advance: Callable[[], None]
    ) -> None:
        self._log = log
        self._header = header
        self._restored = restored
        self._advance = advance
        self._pending: list[StoredEvent] = []
        self._bytes = 0
        self._head = log.genesis  # of the log
        self._read = Head(  # of what was read
            position=header.after, hash=bytes.fromhex(header.after_hash), time=0
        )

    async def begin(self) -> None:
        """Find out whether the export belongs to the log, and where to go on.

        Raises:
            DivergedError: it does not.
        """
        log, header = self._log, self._header
        self._head = await log.head()
        self._restored.position = self._head.position
        genesis = Head(position=0, hash=genesis_hash(header.log), time=0)
        if log.identity != header.log:
            if self._head.position:
                message = (
                    f"this log is another one, {log.identity}, and the export is of"
                    f" {header.log}"
                )
                raise DivergedError(f"{message}; {_ADVICE}")
            self._head = genesis
        if header.after > self._head.position:
            message = f"the export begins after position {header.after}"
            raise DivergedError(
                f"{message}, but the log ends at {self._head.position}; restore what"
                " comes before first"
            )
        place = await log.place(header.after) if header.after else genesis
        if place is None or place.hash != self._read.hash:
            raise self._other(header.after)

    async def take(self, line: Line) -> None:
        """Verify a line; add its events to what is to be restored."""
        try:
            events = ExportedLine(line.number, line.content).events()
            self._verify(events)
        except InvalidError as error:
            message = f"line {line.number}: position {self._read.position + 1}: {error}"
            raise InvalidError(message) from None
        self._restored.lines += 1
        self._read = events[-1].head
        if self._read.position > self._head.position:
            self._pending += events
            self._bytes += sum(event.size for event in events)
            if len(self._pending) >= BATCH_EVENTS or self._bytes >= BATCH_BYTES:
                await self.flush()
            return
        self._restored.skipped += len(events)
        if self._read.position == self._head.position and self._read != self._head:
            raise self._other(self._head.position)

    def _verify(self, events: list[StoredEvent]) -> None:
        position, previous, time = self._read.position, self._read.hash, self._read.time
        for event in events:
            position += 1
            if event.position != position:
                raise InvalidError(_disorder(event.position, position))
            check_key(Key.from_text(event.key))
            if event.commit != events[-1].position:
                raise InvalidError("commit is not where the transaction ends")
            if event.time < time:
                raise InvalidError("time runs backwards")
            if event_hash(previous, event) != event.hash:
                message = "the hash does not follow from the line and the one before it"
                raise InvalidError(f"{message}: one of them was changed")
            previous, time = event.hash, event.time
        if position > self._header.until:
            message = f"lies behind {self._header.until}, where the header says it ends"
            raise InvalidError(message)

    async def flush(self) -> None:
        """Put what is pending into the log."""
        if not self._pending and self._log.identity == self._header.log:
            return
        events, self._pending, self._bytes = self._pending, [], 0
        try:
            await self._log.restore(events, after=self._head, identity=self._header.log)
        except HeadMovedError:
            message = (
                "somebody else has written to the log; nothing may use it meanwhile"
            )
            raise ConflictError(message) from None
        if events:
            self._head = events[-1].head
        self._restored.applied += len(events)
        self._restored.position = self._head.position
        self._advance()

    async def finish(self) -> None:
        """Check that everything was there that the header names, and is in the log.

        Raises:
            InvalidError: the end is missing.
            DivergedError: the log has grown past the export, by other events.
        """
        header = self._header
        if self._read.position < header.until:
            message = f"ends at position {self._read.position}, but its header says"
            raise InvalidError(f"{message} {header.until}: its end is missing")
        if self._read.hash.hex() != header.until_hash:
            message = "the last event is not the one that the header names"
            raise InvalidError(message)
        place = await self._log.place(self._read.position)
        if place is None or place.hash != self._read.hash:
            raise self._other(self._read.position)

    def _other(self, position: int) -> DivergedError:
        return DivergedError(
            f"the log has another event at position {position} than the export;"
            f" {_ADVICE}"
        )


_ADVICE: Final = (
    "restore into an empty one, or make the changes again with --restamp,"
    " which records them as of now"
)


def _disorder(found: int, expected: int) -> str:
    if found < expected:
        message = f"has position {found}, which was there already"
        return f"{message}: a line stands twice, or in another order"
    return f"has position {found}: what comes before it is missing"
