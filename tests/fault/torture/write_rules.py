"""What must have become of each write: in the log once, or not at all, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evstore.model import Operation

from .evidence import Rule, Violation, spec_of
from .records import CREATE, DELETE, UPDATE, UPSERT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evstore.model import StoredEvent

    from .evidence import Evidence, Write
    from .records import Change

_OPERATIONS: Final = {
    CREATE: {Operation.CREATED},
    UPDATE: {Operation.UPDATED},
    DELETE: {Operation.DELETED},
    UPSERT: {Operation.CREATED, Operation.UPDATED},
}


def check_writes(evidence: Evidence) -> Iterator[Violation]:
    """Yield what is wrong with the writes that were asked for."""
    for token, transaction in zip(evidence.tokens, evidence.transactions, strict=True):
        if token not in evidence.writes:
            place = f"position {transaction[0].position}"
            yield Violation(Rule.UNASKED, place, repr(token))
    for write in evidence.writes.values():
        yield from _times_applied(write)
        for transaction in write.transactions:
            yield from _content(write, transaction)
            yield from _bases(evidence, write, transaction)
            yield from _order(evidence, write, transaction)
        if write.transactions:
            yield from _told(write)


def _positions(transactions: list[list[StoredEvent]]) -> str:
    return "at " + ", ".join(str(each[0].position) for each in transactions)


def _times_applied(write: Write) -> Iterator[Violation]:
    if len(write.transactions) > 1:
        yield Violation(Rule.DOUBLED, write.place, _positions(write.transactions))
    if write.told and not write.transactions:
        attempt, told = write.told[0]
        what = f"told versions {told.versions}"
        yield Violation(Rule.LOST, attempt.place, what)
    if write.surely_refused and write.transactions:
        yield Violation(Rule.REFUSED, write.place, _positions(write.transactions))


def _told(write: Write) -> Iterator[Violation]:
    """Every acknowledgement, also of a repeated request, tells where the write is."""
    for attempt, told in write.told:
        if told.versions is None:
            continue
        if not any(
            _versions(write, each) == told.versions for each in write.transactions
        ):
            what = f"told {told.versions}, but it is {_positions(write.transactions)}"
            yield Violation(Rule.MISTOLD, attempt.place, what)


def _versions(write: Write, transaction: list[StoredEvent]) -> list[int | None]:
    at = {
        event.key: None if event.operation is Operation.DELETED else event.position
        for event in transaction
    }
    return [at.get(change.key, 0) for change in write.changes]


def _content(write: Write, transaction: list[StoredEvent]) -> Iterator[Violation]:
    changes = {change.key: change for change in write.changes}
    as_asked = len(transaction) == len(changes) and all(
        event.key in changes and _fits(write.token, changes[event.key], event)
        for event in transaction
    )
    if not as_asked:
        found = [f"{event.operation.value} {event.key}" for event in transaction]
        asked = [f"{change.what} {change.key}" for change in write.changes]
        what = f"{found} at {transaction[0].position}, asked for {asked}"
        yield Violation(Rule.CONTENT, write.place, what)


def _fits(token: str, change: Change, event: StoredEvent) -> bool:
    if event.operation not in _OPERATIONS[change.what]:
        return False
    return change.what == DELETE or spec_of(event).get("token") == token


def _bases(
    evidence: Evidence, write: Write, transaction: list[StoredEvent]
) -> Iterator[Violation]:
    """A compare-and-set change follows the version that it was compared with.

    An upsert says in the spec what its caller had before him when he made it.
    """
    changes = {change.key: change for change in write.changes}
    for event in transaction:
        change = changes.get(event.key)
        if change is None:
            continue
        before = evidence.version_before(event)
        if change.what == UPSERT:
            base = spec_of(event).get("base")
        elif change.expected is not None:
            base = change.expected
        else:
            continue
        if before != base:
            what = f"position {event.position} is based on {base}, but follows {before}"
            yield Violation(Rule.OVERWRITTEN, write.place, what)


def _order(
    evidence: Evidence, write: Write, transaction: list[StoredEvent]
) -> Iterator[Violation]:
    earlier = evidence.acknowledged_before(write.asked_at)
    if transaction[0].position <= earlier:
        what = f"at {transaction[0].position}, when {earlier} had been acknowledged"
        yield Violation(Rule.ORDER, write.place, what)
