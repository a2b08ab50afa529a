"""What watches must have given: exactly the log's sequence, filtered, from their start."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from evstore.errors import CompactedError, DivergedError
from evstore.model import Operation

from .evidence import Rule, Violation
from .records import Ended, Marked, Seen, Watching

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from evstore.errors import StoreError
    from evstore.model import StoredEvent

    from .evidence import Evidence
    from .records import History


@dataclass
class _Watch:
    session: str
    begun: Watching
    given: list[Seen | Marked] = field(default_factory=list)
    ended: Ended | None = None

    @property
    def place(self) -> str:
        return f"{self.session} watcher {self.begun.watcher} from {self.begun.after}"

    @property
    def delivered(self) -> int:
        """The position after which the watcher goes on."""
        return self.given[-1].position if self.given else self.begun.after

    @property
    def unbegun(self) -> bool:
        """Whether it was to begin with what exists, and has not got through that."""
        return self.begun.initial and not any(
            isinstance(each, Marked) for each in self.given
        )

    @property
    def compacted(self) -> bool:
        return self._ended_by(CompactedError)

    @property
    def resumable(self) -> bool:
        """Whether the watcher goes on where it stood, and not from a listing."""
        return not self.compacted and not self._ended_by(DivergedError)

    def _ended_by(self, error: type[StoreError]) -> bool:
        return self.ended is not None and self.ended.error == error.__name__


def check_watches(evidence: Evidence) -> Iterator[Violation]:
    """Yield what is wrong with what watchers were given."""
    for watches in _watches(evidence.histories).values():
        before: _Watch | None = None
        for watch in watches:
            if not watch.unbegun:
                yield from _given(evidence, watch)
            if watch.compacted and watch.delivered >= evidence.floor:
                what = f"at {watch.delivered}, the floor is {evidence.floor}"
                yield Violation(Rule.COMPACTED, watch.place, what)
            if before is not None and before.resumable and not watch.begun.initial:
                yield from _resumption(evidence, before, watch)
            before = watch


def _watches(histories: Iterable[History]) -> dict[str, list[_Watch]]:
    """Return the watches of each watcher, over all of its sessions, in order."""
    found: dict[str, list[_Watch]] = {}
    for history in histories:
        for record in history.records:
            if isinstance(record, Watching):
                watches = found.setdefault(record.watcher, [])
                watches.append(_Watch(history.session, record))
            elif isinstance(record, Seen | Marked):
                found[record.watcher][-1].given.append(record)
            elif isinstance(record, Ended):
                found[record.watcher][-1].ended = record
    return found


def _as_seen(watcher: str, event: StoredEvent) -> Seen:
    return Seen(
        watcher=watcher,
        position=event.position,
        commit=event.commit,
        key=event.key,
        operation=event.operation.value,
        hash=event.hash.hex(),
    )


def _given(evidence: Evidence, watch: _Watch) -> Iterator[Violation]:
    """Check what was given: what exists first, where that was asked for, then the rest."""
    after, given = watch.begun.after, watch.given
    if watch.begun.initial:
        marks = [i for i, each in enumerate(given) if isinstance(each, Marked)]
        after = given[marks[0]].position
        yield from _initial(evidence, watch, given[: marks[0]], after)
        given = given[marks[0] :]
    seen = [each for each in given if isinstance(each, Seen)]
    due = (
        _as_seen(watch.begun.watcher, event)
        for event in evidence.between(after)
        if watch.begun.where.accepts(event)
    )
    # One more than was given; all of the log only for those who went astray.
    expected = list(islice(due, len(seen) + 1))
    if seen != expected[: len(seen)]:
        expected += due
    yield from _bookmarks(evidence, watch, given, expected)
    yield from _sequence(watch, seen, expected)


def _initial(
    evidence: Evidence, watch: _Watch, given: list[Seen | Marked], position: int
) -> Iterator[Violation]:
    last: dict[str, StoredEvent] = {}
    for event in evidence.until(position):
        if watch.begun.where.accepts(event):
            last[event.key] = event
    existing = [
        _as_seen(watch.begun.watcher, event)
        for event in sorted(last.values(), key=lambda event: event.position)
        if event.operation is not Operation.DELETED
    ]
    if given != existing:
        wrong = {each.position for each in given} ^ {each.position for each in existing}
        what = f"up to {position}: {sorted(wrong)[:5] or 'another order'}"
        yield Violation(Rule.INITIAL, watch.place, what)


def _bookmarks(
    evidence: Evidence,
    watch: _Watch,
    given: list[Seen | Marked],
    expected: list[Seen],
) -> Iterator[Violation]:
    count = 0
    for each in given:
        if isinstance(each, Seen):
            count += 1
            continue
        if evidence.hash_at(each.position) != each.hash:
            what = f"the bookmark {each.position} has hash {each.hash}"
            yield Violation(Rule.INVENTED, watch.place, what)
        if count < len(expected) and expected[count].position <= each.position:
            what = f"{each.position}, when {expected[count].position} was due"
            yield Violation(Rule.AHEAD, watch.place, what)
            return


def _sequence(
    watch: _Watch, given: list[Seen], expected: list[Seen]
) -> Iterator[Violation]:
    for index, seen in enumerate(given):
        if index < len(expected) and seen == expected[index]:
            continue
        # What comes later is off by this one; the first difference says it.
        yield _difference(watch, given, index, expected)
        return
    count = len(given)
    if watch.ended is None or count == len(expected):
        return
    due = expected[count]
    if not watch.ended.error:
        what = f"nothing more came after {watch.delivered}, {due.position} did not"
        yield Violation(Rule.MISSED, watch.place, what)
    if given and due.commit == given[-1].commit:
        what = f"after {watch.delivered}, whose commit is {due.commit}"
        yield Violation(Rule.SPLIT, watch.place, what)


def _difference(
    watch: _Watch, given: list[Seen], index: int, expected: list[Seen]
) -> Violation:
    seen = given[index]
    due = expected[index] if index < len(expected) else None
    what = f"gave {seen.position}, due was {due.position if due else 'nothing'}"
    if seen in given[:index]:
        return Violation(Rule.TWICE, watch.place, what)
    if seen not in expected:
        return Violation(Rule.INVENTED, watch.place, what)
    if due in given:
        return Violation(Rule.REORDERED, watch.place, what)
    return Violation(Rule.MISSED, watch.place, what)


def _resumption(
    evidence: Evidence, before: _Watch, watch: _Watch
) -> Iterator[Violation]:
    """Between two watches of one watcher there is no event that he wants."""
    where = watch.begun.where
    low, high = sorted((before.delivered, watch.begun.after))
    wanted = [
        event.position
        for event in evidence.between(low)
        if event.position <= high and where.accepts(event)
    ]
    if wanted:
        ahead = watch.begun.after > before.delivered
        rule = Rule.SKIPPED if ahead else Rule.TWICE
        what = f"{wanted[:5]} after {before.delivered}"
        yield Violation(rule, watch.place, what)
