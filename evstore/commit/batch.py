"""A batch: commands that wait for their verdicts, and what they were decided to.

Deciding a batch is pure but for the salts: it looks at a state and at a time that it is
given, and leaves both as they are.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from evstore.clock import boot_microseconds
from evstore.codec import SALT_BYTES
from evstore.errors import (
    InvalidError,
    OutcomeUnknownError,
    StoreError,
    UnavailableError,
)
from evstore.folds.requests import RequestOverlay, Requests
from evstore.folds.resources import Overlay, State
from evstore.model import Head, Operation, Record, StoredEvent
from evstore.schemas import AS_STORED

from .changes import Redact
from .commands import Command, Repeated, decide
from .stamp import stamp

if TYPE_CHECKING:
    # Answers are futures: a caller may be cancelled, a batch may not.
    import asyncio  # noqa: TID251
    from collections.abc import Sequence

    from evstore.folds.projections import Projections
    from evstore.schemas import Schemas

TX_BYTES: Final = 16

Verdict = list[Record | None] | Repeated


class Standing(Protocol):
    """What a batch is decided on: a place, and the state there."""

    @property
    def head(self) -> Head:
        """The place."""
        ...

    @property
    def resources(self) -> State:
        """The resources there."""
        ...

    @property
    def requests(self) -> Requests | RequestOverlay:
        """The remembered requests there."""
        ...


@dataclass(slots=True, eq=False)
class Pending:
    """A command that waits for its verdict.

    `tx` stays the same over all attempts to append it: it tells, when an answer was
    lost, whether what stands in the log is this command.
    """

    command: Command
    answer: asyncio.Future[Verdict]
    deadline: int
    tx: str = ""
    sent: bool = False
    alone: bool = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        """Count the bytes of what is to be written.

        Redactions go alone: only the log tells what they leave of a body that is in
        another shape here, and nothing can be decided on that before it is known.
        """
        changes = self.command.changes
        self.size = sum([change.size for change in changes])
        self.alone = bool(changes) and isinstance(changes[0], Redact)

    def succeed(self, verdict: Verdict) -> None:
        """Answer with a verdict, unless the caller has gone."""
        if not self.answer.done():
            self.answer.set_result(verdict)

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless the caller has gone."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def give_up(self, error: UnavailableError) -> None:
        """Fail without an outcome: unknown where the command may be under way."""
        if not self.sent:
            self.fail(error)
            return
        unknown = OutcomeUnknownError(request_id=self.command.request_id)
        unknown.__cause__ = error
        self.fail(unknown)

    def expire(self, error: UnavailableError) -> None:
        """Give up where the deadline has passed."""
        if self.deadline <= boot_microseconds():
            self.give_up(error)


class Attempt:
    """A batch as it was decided: frozen bytes, and the verdicts that hang on them.

    It shows the state that its events will leave, so that the next batch can be decided
    while this one is in flight.
    """

    def __init__(self, base: Standing) -> None:
        self.after = base.head
        self.resources = Overlay(base.resources)
        self.requests = RequestOverlay(base.requests)
        self.events: list[StoredEvent] = []
        self.verdicts: list[tuple[Pending, Verdict | StoreError]] = []

    @property
    def head(self) -> Head:
        """The place after the events."""
        return self.events[-1].head if self.events else self.after

    @property
    def commands(self) -> list[Pending]:
        """The commands that were decided, in order."""
        return [pending for pending, _ in self.verdicts]

    def rebase(self, projections: Projections) -> None:
        """Lie on the projections themselves: they have got to where this one begins."""
        self.resources.rebase(projections.resources)
        self.requests.rebase(projections.requests)

    @property
    def redacts(self) -> bool:
        """Whether it announces redactions."""
        return any(event.operation is Operation.REDACTED for event in self.events)

    def mark_sent(self) -> None:
        """From now on nobody may be told that his command was not applied."""
        for pending, _ in self.verdicts:
            pending.sent = True

    def mark_unsent(self) -> None:
        """Nothing of it was applied, for certain."""
        for pending, _ in self.verdicts:
            pending.sent = False

    def answer(self) -> None:
        """Tell the callers, after what their verdicts hang on has been settled."""
        for pending, verdict in self.verdicts:
            if isinstance(verdict, StoreError):
                pending.fail(verdict)
            else:
                pending.succeed(verdict)


def decide_batch(
    batch: list[Pending],
    base: Standing,
    *,
    now: int,
    bytes_max: int,
    schemas: Schemas = AS_STORED,
) -> Attempt:
    """Decide commands in order, each on what the ones before it leave.

    Goes as far as `bytes_max` bytes of events allow; the attempt has a verdict for each
    command that was decided. A command that is refused fails alone. Commands whose
    callers have gone are dropped from `batch`. None of them is in doubt meanwhile.
    """
    while True:
        batch[:] = [each for each in batch if not each.answer.done()]
        attempt = _decide(batch, base, now=now, bytes_max=bytes_max, schemas=schemas)
        if attempt is not None:
            return attempt


def _decide(
    batch: Sequence[Pending],
    base: Standing,
    *,
    now: int,
    bytes_max: int,
    schemas: Schemas,
) -> Attempt | None:
    """Decide commands; None where one met a fault of ours.

    It is told, and the others are to be decided anew, without what it may have left half
    done.
    """
    attempt = Attempt(base)
    size = 0
    # Enough for one event each; a system call for each costs more than the bytes.
    random = _Randomness((TX_BYTES + SALT_BYTES) * len(batch))
    for pending in batch:
        if size > bytes_max:
            break
        pending.sent = False
        pending.tx = pending.tx or random.take(TX_BYTES).hex()
        try:
            verdict, events = _decide_one(pending, attempt, now, random, schemas)
        except StoreError as error:
            attempt.verdicts.append((pending, error))
            continue
        except Exception as error:  # noqa: BLE001
            pending.fail(error)
            return None
        attempt.verdicts.append((pending, verdict))
        attempt.events += events
        size += sum(event.size for event in events)
    return attempt


def _decide_one(
    pending: Pending,
    attempt: Attempt,
    now: int,
    random: _Randomness,
    schemas: Schemas,
) -> tuple[Verdict, list[StoredEvent]]:
    command, resources = pending.command, attempt.resources
    decision = decide(command, resources, attempt.requests, schemas)
    if isinstance(decision, Repeated):
        return decision, []
    events: list[StoredEvent] = []
    if decision.drafts:
        head = attempt.head
        events = stamp(
            command,
            decision.drafts,
            state=resources,
            after=head,
            tx=pending.tx,
            time=_time(command, head, now),
            random=random.take,
        )
        resources.apply(events)
        if command.request_id is not None:
            attempt.requests.apply(events)
    return [resources.get(change.key) for change in command.changes], events


class _Randomness:
    """Random bytes, drawn at once and handed out piece by piece."""

    def __init__(self, size: int) -> None:
        self._bytes = os.urandom(size)
        self._used = 0

    def take(self, size: int) -> bytes:
        """Return so many bytes, each of them once."""
        start, self._used = self._used, self._used + size
        if self._used > len(self._bytes):
            return os.urandom(size)
        return self._bytes[start : self._used]


def _time(command: Command, head: Head, now: int) -> int:
    """Return the time of a transaction after `head`: it grows with position."""
    if command.time is None:
        return max(head.time + 1, now)
    if command.time < head.time:
        message = "it is older than the last event of the log, and times never decrease"
        raise InvalidError(message, path="recorded_at")
    if command.time > now:
        raise InvalidError("it lies in the future", path="recorded_at")
    return command.time
