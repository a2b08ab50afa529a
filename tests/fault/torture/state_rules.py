"""What stores must have folded the log to: one state at each position, the log's."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from evstore.folds.projections import Projections

from .evidence import Rule, Violation
from .records import Folded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .evidence import Evidence


def check_states(evidence: Evidence) -> Iterator[Violation]:
    """Yield the states that a fold of the whole log does not come to."""
    told: dict[int, set[tuple[str, str]]] = defaultdict(set)
    for history in evidence.histories:
        for record in history.records:
            if isinstance(record, Folded):
                told[record.position].add((record.digest, history.session))
    yield from _states(evidence, told)


def _states(
    evidence: Evidence, told: dict[int, set[tuple[str, str]]]
) -> Iterator[Violation]:
    projections = Projections(evidence.genesis)
    places = iter([[], *evidence.transactions])
    for position in sorted(told):
        while projections.position < position:
            transaction = next(places, None)
            if transaction is None:
                break
            projections.apply(transaction)
        right = projections.resources.digest().hex()
        for digest, session in sorted(told[position]):
            if projections.position != position or digest != right:
                what = f"{digest} at {position}, the log comes to {right}"
                yield Violation(Rule.STATE, session, what)
