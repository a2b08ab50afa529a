"""The slow lane: what comes of batches that the log has not just taken."""

from __future__ import annotations

import asyncio  # noqa: TID251 - answers are futures
from typing import TYPE_CHECKING

import anyio
import pytest

from evstore.clock import boot_microseconds
from evstore.commit.batch import Attempt, Pending, decide_batch
from evstore.commit.changes import Command, Create
from evstore.commit.live import LiveState
from evstore.commit.slow_lane import SlowLane
from evstore.commit.waiting import Waiting
from evstore.config import Limits
from evstore.errors import ConfigError
from evstore.folds.projections import Projections
from evstore.log import InDoubtError, MemoryLog, RejectedError
from evstore.snapshots.start import Origin
from evstore.watching.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore.commit.batch import Standing
    from evstore.model import Head, StoredEvent


class Lane:
    """A slow lane over a log in memory."""

    def __init__(self, log: MemoryLog) -> None:
        limits = Limits()
        self.log = log
        origin = Origin(log, lambda: Projections(log.genesis))
        self.live = LiveState(
            log, origin, Projections(log.genesis), Tail(0, events_max=100)
        )
        self.queue = Waiting(limits)
        self.slow = SlowLane(log, self.live, self.queue, limits, self._pause)

    async def _pause(self, failures: int) -> None:
        assert failures < 10
        await anyio.lowlevel.checkpoint()

    def attempt(self, name: str, base: Standing | None = None) -> Attempt:
        """Return a creation as it was decided on a state, and sent."""
        attempt = decide_batch(
            [pending(name)],
            base or self.live.projections,
            now=self.log.clock(),
            bytes_max=1_000_000,
        )
        attempt.mark_sent()
        return attempt


def pending(name: str) -> Pending:
    return Pending(
        Command(changes=(Create(key=f"Mesh//{name}", spec=b"{}"),)),
        asyncio.get_running_loop().create_future(),
        boot_microseconds() + 60_000_000,
    )


def version(attempt: Attempt) -> int:
    (command,) = attempt.commands
    verdict = command.answer.result()
    assert isinstance(verdict, list)
    (record,) = verdict
    assert record is not None
    return record.version


@pytest.fixture
def lane() -> Lane:
    return Lane(MemoryLog())


async def test_what_followed_a_lost_append_is_decided_anew_whatever_was_said_of_it(
    lane: Lane,
) -> None:
    """The server warned, then took the second; then its end was lost in a failover."""
    first = lane.attempt("first")
    second = lane.attempt("second", first)
    other = lane.attempt("other")
    await lane.log.append(other.events, after=lane.log.genesis)
    await lane.slow.pick_up([(first, InDoubtError()), (second, None)])
    assert (version(first), version(second)) == (2, 3)
    assert (await lane.log.head()).position == 3


class Refusing(MemoryLog):
    """A log that keeps no two transactions at a time."""

    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        if len(events) > 1:
            raise RejectedError
        await super().append(events, after=after)


async def test_what_is_to_go_alone_counts_as_not_sent() -> None:
    lane = Lane(Refusing())
    commands = [pending("a"), pending("b")]
    for each in commands:
        lane.queue.put(each)
    await lane.slow.commit()
    assert list(lane.queue) == commands
    assert [each.sent for each in commands] == [False, False]
    await lane.slow.commit()
    await lane.slow.commit()
    assert [each.answer.done() for each in commands] == [True, True]


class Locked(MemoryLog):
    """A log that lets nobody in for a while."""

    refusals = 3

    async def read_on(self, after: Head) -> list[StoredEvent]:
        self.refusals -= 1
        if self.refusals >= 0:
            message = "the password is refused"
            raise ConfigError(message)
        return await super().read_on(after)


async def test_why_nobody_learns_what_an_append_came_to_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lane = Lane(Locked())
    attempt = lane.attempt("first")
    await lane.slow.pick_up([(attempt, InDoubtError())])
    assert version(attempt) == 1
    assert caplog.messages == [
        "an append without an answer is asked for: the password is refused"
    ]
