"""What changed between two versions, by path."""

from __future__ import annotations

from typing import Any

import pytest

from evstore.cli.changes import ABSENT, differences
from evstore.cli.documents import masked


def lines(old: Any, new: Any, *, secret: bool = False) -> list[str]:
    return [each.line(secret=secret) for each in differences(old, new, "spec")]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["~spec.a: 1 -> 2"]),
        ({"a": 1}, {"a": 1.0}, ["~spec.a: 1 -> 1.0"]),
        ({"a": 1}, {"a": True}, ["~spec.a: 1 -> true"]),
        ({"a": 1}, {"a": None}, ["~spec.a: 1 -> null"]),
        ({"a": None}, {}, ["-spec.a: null"]),
        ({}, {"a": {"b": [1]}}, ["+spec.a.b[0]: 1"]),
        ({"a": [1, 2]}, {"a": [1, 3, 4]}, ["~spec.a[1]: 2 -> 3", "+spec.a[2]: 4"]),
        ({"a": {}}, {"a": []}, ["~spec.a: {} -> []"]),
        ({"a": {}}, {"a": {"b": 1}}, ["+spec.a.b: 1"]),
        ({"a": 1}, {"a": {"b": 1}}, ['~spec.a: 1 -> {"b":1}']),
        ({"a": [1]}, {"a": {"b": 1}}, ['~spec.a: [1] -> {"b":1}']),
        ({"k.io/a": 1}, {"k.io/a": 2}, ['~spec["k.io/a"]: 1 -> 2']),
        (ABSENT, {}, ["+spec: {}"]),
        (ABSENT, {"a": []}, ["+spec.a: []"]),
        ({"a": {"b": 1}}, ABSENT, ["-spec.a.b: 1"]),
    ],
)
def test_leaves_that_differ_are_told_by_path(
    old: Any, new: Any, expected: list[str]
) -> None:
    assert lines(old, new) == expected


def test_secret_values_are_hidden_and_labels_are_not() -> None:
    assert lines({"a": "old"}, {"a": "new"}, secret=True) == ["~spec.a: *** -> ***"]
    (label,) = differences({"a": "x"}, {"a": "y"}, "labels")
    assert label.line(secret=True) == '~labels.a: "x" -> "y"'


def test_json_has_old_and_new_only_where_there_is_one() -> None:
    (added,) = differences({}, {"a": None})
    assert added.document() == {"path": "a", "new": None}


def test_masking_keeps_the_shape() -> None:
    assert masked({"a": ["x", {"b": 1}]}) == {"a": ["***", {"b": "***"}]}
