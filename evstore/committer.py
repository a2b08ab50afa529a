"""Group commit: the one task that decides, appends and folds.

Commands that arrive while an append is in flight queue up; then all of them are decided
one after another, each on the state that the ones before it leave, and their events are
appended in one statement. This task is also the only one that changes the projections,
so a state is never decided on while it moves.

No verdict leaves before it is known to be about the log as it is: either an append of
the same batch succeeded, or one read after the state's position found nothing.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - wakes the task, and makes the callers' futures
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

import anyio

from .batch import Attempt, Pending, Verdict, decide_batch
from .clock import boot_microseconds
from .errors import (
    DivergedError,
    InvalidError,
    StoreError,
    UnavailableError,
)
from .log import (
    BusyError,
    ForeignLogError,
    HeadMovedError,
    InDoubtError,
    RejectedError,
    StampError,
)
from .projection import Projections

if TYPE_CHECKING:
    from .commands import Command
    from .config import Limits
    from .log import Log, Turn
    from .watch import Tail

logger = logging.getLogger(__name__)

FOREIGN_MICROSECONDS: Final = 20_000
RETRY_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
OVERDUE_CHECK_SECONDS: Final = 0.25
ABANDON_SECONDS: Final = 0.5


class Committer:
    """Takes commands, answers with verdicts, and keeps the projections up to date."""

    def __init__(
        self, log: Log, projections: Projections, tail: Tail, limits: Limits
    ) -> None:
        self.projections = projections
        self._log = log
        self._tail = tail
        self._limits = limits
        self._queue: deque[Pending] = deque()
        self._batch: list[Pending] = []
        self._work = asyncio.Event()
        self._ended = anyio.Event()
        self._scope = anyio.CancelScope(shield=True)
        self._behind = False
        self._closing = False
        self._abandoned = False
        self._out_of_touch = False
        self._foreign_at = -FOREIGN_MICROSECONDS

    # What other tasks call.

    async def submit(self, command: Command) -> Verdict:
        """Have a command decided and appended.

        Returns, for each change, the resource as it is after the command; or where the
        command's request id is in the log already, `Repeated`.

        Raises:
            StoreError: the command's own error; nothing was applied.
            UnavailableError: the queue is full, the store is closing, or the log could
                not be reached in time; nothing was applied.
            OutcomeUnknownError: the log was lost in the middle of the append.
        """
        self.check_open()
        if len(self._queue) >= self._limits.queue_commands_max:
            message = f"{len(self._queue)} commands are waiting; try again in a moment"
            raise UnavailableError(message)
        pending = Pending(
            command,
            asyncio.get_running_loop().create_future(),
            boot_microseconds() + int(self._limits.command_timeout * 1e6),
        )
        self._queue.append(pending)
        self._work.set()
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
        self._behind = True
        self._work.set()

    async def reach(self, position: int) -> None:
        """Return when the projections have reached a position that the log has."""
        while self.projections.position < position:
            self.check_open()
            self.nudge()
            await self._tail.changed()

    # The task.

    async def run(self) -> None:
        """Work until `aclose`; the only task that changes the projections."""
        # Cancelling an append would cancel it at the server, and leave its batch in
        # doubt. Whoever opened the store ends this task through `aclose`.
        with self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._expire_overdue)
                try:
                    await self._serve()
                finally:
                    self._closing = True
                    self._abandon()
                    self._ended.set()
                    self._tail.close()
                    tasks.cancel_scope.cancel()

    async def aclose(self, *, seconds: float) -> None:
        """Let the queue run empty, then end the task; no new commands are taken.

        What is not settled in `seconds` is given up: its callers are told what is
        known about it.
        """
        self._closing = True
        self._work.set()
        try:
            with anyio.move_on_after(seconds):
                await self._ended.wait()
        finally:
            if not self._ended.is_set():
                # A statement under way ends with its socket: cancelling it would cancel
                # it at the server. What is left after a moment only waits or connects.
                self._abandoned = True
                self._log.abort()
                self._scope.deadline = anyio.current_time() + ABANDON_SECONDS
            self._tail.close()

    async def _serve(self) -> None:
        while not (self._closing and not self._queue):
            await self._work.wait()
            self._work.clear()
            while self._queue:
                await self._commit(self._take(self._limits.batch_commands_max))
            if self._behind and not self._closing:
                self._behind = False
                await self._catch_up()

    def _take(self, count: int) -> list[Pending]:
        """Take the next commands; one that must go alone goes alone."""
        batch: list[Pending] = []
        while self._queue and len(batch) < count:
            if self._queue[0].alone and batch:
                break
            pending = self._queue.popleft()
            if not pending.answer.done():
                batch.append(pending)
            if pending.alone:
                break
        return batch

    async def _commit(self, batch: list[Pending]) -> None:
        """Bring a batch to its end: every command gets its verdict."""
        self._batch = batch
        failures = 0
        in_turn = self._contended
        while self._batch:
            try:
                await (self._attempt_in_turn() if in_turn else self._attempt())
                failures = 0
            except (HeadMovedError, BusyError):
                self._unsend()
                in_turn = True
            except RejectedError as error:
                self._separate(error)
            except (StampError, UnavailableError) as error:
                # Nothing was applied. After a refused stamp the clock is measured.
                self._unsend()
                failures += 1
                if isinstance(error, UnavailableError):
                    self._drop_overdue(self._batch, error)
                await self._pause(failures)
            except StoreError as error:
                self._fail_batch(error)
                if isinstance(error, DivergedError):
                    # What these callers know may come from lost events. The next
                    # batch is decided on what is there now.
                    await self._catch_up()

    def _unsend(self) -> None:
        """Nothing of the batch was applied, for certain."""
        for pending in self._batch:
            pending.sent = False

    def _fail_batch(self, error: StoreError) -> None:
        for pending in self._batch:
            # One of its own for each: tracebacks grow where an exception is shared.
            own = type(error)(str(error))
            own.__cause__ = error
            pending.fail(own)
        self._batch = []

    @property
    def _contended(self) -> bool:
        return boot_microseconds() - self._foreign_at < FOREIGN_MICROSECONDS

    async def _attempt(self) -> None:
        """Decide the batch, and append optimistically after the state's position."""
        attempt = self._decide()
        # Verdicts without events: good if nothing follows the state they are about. The
        # last of these reads finds nothing, and is later than all of the commands.
        if not attempt.events and await self._read_on(self._log):
            attempt = self._decide()
        if not attempt.events:
            self._settled(attempt)
            return
        attempt.mark_sent()
        try:
            await self._log.append(attempt.events, after=attempt.after)
        except InDoubtError:
            if not await self._resolve(attempt):
                raise HeadMovedError from None
        self._settled(attempt)

    async def _attempt_in_turn(self) -> None:
        """Wait for the turn, read what is new, then decide and append with nobody else."""
        in_doubt = False
        async with self._log.turn() as turn:
            # Whoever came while we waited comes along; before the read, so that it is
            # after their arrival.
            if not self._batch[0].alone:
                room = self._limits.batch_commands_max - len(self._batch)
                self._batch += self._take(room)
            await self._read_on(turn)
            attempt = self._decide()
            if attempt.events:
                attempt.mark_sent()
                try:
                    await turn.append(attempt.events, after=attempt.after)
                except InDoubtError:
                    in_doubt = True
        if in_doubt and not await self._resolve(attempt):
            raise HeadMovedError
        self._settled(attempt)

    def _decide(self) -> Attempt:
        """Decide the batch; a caller that gave up takes its command along."""
        while True:
            self._batch = [each for each in self._batch if not each.answer.done()]
            attempt = decide_batch(
                self._batch,
                self.projections,
                now=self._log.clock(),
                bytes_max=self._limits.batch_bytes_max,
            )
            if attempt is not None:
                return attempt

    def _settled(self, attempt: Attempt) -> None:
        """The events stand in the log: fold them, then tell the callers."""
        self._batch = self._batch[len(attempt.verdicts) :]
        if attempt.events:
            self.projections.adopt(attempt.events, attempt.resources)
            self._tail.publish(attempt.events)
        attempt.answer()

    # When an answer is lost.

    async def _resolve(self, attempt: Attempt) -> bool:
        """Find out whether an append without an answer stands in the log.

        The batch is frozen meanwhile: the same bytes are sent again until the position
        after `after` is somebody's. The old server process may still be about to commit;
        then the resent bytes wait for it on the key, and meet a unique violation.
        Returns whether the events are in the log; False means that they never will be.

        Raises:
            DivergedError: the log has lost the event before ours.
        """
        failures = 0
        while True:
            try:
                return await self._ask_or_resend(attempt)
            except HeadMovedError:
                continue
            except (InDoubtError, BusyError, StampError, StoreError) as error:
                if isinstance(error, DivergedError) and not isinstance(
                    error, ForeignLogError
                ):
                    # The event before ours is gone: ours cannot be there either.
                    raise
                # Also a refused login, or another log behind the address: whatever it
                # is, it does not tell the outcome.
                failures += 1
                await self._pause(failures)

    async def _ask_or_resend(self, attempt: Attempt) -> bool:
        following = await self._log.read_on(attempt.after)
        if not following:
            await self._log.append(attempt.events, after=attempt.after)
            return True
        if following[0].tx != attempt.events[0].tx:
            return False
        # Found by reading: visible, but perhaps not replicated yet.
        await self._log.settle()
        return True

    def _separate(self, error: RejectedError) -> None:
        """One of the batch's events is refused: append transaction by transaction."""
        batch, self._batch = self._batch, []
        if len(batch) == 1:
            batch[0].fail(InvalidError(f"the database cannot store it: {error}"))
            return
        for pending in reversed(batch):
            pending.alone = True
            self._queue.appendleft(pending)

    async def _pause(self, failures: int) -> None:
        if self._abandoned:
            self._scope.cancel()
        await anyio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1])

    # What other instances append.

    async def _catch_up(self) -> None:
        """Apply what other instances have appended.

        Where the log cannot be reached, the next call tries again: nobody waits for
        this one's answer.
        """
        try:
            try:
                await self._read_on(self._log)
            except DivergedError:
                await self._rebuild()
        except StoreError as error:
            if not self._out_of_touch:
                logger.warning("cannot follow the log, will try again: %s", error)
            self._out_of_touch = True
        else:
            if self._out_of_touch:
                logger.warning(
                    "follows the log again, at %s", self.projections.position
                )
            self._out_of_touch = False

    async def _read_on(self, source: Log | Turn) -> bool:
        found = False
        while events := await source.read_on(self.projections.head):
            found = True
            self._foreign_at = boot_microseconds()
            self.projections.apply(events)
            self._tail.publish(events)
        return found

    async def _rebuild(self) -> None:
        """Fold the log from its beginning: it is not the one that was followed.

        Raises:
            DivergedError: another log is behind the address; the old state stays, and
                whoever watches is told.
        """
        try:
            await self._log.connect()
            self.projections = await replay(self._log)
        finally:
            self._tail.diverge(self.projections.position)

    # Deadlines and the end.

    async def _expire_overdue(self) -> None:
        """Answer callers whose deadline has passed; the batch itself goes on."""
        while True:
            await anyio.sleep(OVERDUE_CHECK_SECONDS)
            message = "the log could not be reached in time"
            self._drop_overdue(self._batch, UnavailableError(message))
            while self._queue and self._queue[0].deadline <= boot_microseconds():
                self._queue.popleft().fail(UnavailableError(message))

    def _drop_overdue(self, batch: list[Pending], error: UnavailableError) -> None:
        now = boot_microseconds()
        for pending in batch:
            if pending.deadline <= now:
                pending.give_up(error)

    def _abandon(self) -> None:
        """Answer whoever still waits when the task ends."""
        error = UnavailableError("the store was closed")
        for pending in [*self._batch, *self._queue]:
            pending.give_up(error)
        self._queue.clear()


async def replay(log: Log) -> Projections:
    """Fold a log from its first event to its head."""
    projections = Projections(log.genesis)
    head = await log.head()
    async for events in log.replay(after=0, until=head.position):
        projections.apply(events)
    return projections
