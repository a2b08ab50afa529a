"""What calls without events must have said: refusals and reads, about a state in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evstore.errors import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    UnavailableError,
)

from .evidence import FOREVER, Knowledge, Rule, Violation
from .records import Got, Reading, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .evidence import Attempt, Evidence

_UNAVAILABLE: Final = UnavailableError.__name__
_ABOUT_A_VERSION: Final = {ConflictError.__name__, AlreadyExistsError.__name__}
_ABOUT_ABSENCE: Final = NotFoundError.__name__


def check_verdicts(evidence: Evidence) -> Iterator[Violation]:
    """Yield the refusals that were right at no moment of their call."""
    for write in evidence.writes.values():
        for attempt in write.attempts:
            if isinstance(attempt.outcome, Refused):
                yield from _verdict(evidence, attempt, attempt.outcome)


def _verdict(
    evidence: Evidence, attempt: Attempt, refused: Refused
) -> Iterator[Violation]:
    if refused.error == _UNAVAILABLE:
        return
    claim = f"{refused.error}: {refused.key} is at {refused.actual}"
    keys = {change.key for change in attempt.asked.changes}
    known = refused.error in _ABOUT_A_VERSION or refused.error == _ABOUT_ABSENCE
    if refused.key not in keys or not known:
        yield Violation(Rule.UNEXPECTED, attempt.place, claim)
        return
    first = evidence.acknowledged_before(attempt.asked.at)
    last = evidence.bound_after(refused.at)
    possible = evidence.holds(refused.key, refused.actual, first, last)
    if not possible or _contradicts_itself(attempt, refused):
        what = f"{claim}, from position {first} to {last}"
        yield Violation(Rule.VERDICT, attempt.place, what)


def _contradicts_itself(attempt: Attempt, refused: Refused) -> bool:
    """Whether the state that was told is one in which the write would have been right."""
    expected = [
        change.expected
        for change in attempt.asked.changes
        if change.key == refused.key and change.expected is not None
    ]
    match refused.error:
        case ConflictError.__name__:
            return refused.actual in expected
        case AlreadyExistsError.__name__:
            return refused.actual is None
        case _:
            return refused.actual is not None


def check_reads(evidence: Evidence) -> Iterator[Violation]:
    """Yield the reads that saw too old a state, or one that never was.

    Every read sees at least what its own session was told or has seen before; a
    consistent one sees what anybody was told before it began.
    """
    for history in evidence.histories:
        knowledge = Knowledge(evidence, history)
        reading: dict[int, Reading] = {}
        for record in history.records:
            if isinstance(record, Reading):
                reading[record.id] = record
            elif isinstance(record, Got):
                asked = reading[record.id]
                first = knowledge.before(asked.at)
                if asked.consistent:
                    first = max(first, evidence.acknowledged_before(asked.at))
                place = f"{history.session} call {asked.id}"
                yield from _read(evidence, place, asked, record, first)


def _read(
    evidence: Evidence, place: str, asked: Reading, got: Got, first: int
) -> Iterator[Violation]:
    last = evidence.bound_after(got.at)
    if evidence.holds(asked.key, got.version, first, last):
        return
    what = f"{asked.key} at {got.version}, from position {first} to {last}"
    if not evidence.holds(asked.key, got.version, 0, FOREVER):
        yield Violation(Rule.DIRTY, place, what)
    elif evidence.holds(asked.key, got.version, 0, last):
        yield Violation(Rule.STALE, place, what)
    else:
        yield Violation(Rule.FUTURE, place, what)
