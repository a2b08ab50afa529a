"""Histories and the log, put in order for the rules to look at."""

from __future__ import annotations

import enum
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from evstore.model import REASON, Operation

from .records import Asked, Got, Opening, Reading, Refused, Told, Unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evstore.model import Head, StoredEvent

    from .records import Change, History, Outcome

FOREVER: Final = 2**62

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Rule(enum.StrEnum):
    """What must hold; its value says what is wrong where it does not."""

    GAP = "positions have a gap"
    CHAIN = "the chain of hashes is broken"
    TORN = "a transaction is torn"
    TIME = "time does not grow"
    IMPOSSIBLE = "an event does not fit the state before it"
    LOST = "an acknowledged write is not in the log"
    DOUBLED = "a write is in the log twice"
    MISTOLD = "a write is not at the version that was told"
    REFUSED = "a refused write is in the log"
    UNASKED = "an event that nobody asked for is in the log"
    CONTENT = "a write is in the log with another content"
    OVERWRITTEN = "a change did not follow the version that it was based on"
    ORDER = "a write stands before one that was acknowledged earlier"
    VERDICT = "a refusal was not right at any moment of the call"
    UNEXPECTED = "no call of this history may be answered like this"
    DIRTY = "a read saw what is not in the log"
    STALE = "a read did not see what it had to see"
    FUTURE = "something was seen before it was asked for"
    MISSED = "a watch missed an event"
    TWICE = "a watch gave an event twice"
    REORDERED = "a watch gave events out of order"
    INVENTED = "a watch gave an event that is not in the log, or not asked for"
    SPLIT = "a watch ended in the middle of a transaction"
    INITIAL = "a watch did not begin with exactly what existed"
    AHEAD = "a bookmark was ahead of what had been given"
    SKIPPED = "a watch was resumed beyond what it had given"
    COMPACTED = "a watch was told of a compaction that has not come so far"
    VANISHED = "an event that was in the log is not there any more, or is another"
    STATE = "a state is not what the log comes to"


class Violation(NamedTuple):
    """A rule that does not hold, and where."""

    rule: Rule
    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.rule}: {self.what}"


@dataclass
class Attempt:
    """One call: what was asked, and how it ended, where it did."""

    session: str
    asked: Asked
    outcome: Outcome | None = None

    @property
    def place(self) -> str:
        return f"{self.session} call {self.asked.id} ({self.asked.token})"


@dataclass
class Write:
    """A write over all of its attempts, and the transactions that carry its token."""

    token: str
    attempts: list[Attempt] = field(default_factory=list)
    transactions: list[list[StoredEvent]] = field(default_factory=list)

    @property
    def asked_at(self) -> int:
        return min(attempt.asked.at for attempt in self.attempts)

    @property
    def changes(self) -> list[Change]:
        return self.attempts[0].asked.changes

    @property
    def told(self) -> list[tuple[Attempt, Told]]:
        return [
            (attempt, attempt.outcome)
            for attempt in self.attempts
            if isinstance(attempt.outcome, Told)
        ]

    @property
    def surely_refused(self) -> bool:
        return all(isinstance(each.outcome, Refused) for each in self.attempts)

    @property
    def place(self) -> str:
        return self.attempts[0].place


class Span(NamedTuple):
    """From which position to which one a key was at a version; None: absent."""

    first: int
    last: int
    version: int | None


