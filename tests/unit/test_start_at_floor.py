"""A start on a log that is compacted while it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import evstore
from events import History, create, creations, key
from evstore.errors import CompactedError
from evstore.folds.custom import CustomProjections
from evstore.folds.projections import Projections
from evstore.folds.resources import digest_of, record_of
from evstore.folds.stopped import Stopped, freeze_stop
from evstore.log import Base, MemoryLog
from evstore.model import ANY
from evstore.snapshots.floor import begin_at_floor
from evstore.snapshots.start import Origin

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evstore.model import Head, StoredEvent


class CompactedLog(MemoryLog):
    """A log that is compacted up to a position as soon as somebody replays it."""

    def __init__(self, until: int, *, times: int = 1) -> None:
        super().__init__()
        self._until = until
        self._times = times

    @property
    def floor(self) -> Head:
        return self._ledger.floor

    async def base(self) -> Base | None:  # type: ignore[override]
        events = self._ledger.latest(where=ANY, until=self.floor.position)
        records = [record for each in events if (record := record_of(each))]
        return Base(
            head=self.floor,
            digest=digest_of(records),
            events=events,
            requests=[],
            newest_schemas={},
        )

    async def replay(
        self, *, after: int, until: int
    ) -> AsyncGenerator[list[StoredEvent]]:
        if self._times:
            self._times -= 1
            self._ledger.compact(self._until)
        async for chunk in super().replay(after=after, until=until):
            yield chunk


async def log_of(**options: Any) -> CompactedLog:
    log = CompactedLog(2, **options)
    history = History(log.genesis)
    await log.append(creations(history, "ab"), after=log.genesis)
    for name in "cd":
        after = history.head
        await log.append(history.transaction(create(key(name))), after=after)
    return log


async def test_it_begins_at_the_floor_when_that_is_raised_meanwhile() -> None:
    log = await log_of()
    state = await Origin(log, lambda: Projections(log.genesis)).state()
    assert state.head == await log.head()
    assert [record.key for record in state.resources] == [key(name) for name in "abcd"]


class Counting(evstore.Projection[int]):
    name = "counting"
    version = 1

    def initial(self) -> int:
        return 0

    def fold(self, state: int, event: evstore.Event) -> int:
        del event
        return state + 1


async def test_a_projection_that_stopped_below_the_floor_and_is_kept_above_it_stays() -> (
    None
):
    log = await log_of(times=0)
    first = await log.place(1)
    assert first is not None
    custom = CustomProjections(
        [Counting()], lambda stored: evstore.Event(stored, log.identity), log.genesis
    )
    (counting,) = custom
    stopped = Stopped(position=2, cause="not this one")
    counting.restore(await log.head(), freeze_stop(stopped, first))
    log._ledger.compact(3)
    projections = Projections(log.genesis, custom)
    await begin_at_floor(log, projections)
    assert projections.position == 3
    assert (counting.stopped, counting.head) == (stopped, first)


async def test_a_projection_that_has_not_got_to_the_floor_cannot_begin() -> None:
    log = await log_of(times=0)
    log._ledger.compact(3)
    custom = CustomProjections(
        [Counting()], lambda stored: evstore.Event(stored, log.identity), log.genesis
    )
    with pytest.raises(CompactedError, match="counting"):
        await begin_at_floor(log, Projections(log.genesis, custom))


async def test_it_fails_where_what_it_needs_is_gone_for_good() -> None:
    log = await log_of(times=0)
    log._ledger.compact(3)

    class Behind(Origin):
        async def begun(self) -> Projections:
            return self.fresh()

    with pytest.raises(CompactedError) as caught:
        await Behind(log, lambda: Projections(log.genesis)).state()
    assert caught.value.oldest == 3
