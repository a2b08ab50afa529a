"""Statistics of a log: what happens in it, how big it is, how fast it grows."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID  # noqa: TC003 - part of a result that is encoded

import msgspec

from evstore.clock import to_datetime
from evstore.tally import Activity, Storage  # noqa: TC001

from .history import microseconds

if TYPE_CHECKING:
    from evstore.log import Log

    from .history import At

TOP: Final = 10
_DAY_SECONDS: Final = 86_400


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of a log, from its event `first` to its event `last`.

    Without events in between, `first` is after `last` and there are no times. `storage`
    is that of the whole log, None where it is not on a disk.
    """

    log: UUID
    first: int
    last: int
    head: int
    first_at: datetime | None
    last_at: datetime | None
    activity: Activity
    storage: Storage | None

    @property
    def days(self) -> float:
        """How many days lie between the first and the last event."""
        if self.first_at is None or self.last_at is None:
            return 0.0
        return (self.last_at - self.first_at).total_seconds() / _DAY_SECONDS

    @property
    def events_a_day(self) -> float:
        """How fast the log grew; of less than a day all events count as one day's."""
        return self.activity.events / max(1.0, self.days)

    @property
    def bytes_an_event(self) -> float | None:
        """What an event of the whole log takes on disk, with its index entries."""
        if self.storage is None or not self.head:
            return None
        return (self.storage.table_bytes + self.storage.index_bytes) / self.head


async def stats(
    log: Log, *, since: At | None = None, until: At | None = None, top: int = TOP
) -> Stats:
    """Return statistics of the events between two moments, both included.

    Without `since`, from the first that is there. Counted where the log is, in one pass over that range; of actors and resources the
    `top` busiest are named.

    Raises:
        InvalidError: a moment is none.
    """
    head = (await log.head()).position
    last = min(head, head if until is None else await _position(log, until))
    after = log.floor.position if since is None else await _before(log, since)
    activity = await log.activity(after=after, until=last, top=top)
    ends = [each.time for each in await log.pick([after + 1, last])] if last else []
    some = last > after and bool(ends)
    return Stats(
        log=log.identity,
        first=after + 1,
        last=last,
        head=head,
        first_at=to_datetime(ends[0]) if some else None,
        last_at=to_datetime(ends[-1]) if some else None,
        activity=activity,
        storage=await log.storage(),
    )


async def _position(log: Log, at: At) -> int:
    if not isinstance(at, datetime):
        return at
    return (await log.locate(microseconds(at, "until"))).position


async def _before(log: Log, since: At) -> int:
    if not isinstance(since, datetime):
        return max(0, since - 1)
    return (await log.locate(microseconds(since, "since") - 1)).position