class Evidence:
    """All there is to judge by: the log's events, and what every client wrote down."""

    def __init__(
        self,
        genesis: Head,
        events: Sequence[StoredEvent],
        histories: Sequence[History],
        *,
        floor: int = 0,
    ) -> None:
        self.genesis = genesis
        self.events = events
        self.histories = histories
        self.floor = floor
        self.positions = [event.position for event in events]
        self.transactions = [
            list(group) for _, group in groupby(events, lambda event: event.commit)
        ]
        self.tokens = [token_of(each[0]) for each in self.transactions]
        self.writes: dict[str, Write] = {}
        self.spans: dict[str, list[Span]] = {}
        self._collect_writes()
        self._collect_spans()
        self._acknowledged = _Latest(
            (told.at, transaction[-1].position)
            for write in self.writes.values()
            for _, told in write.told
            for transaction in write.transactions
        )
        appended = sorted(
            (write.asked_at, transaction[0].position)
            for write in self.writes.values()
            for transaction in write.transactions
        )
        self._asked_at = [at for at, _ in appended]
        first = accumulate(reversed([each for _, each in appended]), min)
        self._first_after = [*reversed(list(first)), FOREVER]

    def acknowledged_before(self, at: int) -> int:
        """Return the last position of what anybody was told before a moment."""
        return self._acknowledged.before(at)

    def bound_after(self, at: int) -> int:
        """Return the last position that can have been there at a moment.

        What was asked for later came later.
        """
        return self._first_after[bisect_right(self._asked_at, at)] - 1

    def between(self, after: int) -> Iterable[StoredEvent]:
        """Return the events after a position."""
        for index in range(bisect_right(self.positions, after), len(self.events)):
            yield self.events[index]

    def until(self, position: int) -> Iterable[StoredEvent]:
        """Return the events up to a position."""
        return self.events[: bisect_right(self.positions, position)]

    def hash_at(self, position: int) -> str:
        """Return the hash of the event at a position; "" where there is none."""
        if position == self.genesis.position:
            return self.genesis.hash.hex()
        index = bisect_left(self.positions, position)
        if self.positions[index : index + 1] != [position]:
            return ""
        return self.events[index].hash.hex()

    def holds(self, key: str, version: int | None, first: int, last: int) -> bool:
        """Whether a key was at a version somewhere from one position to another."""
        return any(
            span.version == version and span.first <= last and span.last >= first
            for span in self._spans_in(key, first, last)
        )

    def version_before(self, event: StoredEvent) -> int | None:
        """Return the version of the event's key before its transaction; None: absent."""
        spans = self._spans(event.key)
        index = bisect_left(spans, event.commit, key=lambda span: span.first)
        return spans[index - 1].version

    def committed(self, key: str, version: int) -> int | None:
        """Return from which position on a version is visible; None if it is not there."""
        for span in self._spans_in(key, version, FOREVER):
            if span.version == version:
                return span.first
        return None

    def _spans(self, key: str) -> list[Span]:
        return self.spans.get(key) or [Span(0, FOREVER, None)]

    def _spans_in(self, key: str, first: int, last: int) -> Iterable[Span]:
        spans = self._spans(key)
        for index in range(bisect_left(spans, first, key=lambda s: s.last), len(spans)):
            if spans[index].first > last:
                return
            yield spans[index]

    def _collect_writes(self) -> None:
        for history in self.histories:
            calls: dict[int, Attempt] = {}
            for record in history.records:
                if isinstance(record, Asked):
                    attempt = Attempt(history.session, record)
                    calls[record.id] = attempt
                    write = self.writes.setdefault(record.token, Write(record.token))
                    write.attempts.append(attempt)
                elif isinstance(record, Told | Refused | Unknown):
                    calls[record.id].outcome = record
        for token, transaction in zip(self.tokens, self.transactions, strict=True):
            if token in self.writes:
                self.writes[token].transactions.append(transaction)

    def _collect_spans(self) -> None:
        begun: dict[str, tuple[int, int | None]] = {}
        for event in self.events:
            first, version = begun.get(event.key, (0, None))
            spans = self.spans.setdefault(event.key, [])
            spans.append(Span(first, event.commit - 1, version))
            deleted = event.operation is Operation.DELETED
            begun[event.key] = (event.commit, None if deleted else event.position)
        for key, (first, version) in begun.items():
            self.spans[key].append(Span(first, FOREVER, version))


class Knowledge:
    """How far one session must be, by what it was told and has seen itself."""

    def __init__(self, evidence: Evidence, history: History) -> None:
        start = 0
        found: list[tuple[int, int]] = []
        calls: dict[int, str] = {}
        for record in history.records:
            match record:
                case Opening(at=at):
                    start = evidence.acknowledged_before(at)
                case Asked(id=id_, token=token):
                    calls[id_] = token
                case Reading(id=id_, key=key):
                    calls[id_] = key
                case Told(id=id_, at=at):
                    found += [
                        (at, transaction[-1].position)
                        for transaction in evidence.writes[calls[id_]].transactions
                    ]
                case Got(id=id_, at=at, version=int(version)):
                    seen = evidence.committed(calls[id_], version)
                    found += [] if seen is None else [(at, seen)]
                case _:
                    pass
        self._start = start
        self._known = _Latest(found)

    def before(self, at: int) -> int:
        """Return the position that the session must have applied before a moment."""
        return max(self._start, self._known.before(at))


class _Latest:
    """The greatest position that became known before a moment."""

    def __init__(self, found: Iterable[tuple[int, int]]) -> None:
        ordered = sorted(found)
        self._at = [at for at, _ in ordered]
        self._positions = [0, *accumulate((each for _, each in ordered), max)]

    def before(self, at: int) -> int:
        return self._positions[bisect_left(self._at, at)]


def token_of(event: StoredEvent) -> str:
    """Return the token of the write that an event belongs to."""
    return str(_decode(event.metadata).get(REASON, ""))


def spec_of(event: StoredEvent) -> dict[str, Any]:
    """Return what an event says its resource should be."""
    return _decode(event.body).get("spec") or {}
