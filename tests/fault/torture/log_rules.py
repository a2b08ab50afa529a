"""What the log must be by itself: gap-free, chained, in whole transactions, sensible."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from evstore.codec import event_hash
from evstore.model import Operation

from .evidence import Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evstore.model import StoredEvent

    from .evidence import Evidence


def check_log(evidence: Evidence) -> Iterator[Violation]:
    """Yield what is wrong with the log itself."""
    yield from _positions_and_chain(evidence)
    yield from _transactions(evidence)
    yield from _folds(evidence)


def _place(event: StoredEvent) -> str:
    return f"position {event.position}"


def _positions_and_chain(evidence: Evidence) -> Iterator[Violation]:
    position, previous = evidence.genesis.position, evidence.genesis.hash
    for event in evidence.events:
        if event.position != position + 1:
            yield Violation(Rule.GAP, _place(event), f"follows {position}")
        if event_hash(previous, event) != event.hash:
            yield Violation(Rule.CHAIN, _place(event), f"has hash {event.hash.hex()}")
        position, previous = event.position, event.hash


def _transactions(evidence: Evidence) -> Iterator[Violation]:
    finished: set[str] = set()
    for transaction in evidence.transactions:
        first, last = transaction[0], transaction[-1]
        ids = {event.tx for event in transaction}
        if last.position != last.commit:
            what = f"the last event is {last.position}, its commit {last.commit}"
            yield Violation(Rule.TORN, _place(first), what)
        if len(ids) > 1 or ids & finished:
            what = "the id of a transaction does not go with its commit"
            yield Violation(Rule.TORN, _place(first), what)
        if len({event.time for event in transaction}) > 1:
            what = "one transaction has several times"
            yield Violation(Rule.TIME, _place(first), what)
        finished |= ids
    for before, after in pairwise(evidence.transactions):
        if before[-1].time >= after[0].time:
            what = f"{after[0].time} us after {before[-1].time} us"
            yield Violation(Rule.TIME, _place(after[0]), what)


def _folds(evidence: Evidence) -> Iterator[Violation]:
    existing: set[str] = set()
    for event in evidence.events:
        created = event.operation is Operation.CREATED
        if created == (event.key in existing):
            now = "exists" if created else "does not exist"
            what = f"{event.operation.value}, but {event.key} {now}"
            yield Violation(Rule.IMPOSSIBLE, _place(event), what)
        if event.operation is Operation.DELETED:
            existing.discard(event.key)
        else:
            existing.add(event.key)
