"""The slow lane: commits that have to wait for the log.

Turns, lost races, appends in doubt, verdicts without events, batches that the log
refuses. One task goes here, and only while nothing is in flight.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from evstore.errors import (
    CompactedError,
    DivergedError,
    InvalidError,
    StoreError,
    UnavailableError,
)
from evstore.log import (
    AppendError,
    BusyError,
    HeadMovedError,
    InDoubtError,
    RejectedError,
    StampError,
)

from .batch import Attempt, Pending, decide_batch
from .doubt import resolve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from evstore.config import Limits
    from evstore.log import Log

    from .live import LiveState
    from .waiting import Waiting


class SlowLane:
    """Brings batches to their end, whatever it takes.

    `pause` is awaited after each failure with the number of failures in a row.
    """

    def __init__(
        self,
        log: Log,
        live: LiveState,
        queue: Waiting,
        limits: Limits,
        pause: Callable[[int], Awaitable[None]],
    ) -> None:
        self.batch: list[Pending] = []
        # Why the last try has failed; "" where it has not.
        self.trouble = ""
        self._log = log
        self._live = live
        self._queue = queue
        self._limits = limits
        self._pause = pause
        self._failures = 0
        self._in_turn = False

    async def pick_up(
        self, grounded: Sequence[tuple[Attempt, Exception | None]]
    ) -> None:
        """Bring what was in flight to its end: attempts in order, and how they ended."""
        self.batch = [each for attempt, _ in grounded for each in attempt.commands]
        trouble: Exception | None = None
        for attempt, error in grounded:
            if trouble is not None:
                # It was to follow one that is not in the log: even if it was there, as the
                # server may have said, the log has lost it since.
                continue
            try:
                if isinstance(error, InDoubtError):
                    await self._resolve(attempt)
                elif error is not None:
                    raise error
            except (AppendError, StoreError) as refusal:
                trouble = refusal
            else:
                await self._finish(attempt)
        self._begin()
        if trouble is not None:
            await self._react(trouble)
        await self._work_off()

    async def commit(self) -> None:
        """Bring the next of the commands that wait to their end."""
        self.batch = self._queue.take(self._limits.batch_commands_max)
        self._begin()
        await self._work_off()

    def _begin(self) -> None:
        self._failures, self.trouble = 0, ""
        self._in_turn = self._live.contended

    async def _work_off(self) -> None:
        while self.batch:
            try:
                await (self._attempt_in_turn() if self._in_turn else self._attempt())
            except (AppendError, StoreError) as error:
                await self._react(error)
            else:
                self._failures, self.trouble = 0, ""

    async def _react(self, error: Exception) -> None:
        """Prepare the next try after one that failed for certain."""
        match error:
            case HeadMovedError() | BusyError():
                self._unsend()
                self._in_turn = True
            case RejectedError():
                self._unsend()
                self._separate(error)
            case StampError() | UnavailableError():
                # After a refused stamp the clock is measured.
                self._unsend()
                self._failures, self.trouble = self._failures + 1, str(error)
                if isinstance(error, UnavailableError):
                    for pending in self.batch:
                        pending.expire(error)
                await self._pause(self._failures)
            case StoreError():
                await self._refuse(error)
            case _:
                raise error

    async def _refuse(self, error: StoreError) -> None:
        """What was decided cannot be: the callers are told, or it is decided anew."""
        if isinstance(error, CompactedError):
            await self._begin_above(error)
            return
        self._fail(error)
        if isinstance(error, DivergedError):
            # What these callers know may come from lost events. The next batch is
            # decided on what is there now.
            await self._live.catch_up()

    async def _begin_above(self, error: CompactedError) -> None:
        """The log was compacted beyond our state: of what was sent, nobody knows."""
        lost = UnavailableError(str(error))
        for pending in self.batch:
            if pending.sent:
                pending.give_up(lost)
            pending.expire(lost)
        self.batch = [each for each in self.batch if not each.answer.done()]
        await self._live.catch_up()
        self._failures += 1
        await self._pause(self._failures)

    async def _attempt(self) -> None:
        """Decide the batch, and append optimistically after the state's position."""
        # While nothing is sent, callers may be told so.
        await self._log.connect()
        attempt = self._decide()
        # Verdicts without events: good if nothing follows the state they are about. The
        # last of these reads finds nothing, and is later than all of the commands.
        if not attempt.events and await self._live.read_on():
            attempt = self._decide()
        if attempt.events:
            attempt.mark_sent()
            try:
                await self._log.append(attempt.events, after=attempt.after)
            except InDoubtError:
                await self._resolve(attempt)
        await self._finish(attempt)

    async def _attempt_in_turn(self) -> None:
        """Wait for the turn, read what is new, then decide and append with nobody else."""
        doubtful = False
        async with self._log.turn(self._live.projections.head) as turn:
            following = turn.following
            self._take_along()
            while True:
                while following:
                    self._live.follow(following)
                    following = await turn.read_on(self._live.projections.head)
                attempt = self._decide()
                if not attempt.events:
                    # Verdicts without events take a look later than all commands.
                    following = await turn.read_on(self._live.projections.head)
                if not following:
                    break
            if attempt.events:
                attempt.mark_sent()
                try:
                    await turn.append(attempt.events, after=attempt.after)
                except InDoubtError:
                    doubtful = True
        if doubtful:
            await self._resolve(attempt)
        await self._finish(attempt)

    def _take_along(self) -> None:
        """Let those join who came while we waited."""
        if not (self.batch[0].alone or self._queue.next_alone):
            room = self._limits.batch_commands_max - len(self.batch)
            self.batch += self._queue.take(room)

    def _decide(self) -> Attempt:
        return decide_batch(
            self.batch,
            self._live.projections,
            now=self._log.clock(),
            bytes_max=self._limits.batch_bytes_max,
            schemas=self._live.schemas,
        )

    async def _resolve(self, attempt: Attempt) -> None:
        """Return when an append without an answer stands in the log.

        Raises:
            HeadMovedError: it is not there, and never will be.
            DivergedError: the log has lost the event before it.
        """
        if not await resolve(self._log, attempt, pause=self._pause):
            raise HeadMovedError

    async def _finish(self, attempt: Attempt) -> None:
        self.batch = self.batch[len(attempt.verdicts) :]
        if attempt.redacts:
            # What it leaves is read from the log, as by everybody else.
            await self._live.catch_up()
            attempt.answer()
        else:
            self._live.settle(attempt)

    def _separate(self, error: Exception) -> None:
        """One of the batch's events is refused: append transaction by transaction."""
        batch, self.batch = self.batch, []
        if len(batch) == 1:
            batch[0].fail(InvalidError(f"the database cannot store it: {error}"))
            return
        for pending in batch:
            pending.alone = True
        self._queue.put_back(batch)

    def _unsend(self) -> None:
        """Nothing of the batch was applied, for certain."""
        for pending in self.batch:
            pending.sent = False

    def _fail(self, error: StoreError) -> None:
        for pending in self.batch:
            # One of its own for each: tracebacks grow where an exception is shared.
            own = copy.copy(error)
            own.__cause__ = error
            pending.fail(own)
        self.batch = []
