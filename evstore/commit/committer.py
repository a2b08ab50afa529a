"""Group commit: decides commands in order, appends and folds them, answers.

Commands that arrive while appends are in flight queue up; then all of them are decided
one after another, each on the state that the ones before it leave, and their events are
appended in one statement. Nothing else changes the projections, so a state is never
decided on while it moves.

There are two lanes. In the fast one nothing is awaited: a batch is decided and sent by
whoever brings a command or takes in an answer, while at most one other is in flight; its
callers are answered where its answer is read. Everything that takes more than that goes
through the slow lane, the committer's task, when nothing is in flight: turns, lost races,
appends in doubt, verdicts without events, reading on.

No verdict leaves before it is known to be about the log as it is: either an append of
the same batch succeeded, or one read after the state's position found nothing.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - callbacks of the loop, and the callers' futures
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from evstore.clock import boot_microseconds
from evstore.errors import UnavailableError

from .batch import Attempt, Pending, Verdict, decide_batch
from .slow_lane import SlowLane
from .waiting import Waiting

if TYPE_CHECKING:
    from evstore.config import Limits
    from evstore.errors import SchemaError
    from evstore.folds.projections import Projections
    from evstore.log import Log

    from .changes import Command
    from .live import LiveState

IN_FLIGHT_MAX: Final = 2
# A second append pays from about so many commands on.
SECOND_FROM: Final = 16
# So many commands are worth sending before those come back who were just answered.
GATHERED: Final = 32
RETRY_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
OVERDUE_CHECK_SECONDS: Final = 0.25
ABANDON_SECONDS: Final = 0.5


@dataclass(slots=True, eq=False)
class _Flight:
    """An attempt that was sent; later, how it ended."""

    attempt: Attempt
    news: int
    error: Exception | None = None


class Committer:
    """Takes commands, answers with verdicts, and keeps the live state up to date."""

    def __init__(self, log: Log, live: LiveState, limits: Limits) -> None:
        self._log = log
        self._in_flight_max = IN_FLIGHT_MAX if log.overlaps else 1
        self._live = live
        self._limits = limits
        self._queue = Waiting(limits)
        # In flight, oldest first; then those that came to grief, for the slow lane.
        self._flights: deque[_Flight] = deque()
        self._grounded: list[_Flight] = []
        self._slow = SlowLane(log, live, self._queue, limits, self._pause)
        self._fast = True
        self._gathering = False
        # Hints that there is something to read, and how many of them are settled.
        self._news = self._known_news = 0
        self._work = asyncio.Event()
        self._ended = anyio.Event()
        self._scope = anyio.CancelScope(shield=True)
        self._closing = False
        self._abandoned = False
        self._fault: Exception | None = None

    # What other tasks call.

    @property
    def projections(self) -> Projections:
        """The projections as this process has them."""
        return self._live.projections

    @property
    def blocked(self) -> SchemaError | None:
        """Why this program cannot read what follows in the log; None where it can."""
        return self._live.tail.blocked

    @property
    def waiting(self) -> int:
        """How many commands wait to be sent."""
        return len(self._queue)

    @property
    def unanswered(self) -> int:
        """How many commands have no verdict yet."""
        return len(self._queue) + len(self._under_way)

    @property
    def waiting_seconds(self) -> float:
        """For how long the first command without a verdict has been waiting."""
        waiting: list[Pending] = [*self._under_way, *self._queue]
        if not waiting:
            return 0.0
        left = (waiting[0].deadline - boot_microseconds()) / 1e6
        return self._limits.command_timeout - left

    async def submit(self, command: Command) -> Verdict:
        """Have a command decided and appended.

        Returns, for each change, the resource as it is after the command; or where the
        command's request id is in the log already, `Repeated`. A caller who is
        cancelled takes only himself away: what was sent is appended all the same.

        Raises:
            StoreError: the command's own error; nothing was applied.
            UnavailableError: the queue is full, the store is closing, or the log could
                not be reached in time; nothing was applied.
            OutcomeUnknownError: the log was lost in the middle of the append.
            SchemaError: this program cannot read what others have appended; nothing was
                applied.
        """
        self.check_open()
        pending = Pending(
            command,
            asyncio.get_running_loop().create_future(),
            boot_microseconds() + int(self._limits.command_timeout * 1e6),
        )
        self._queue.put(pending)
        if not self._flights:
            # Where others are being gathered, this one is as well.
            if not self._gathering:
                self._launch()
        elif len(self._queue) >= SECOND_FROM:
            self._gather()
        return await pending.answer

    def check_open(self) -> None:
        """Check that the store has not been closed.

        Raises:
            UnavailableError: it has; its state is not kept up to date any more.
        """
        if self._closing:
            message = "the store is closed"
            raise UnavailableError(message)

    def nudge(self) -> None:
        """Read on soon: there may be events of other instances."""
        self._news += 1
        self._work.set()

    async def reach(self, position: int, *, lost: Projections | None = None) -> None:
        """Return when the projections have reached a position that the log has.

        `lost` are projections with an end that the log has not any more: first they
        are made anew.

        Raises:
            SchemaError: this program cannot read the log up to there.
        """
        while self.projections is lost or self.projections.position < position:
            self.check_open()
            if self.projections is not lost:
                self._live.tail.check_readable()
            self.nudge()
            await self._live.tail.changed()

    # The fast lane: nothing here waits.

    def _gather(self) -> None:
        """Launch when those have come who run in this turn of the event loop."""
        if (
            not self._gathering
            and self._fast
            and len(self._flights) < self._in_flight_max
        ):
            self._gathering = True
            asyncio.get_running_loop().call_soon(self._launch)

    def _launch(self) -> None:
        """Decide what waits and send it, as far as that takes no waiting."""
        self._gathering = False
        while self._fast and self._queue and len(self._flights) < self._in_flight_max:
            waiting = len(self._queue)
            if self._flights and waiting < SECOND_FROM:
                return
            if self._live.contended or self._queue.next_alone:
                self._leave_fast_lane()
                return
            count = min(waiting, self._limits.batch_commands_max)
            overlapping = self._in_flight_max > 1
            if overlapping and not self._flights and waiting >= 2 * SECOND_FROM:
                # Half of them now: the server works on these while we decide the rest.
                count = min(count, (waiting + 1) // 2)
            self._send(self._queue.take(count))

    def _send(self, batch: list[Pending]) -> None:
        base = self._flights[-1].attempt if self._flights else self.projections
        attempt = decide_batch(
            batch,
            base,
            now=self._log.clock(),
            bytes_max=self._limits.batch_bytes_max,
            schemas=self._live.schemas,
        )
        decided = len(attempt.verdicts)
        if attempt.events:
            flight = _Flight(attempt, self._news)
            attempt.mark_sent()
            if self._log.send(
                attempt.events,
                after=attempt.after,
                landed=lambda error: self._landed(flight, error),
            ):
                self._flights.append(flight)
                self._queue.put_back(batch[decided:])
                return
            attempt.mark_unsent()
        # Without events, the verdicts take a look at the log.
        self._queue.put_back(batch)
        if batch:
            self._leave_fast_lane()
        elif self._closing:
            # Their callers have gone: perhaps the end waited for these alone.
            self._work.set()

    def _landed(self, flight: _Flight, error: Exception | None) -> None:
        """Take in how an append ended, and go on."""
        first = self._flights.popleft()
        assert first is flight, "appends are answered in order"
        flight.error = error
        if error is not None or self._grounded or not self._fast_settled(flight):
            self._grounded.append(flight)
            self._leave_fast_lane()
        answered = len(flight.attempt.verdicts)
        done = self._closing and not self._queue
        if not self._flights and (self._wanted or done):
            self._work.set()
        if answered == 1 or len(self._queue) >= GATHERED:
            self._launch()
        else:
            self._gather()

    def _fast_settled(self, flight: _Flight) -> bool:
        try:
            self._live.settle(flight.attempt)
        except Exception as fault:  # noqa: BLE001 - raised again by the task
            self._fault = fault
            return False
        # Nobody else had appended up to then: what was hinted at before is known.
        self._known_news = max(self._known_news, flight.news)
        for following in self._flights:
            following.attempt.rebase(self.projections)
        return True

    def _leave_fast_lane(self) -> None:
        self._fast = False
        if not self._flights:
            self._work.set()

    @property
    def _wanted(self) -> bool:
        """Whether there is something for the slow lane."""
        return not self._fast or self._news > self._known_news

    # The task, and its slow lane.

    async def run(self) -> None:
        """Work until `aclose`."""
        # Cancelling an append would cancel it at the server, and leave its batch in
        # doubt. Whoever opened the store ends this task through `aclose`.
        with self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._expire_overdue)
                try:
                    await self._serve()
                finally:
                    self._closing = True
                    self._fast = False
                    self._abandon()
                    self._ended.set()
                    self._live.tail.close()
                    tasks.cancel_scope.cancel()

    async def aclose(self, *, seconds: float) -> None:
        """Let the queue run empty, then end the task; no new commands are taken.

        What is not settled in `seconds` is given up: its callers are told what is
        known about it. Where nobody waits for an answer, what is being read is given up
        in a moment.
        """
        self._closing = True
        self._work.set()
        try:
            with anyio.move_on_after(seconds if self.unanswered else ABANDON_SECONDS):
                await self._ended.wait()
        finally:
            if not self._ended.is_set():
                # A statement under way ends with its socket: cancelling it would cancel
                # it at the server. What is left after a moment only waits or connects.
                self._abandoned = True
                self._log.abort()
                self._scope.deadline = anyio.current_time() + ABANDON_SECONDS
            self._live.tail.close()

    async def _serve(self) -> None:
        while not self._closing or self._queue or self._flights or self._grounded:
            await self._work.wait()
            self._work.clear()
            if self._flights or not self._wanted:
                continue
            self._fast = False
            await self._go_slow()
            self._fast = True
            self._launch()

    async def _go_slow(self) -> None:
        """Do all that has to wait for the log; nothing is in flight."""
        if self._fault is not None:
            raise self._fault
        grounded, self._grounded = self._grounded, []
        if grounded:
            await self._slow.pick_up([(each.attempt, each.error) for each in grounded])
        while self._queue:
            await self._slow.commit()
            if not (self._live.contended or self._queue.next_alone):
                break
        if self._news > self._known_news and not self._closing:
            self._known_news = self._news
            await self._live.catch_up()

    async def _pause(self, failures: int) -> None:
        if self._abandoned:
            self._scope.cancel()
        await anyio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1])

    # Deadlines and the end.

    @property
    def _under_way(self) -> list[Pending]:
        flights = [*self._grounded, *self._flights]
        flying = [each for flight in flights for each in flight.attempt.commands]
        return [*self._slow.batch, *flying]

    async def _expire_overdue(self) -> None:
        """Answer callers whose deadline has passed; what was sent goes on."""
        while True:
            await anyio.sleep(OVERDUE_CHECK_SECONDS)
            reason = f": {self._slow.trouble}" if self._slow.trouble else ""
            message = f"the log could not be reached in time{reason}"
            error = UnavailableError(message)
            for pending in [*self._under_way, *self._queue.take_overdue()]:
                pending.expire(error)

    def _abandon(self) -> None:
        """Answer whoever still waits when the task ends."""
        error = UnavailableError("the store was closed")
        for pending in [*self._under_way, *self._queue]:
            pending.give_up(error)
        self._queue.clear()
