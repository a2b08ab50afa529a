"""How a store is doing, judged by the log itself and not by its own marks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import anyio
import msgspec

from evstore.clock import boot_microseconds, to_microseconds
from evstore.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from evstore.commit.committer import Committer
    from evstore.config import EvstoreConfig
    from evstore.folds.custom import ProjectionStatus
    from evstore.log import Connections, Instance, Log
    from evstore.model import Head
    from evstore.watching.tail import Tail

    from .instance import Follower, Presence

ANSWER_SECONDS_MAX: Final = 1.0
STALL_SECONDS: Final = 5.0
BEATS_MISSED_MAX: Final = 3


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a store was doing at one moment.

    `ok` is False where `problems` has something to say: the log does not answer, it is
    not the one that was followed, this instance does not keep up with it or cannot read
    what follows, or its heartbeats fail. A listener or a writer without a connection is
    no problem by itself: they reconnect, and what depends on them shows as one. Nor is a
    projection of one's own that has stopped, or drift: another start would cure neither.
    """

    ok: bool
    problems: tuple[str, ...]
    position: int
    """The position that this instance has applied."""
    digest: bytes
    """The state digest at `position`."""
    head: int | None
    """The log's last position, asked of the log; None where it did not answer."""
    lag_events: int | None
    """How many events of the log this instance has not applied."""
    lag_seconds: float | None
    """For how long the first of those has been in the log, by the log's clock."""
    heartbeat_age_seconds: float | None
    """Time since the last heartbeat that was recorded; None where none was."""
    queue_commands: int
    """Commands that wait to be appended."""
    connections: Connections | None
    """Connections to the log's server; None where there is none, as in memory."""
    projections: tuple[ProjectionStatus, ...] = ()
    """The projections of one's own, in the order in which `open` was given them."""
    drift: tuple[UUID, ...] = ()
    """The running instances whose last heartbeat told another state digest than this one
    had at the same position: one of the two is wrong. Compared are the positions of this
    instance's last heartbeats, and where it is now; others tell nothing."""


class _Answer(NamedTuple):
    """What the log said; `asked` is where this instance stood before."""

    asked: Head
    head: Head | None = None
    missing_since: int | None = None
    instances: Sequence[Instance] = ()
    error: StoreError | None = None


class Vitals:
    """Looks after a running store, for `Store.health`.

    The log is asked by a task of the store's own, once for all who want to know: a
    caller who waits no longer never cancels a statement, and however many ask, one
    connection is used.
    """

    def __init__(
        self,
        config: EvstoreConfig,
        log: Log,
        committer: Committer,
        tail: Tail,
        follower: Follower,
        presence: Presence,
    ) -> None:
        self._config = config
        self._log = log
        self._committer = committer
        self._tail = tail
        self._follower = follower
        self._presence = presence
        self._began_at = boot_microseconds()
        self._wanted = anyio.Event()
        self._answered = anyio.Event()
        self._answer: _Answer | None = None

    async def run(self) -> None:
        """Ask the log whenever somebody wants to know."""
        while True:
            await self._wanted.wait()
            self._answer = await self._ask()
            self._wanted = anyio.Event()
            answered, self._answered = self._answered, anyio.Event()
            answered.set()

    async def _ask(self) -> _Answer:
        asked = self._committer.projections.head
        try:
            head = await self._log.head()
            missing = None
            if head.position > asked.position:
                missing = await self._log.place(asked.position + 1)
            instances = await self._log.instances()
        except StoreError as error:
            return _Answer(asked, error=error)
        return _Answer(asked, head, missing.time if missing else None, instances)

    async def examine(self) -> Health:
        """Return how the store is doing, in about a second at most."""
        answer = None
        self._wanted.set()
        with anyio.move_on_after(ANSWER_SECONDS_MAX):
            await self._answered.wait()
            answer = self._answer
        projections = self._committer.projections
        head = answer.head if answer else None
        lag = None if head is None else max(0, head.position - projections.position)
        seconds = self._seconds_behind(answer) if lag else None
        beaten_at = self._presence.beaten_at
        problems = tuple(self._problems(answer, lag_seconds=seconds))
        return Health(
            ok=not problems,
            problems=problems,
            position=projections.position,
            digest=self._presence.digest(),
            head=None if head is None else head.position,
            lag_events=lag,
            lag_seconds=0.0 if lag == 0 else seconds,
            heartbeat_age_seconds=None if beaten_at is None else _age(beaten_at),
            queue_commands=self._committer.waiting,
            connections=self._log.connections(),
            projections=tuple(each.status for each in projections.custom),
            drift=self._drift(answer),
        )

    def _drift(self, answer: _Answer | None) -> tuple[UUID, ...]:
        """Return who tells another state; whoever was not seen lately tells nothing."""
        if answer is None:
            return ()
        interval = self._config.heartbeat_interval * BEATS_MISSED_MAX + STALL_SECONDS
        since = self._log.clock() - int(interval * 1e6)
        return self._presence.drift(
            each
            for each in answer.instances
            if each.seen_at is not None and to_microseconds(each.seen_at) >= since
        )

    def _seconds_behind(self, answer: _Answer | None) -> float | None:
        if answer is None or answer.missing_since is None:
            return None
        return max(0.0, (self._log.clock() - answer.missing_since) / 1e6)

    def _problems(
        self, answer: _Answer | None, *, lag_seconds: float | None
    ) -> Iterator[str]:
        if self._tail.closed:
            yield "the store is closed"
            return
        if answer is None:
            yield f"the log does not answer within {ANSWER_SECONDS_MAX:g} s"
        elif answer.error is not None:
            yield f"the log cannot be read: {answer.error}"
        elif answer.head is not None and answer.asked.is_gone(answer.head):
            yield f"the log has lost position {answer.asked.position}, or is another one"
        blocked = self._committer.blocked
        if blocked is not None:
            yield f"what follows in the log cannot be read: {blocked}"
        elif lag_seconds is not None and lag_seconds > STALL_SECONDS:
            still = _age(self._tail.moved_at)
            if still > STALL_SECONDS:
                yield f"events wait in the log, and none was applied for {still:.1f} s"
        yield from self._problems_of_tasks()

    def _problems_of_tasks(self) -> Iterator[str]:
        silent = _age(self._follower.looked_at)
        if silent > self._config.poll_interval + STALL_SECONDS:
            yield f"the log has not been looked at for {silent:.1f} s"
        waiting = self._committer.waiting_seconds
        if waiting > STALL_SECONDS:
            yield f"a command has been waiting for {waiting:.1f} s"
        interval = self._config.heartbeat_interval
        if interval:
            beaten_at = self._presence.beaten_at
            age = _age(self._began_at if beaten_at is None else beaten_at)
            if age > interval * BEATS_MISSED_MAX + STALL_SECONDS:
                yield f"no heartbeat has been recorded for {age:.1f} s"


def _age(moment: int) -> float:
    return (boot_microseconds() - moment) / 1e6
