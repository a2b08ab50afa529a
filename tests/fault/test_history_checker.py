"""The checker of histories: a right one has nothing wrong, and each rule can fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from events import create, key
from fault.torture.case import (
    A,
    Case,
    asked,
    read,
    replace,
    write,
)
from fault.torture.evidence import Rule
from fault.torture.flaws import FLAWS, resumed_ahead
from fault.torture.records import (
    CREATE,
    Change,
    Ended,
    HistoryFile,
    Opening,
    Unknown,
    read_history,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_right_history_has_nothing_wrong() -> None:
    assert Case().check() == set()


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [(rule, flaw) for rule, flaws in FLAWS.items() for flaw in flaws],
    ids=lambda each: each.name if isinstance(each, Rule) else each.__name__,
)
def test_a_flaw_is_found(rule: Rule, spoil: Callable[[Case], None]) -> None:
    case = Case()
    spoil(case)
    assert rule in case.check()


def test_every_rule_can_fail() -> None:
    assert set(FLAWS) == set(Rule)


def test_an_unknown_write_may_be_in_the_log_or_not() -> None:
    case = Case()
    case.writes += [
        asked(20, 210, "w-20", Change(CREATE, key("d"))),
        Unknown(id=20, at=220, why="OutcomeUnknownError"),
        asked(21, 211, "w-21", Change(CREATE, key("e"))),  # killed: no outcome at all
    ]
    assert case.check() == set()
    case.append(create(key("d"), {"token": "w-20"}), reason="w-20")
    case.append(create(key("e"), {"token": "w-21"}), reason="w-21")
    assert case.check() == set()


def test_a_read_beside_a_write_may_see_it_or_not() -> None:
    for version in (1, 2):
        case = Case()
        case.reads = [Opening(at=1), *read(1, 35, A, version=version, consistent=True)]
        assert case.check() == set()


def test_a_watcher_that_listed_again_after_a_divergence_skips_nothing() -> None:
    case = Case()
    resumed_ahead(case)
    replace(case.watches, Ended, 0, error="DivergedError")
    assert case.check() == set()


def test_a_watcher_that_listed_again_after_a_compaction_skips_nothing() -> None:
    case = Case()
    case.archive.add(4, case.events[4:])
    resumed_ahead(case)
    replace(case.watches, Ended, 0, error="CompactedError")
    assert case.check() == set()


def test_states_and_readings_that_are_right_are_found_right() -> None:
    case = Case()
    for position in (0, 2, 4, 6):
        case.fold(position)
    case.append(create(key("d"), {"token": "w-20"}), reason="w-20")
    case.writes += write(20, 210, "w-20", Change(CREATE, key("d")), told=[7])
    case.archive.add(6, case.events[6:])
    case.fold(7)
    assert case.check() == set()
    assert case.archive.events == case.events


def test_a_line_that_was_never_finished_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "w.0000.jsonl"
    case = Case()
    with HistoryFile(path) as file:
        for record in (*case.writes, *case.reads, *case.watches):
            file.record(record)
    with path.open("ab") as torn:
        torn.write(b'{"type":"Told","id":1')
    history = read_history(path)
    assert history.session == "w.0000"
    assert history.records == [*case.writes, *case.reads, *case.watches]
