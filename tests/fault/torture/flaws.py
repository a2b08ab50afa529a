"""What a history can be spoilt by: for each rule some flaws that break it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from events import create, delete, key, update
from evstore.model import Operation

from .case import (
    A,
    B,
    C,
    Case,
    marked,
    read,
    remove,
    replace,
    seen,
    write,
)
from .evidence import Rule
from .records import (
    CREATE,
    DELETE,
    UPDATE,
    UPSERT,
    Asked,
    Change,
    Ended,
    Folded,
    Got,
    Marked,
    Opening,
    Refused,
    Seen,
    Told,
    Watching,
)

if TYPE_CHECKING:
    from collections.abc import Callable


# The log by itself.


def gap(case: Case) -> None:
    case.change(5, position=7, commit=7)
    case.rechain()


def chain(case: Case) -> None:
    case.change(2, salt=os.urandom(16))


def torn_from_its_commit(case: Case) -> None:
    case.change(4, commit=6)
    case.rechain()


def torn_by_another(case: Case) -> None:
    case.change(4, tx=case.events[0].tx)
    case.rechain()


def time_stands_still(case: Case) -> None:
    case.change(4, time=case.events[3].time)
    case.rechain()


def times_of_a_transaction_differ(case: Case) -> None:
    case.change(3, time=case.events[3].time + 1)
    case.rechain()


def created_twice(case: Case) -> None:
    case.change(1, operation=Operation.CREATED)
    case.rechain()


def updated_after_its_deletion(case: Case) -> None:
    case.change(0, operation=Operation.DELETED)
    case.rechain()


# Writes.


def acknowledged_and_lost(case: Case) -> None:
    case.writes += write(20, 210, "w-20", Change(CREATE, key("d")), told=[7])


def applied_twice(case: Case) -> None:
    case.append(update(A, {"token": "w-2"}), reason="w-2")


def told_another_version(case: Case) -> None:
    replace(case.writes, Told, 1, versions=[3])


def repetition_told_another_version(case: Case) -> None:
    case.writes += write(20, 210, "w-2", Change(UPDATE, A, 1), told=[5])


def refused_and_applied(case: Case) -> None:
    case.append(create(B, {"token": "w-9"}), reason="w-9")


def nobody_asked(case: Case) -> None:
    case.append(create(key("d"), {"token": "x"}), reason="x")


def other_key(case: Case) -> None:
    replace(case.writes, Asked, 0, changes=[Change(CREATE, key("d"))])


def other_spec(case: Case) -> None:
    case.append(create(key("d"), {"token": "w-2"}), reason="w-20")
    case.writes += write(20, 210, "w-20", Change(CREATE, key("d")), told=[7])


def half_of_a_transaction(case: Case) -> None:
    changes = [Change(CREATE, B), Change(CREATE, C), Change(CREATE, key("d"))]
    replace(case.writes, Asked, 2, changes=changes)


def update_of_an_older_version(case: Case) -> None:
    case.append(update(A, {"token": "w-20"}), reason="w-20")
    case.writes += write(20, 210, "w-20", Change(UPDATE, A, 2), told=[7])


def upsert_of_an_older_version(case: Case) -> None:
    case.append(update(A, {"token": "w-20", "base": 2}), reason="w-20")
    case.writes += write(20, 210, "w-20", Change(UPSERT, A), told=[7])


def delete_of_an_older_version(case: Case) -> None:
    case.append(delete(A), reason="w-20")
    case.writes += write(20, 210, "w-20", Change(DELETE, A, 2), told=None)


def order_of_time(case: Case) -> None:
    # The second write was asked for after the fourth had been acknowledged.
    replace(case.writes, Asked, 1, at=82)
    replace(case.writes, Told, 1, at=83)


# Refusals.


def conflict_with_a_version_of_the_past(case: Case) -> None:
    replace(case.writes, Refused, 0, actual=1)


def conflict_with_the_expected_version(case: Case) -> None:
    replace(case.writes, Asked, 6, changes=[Change(UPDATE, A, 5)])


def exists_but_was_deleted(case: Case) -> None:
    replace(case.writes, Asked, 7, changes=[Change(CREATE, B)])
    replace(case.writes, Refused, 1, key=B, actual=3)


def missing_but_is_there(case: Case) -> None:
    replace(case.writes, Asked, 8, changes=[Change(DELETE, A)])
    replace(case.writes, Refused, 2, key=A)


def another_error(case: Case) -> None:
    replace(case.writes, Refused, 2, error="InvalidError")


def id_was_used_for_something_else(case: Case) -> None:
    replace(case.writes, Refused, 0, key=None)


# Reads.


def a_version_that_never_was(case: Case) -> None:
    replace(case.reads, Got, 1, version=3)


def not_what_was_acknowledged(case: Case) -> None:
    replace(case.reads, Got, 1, version=1)


def not_its_own_write(case: Case) -> None:
    replace(case.writes, Got, 0, version=2)


def back_in_time(case: Case) -> None:
    replace(case.reads, Got, 2, version=1)


def from_before_the_store_was_opened(case: Case) -> None:
    case.reads = [Opening(at=45), *read(1, 46, A, version=1)]


def read_before_it_was_asked_for(case: Case) -> None:
    replace(case.reads, Got, 1, version=5)


# Watches.


def missed_in_the_middle(case: Case) -> None:
    remove(case.watches, Seen, 3)


def missed_at_the_end(case: Case) -> None:
    remove(case.watches, Seen, 5)


def missed_by_a_filter(case: Case) -> None:
    remove(case.watches, Seen, 6)


def given_twice(case: Case) -> None:
    case.watches.insert(7, case.watches[6])


def given_out_of_order(case: Case) -> None:
    case.watches[5], case.watches[6] = case.watches[6], case.watches[5]


def given_though_filtered(case: Case) -> None:
    place = case.watches.index(seen("a", case.events[4]))
    case.watches.insert(place, seen("a", case.events[2]))


def given_with_another_hash(case: Case) -> None:
    replace(case.watches, Seen, 2, hash="00")


def bookmark_with_another_hash(case: Case) -> None:
    replace(case.watches, Marked, 1, hash="00")


def began_without_what_exists(case: Case) -> None:
    case.watches.remove(seen("new", case.events[2]))


def began_with_what_was_overwritten(case: Case) -> None:
    place = case.watches.index(seen("new", case.events[1]))
    case.watches.insert(place, seen("new", case.events[0]))


def began_with_what_was_deleted(case: Case) -> None:
    begun = Watching(watcher="later", at=310, after=0, initial=True)
    existing = [seen("later", case.events[index]) for index in (2, 3, 4)]
    case.watches += [begun, *existing, marked("later", case.events[5])]


def began_in_another_order(case: Case) -> None:
    first = case.watches.index(seen("new", case.events[1]))
    case.watches[first : first + 2] = reversed(case.watches[first : first + 2])


def bookmark_ahead_of_an_event(case: Case) -> None:
    place = case.watches.index(marked("new", case.events[4]))
    case.watches[place - 1 : place + 1] = reversed(case.watches[place - 1 : place + 1])


def ended_inside_a_transaction(case: Case) -> None:
    case.watches = [
        Watching(watcher="all", at=5, after=0),
        *(seen("all", event) for event in case.events[:3]),
        Ended(watcher="all", at=300, error="UnavailableError"),
    ]


def resumed_ahead(case: Case) -> None:
    del case.watches[5:7]
    replace(case.watches, Watching, 1, after=4)


def resumed_behind(case: Case) -> None:
    case.watches.insert(5, case.watches[2])
    replace(case.watches, Watching, 1, after=1)


def ended_by_a_compaction_that_was_not(case: Case) -> None:
    # The floor is at 2, where the watcher stood.
    replace(case.watches, Ended, 0, error="CompactedError")


def read_again_with_other_content(case: Case) -> None:
    other = Case().events  # of other salts
    case.archive.add(2, [case.events[2], other[3], *case.events[4:]])


def read_again_without_its_end(case: Case) -> None:
    case.archive.add(2, case.events[2:5])


def compacted_beyond_what_was_read(case: Case) -> None:
    case.archive.add(7, [])


def folded_to_another_state(case: Case) -> None:
    case.fold(5)
    replace(case.reads, Folded, 0, position=6)


def folded_beyond_the_log(case: Case) -> None:
    case.fold(6)
    replace(case.reads, Folded, 0, position=8)


FLAWS: dict[Rule, list[Callable[[Case], None]]] = {
    Rule.GAP: [gap],
    Rule.CHAIN: [chain],
    Rule.TORN: [torn_from_its_commit, torn_by_another],
    Rule.TIME: [time_stands_still, times_of_a_transaction_differ],
    Rule.IMPOSSIBLE: [created_twice, updated_after_its_deletion],
    Rule.LOST: [acknowledged_and_lost],
    Rule.DOUBLED: [applied_twice],
    Rule.MISTOLD: [told_another_version, repetition_told_another_version],
    Rule.REFUSED: [refused_and_applied],
    Rule.UNASKED: [nobody_asked],
    Rule.CONTENT: [other_key, other_spec, half_of_a_transaction],
    Rule.OVERWRITTEN: [
        update_of_an_older_version,
        upsert_of_an_older_version,
        delete_of_an_older_version,
    ],
    Rule.ORDER: [order_of_time],
    Rule.VERDICT: [
        conflict_with_a_version_of_the_past,
        conflict_with_the_expected_version,
        exists_but_was_deleted,
        missing_but_is_there,
    ],
    Rule.UNEXPECTED: [another_error, id_was_used_for_something_else],
    Rule.DIRTY: [a_version_that_never_was],
    Rule.STALE: [
        not_what_was_acknowledged,
        not_its_own_write,
        back_in_time,
        from_before_the_store_was_opened,
    ],
    Rule.FUTURE: [read_before_it_was_asked_for],
    Rule.MISSED: [missed_in_the_middle, missed_at_the_end, missed_by_a_filter],
    Rule.TWICE: [given_twice, resumed_behind],
    Rule.REORDERED: [given_out_of_order],
    Rule.INVENTED: [
        given_though_filtered,
        given_with_another_hash,
        bookmark_with_another_hash,
    ],
    Rule.INITIAL: [
        began_without_what_exists,
        began_with_what_was_overwritten,
        began_with_what_was_deleted,
        began_in_another_order,
    ],
    Rule.AHEAD: [bookmark_ahead_of_an_event],
    Rule.SPLIT: [ended_inside_a_transaction],
    Rule.SKIPPED: [resumed_ahead],
    Rule.COMPACTED: [ended_by_a_compaction_that_was_not],
    Rule.VANISHED: [
        read_again_with_other_content,
        read_again_without_its_end,
        compacted_beyond_what_was_read,
    ],
    Rule.STATE: [folded_to_another_state, folded_beyond_the_log],
}
