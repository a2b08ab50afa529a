"""What differs between two JSON values, leaf by leaf."""

from __future__ import annotations

from typing import Any

import jsonpatch
import pytest
from hypothesis import given, strategies as st

from evstore.values.diff import (
    Difference,
    below,
    differences,
    fingerprint,
    in_order,
    leaves,
    match_elements,
    patch,
    readable,
    same,
)
from values import VALUES


def told(old: Any, new: Any) -> list[str]:
    """Return the differences as short texts."""
    return [text(each) for each in differences(old, new)]


def text(each: Difference) -> str:
    if each.moved_from is not None:
        return f"{each.moved_from} > {each.path}"
    document = {"path": each.path, "old": each.old, "new": each.new}
    sides = [
        fingerprint(document[side]).decode() if document[side] != ABSENT else ""
        for side in ("old", "new")
    ]
    return f"{each.path}: {sides[0]} -> {sides[1]}"


ABSENT = Difference(path="").old


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        ({"a": 1}, {"a": 2}, ["/a: 1 -> 2"]),
        ({"a": 1}, {"a": 1.0}, ["/a: 1 -> 1.0"]),
        ({"a": 1}, {"a": True}, ["/a: 1 -> true"]),
        ({"a": 1}, {"a": None}, ["/a: 1 -> null"]),
        ({"a": None}, {}, ["/a: null -> "]),
        ({}, {"a": {"b": [1]}}, ["/a/b/0:  -> 1"]),
        ({"a": {}}, {"a": []}, ["/a: {} -> []"]),
        ({"a": {}}, {"a": {"b": 1}}, ["/a/b:  -> 1"]),
        ({"a": {"b": 1}}, {"a": {}}, ["/a/b: 1 -> "]),
        ({"a": 1}, {"a": {"b": 1}}, ['/a: 1 -> {"b":1}']),
        ({"a": [1]}, {"a": {"b": 1}}, ['/a: [1] -> {"b":1}']),
        ({"k.io/a~": 1}, {"k.io/a~": 2}, ["/k.io~1a~0: 1 -> 2"]),
        (ABSENT, {}, [":  -> {}"]),
        (ABSENT, {"a": []}, ["/a:  -> []"]),
        ({"a": {"b": 1}}, ABSENT, ["/a/b: 1 -> "]),
    ],
)
def test_leaves_that_differ_are_told_by_pointer(
    old: Any, new: Any, expected: list[str]
) -> None:
    assert told(old, new) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([1, 2], [1, 3, 4], ["/1: 2 -> 3", "/2:  -> 4"]),
        ([1, 2, 3], [0, 1, 2, 3], ["/0:  -> 0"]),
        ([1, 2, 3], [1, 3], ["/1: 2 -> "]),
        ([1, 2, 3, 4], [1, 9, 2, 4], ["/2: 3 -> ", "/1:  -> 9"]),
        (["a", "b", "c"], ["c", "a", "b"], ["/2 > /0"]),
        (["a", "b"], ["a", "a", "b"], ['/1:  -> "a"']),
        ([[1]], [[2]], ["/0/0: 1 -> 2"]),
        ([{"x": 1}], [[1]], ["/0/x: 1 -> ", "/0/0:  -> 1"]),
        ([1], [], ["/0: 1 -> "]),
        # What identifies an element finds it wherever it is.
        (
            [{"name": "a", "v": 1}, {"name": "b", "v": 1}],
            [{"name": "c", "v": 1}, {"name": "a", "v": 1}, {"name": "b", "v": 2}],
            ['/0/name:  -> "c"', "/0/v:  -> 1", "/2/v: 1 -> 2"],
        ),
        (
            [{"name": "a", "v": 1}, {"name": "b", "v": 1}],
            [{"name": "b", "v": 2}, {"name": "a", "v": 1}],
            ["/1 > /0", "/0/v: 1 -> 2"],
        ),
        # Another name is another element, even alone and in the same place.
        (
            [{"name": "a", "v": 1}],
            [{"name": "b", "v": 1}],
            ['/0/name: "a" -> ', "/0/v: 1 -> ", '/0/name:  -> "b"', "/0/v:  -> 1"],
        ),
        # A name that stands twice identifies nothing.
        (
            [{"name": "a", "v": 1}, {"name": "a", "v": 2}],
            [{"name": "a", "v": 1}, {"name": "a", "v": 3}],
            ["/1/v: 2 -> 3"],
        ),
        (
            [{"port": 80, "tags": {}}],
            [{"port": 81, "tags": {}}],
            ["/0/port: 80 -> 81"],
        ),
        (
            [{"targetRef": {"kind": "Mesh"}, "v": 1}],
            [
                {"targetRef": {"kind": "MeshService"}, "v": 1},
                {"targetRef": {"kind": "Mesh"}, "v": 2},
            ],
            ['/0/targetRef/kind:  -> "MeshService"', "/0/v:  -> 1", "/1/v: 1 -> 2"],
        ),
    ],
)
def test_elements_of_lists_are_matched_before_they_are_compared(
    old: Any, new: Any, expected: list[str]
) -> None:
    assert told(old, new) == expected


@pytest.mark.parametrize(
    ("matched", "kept"),
    [
        ([], set()),
        ([None, None], set()),
        ([0, 1, 2], {0, 1, 2}),
        ([2, 0, 1], {1, 2}),
        ([None, 1, None, 0, 2], {3, 4}),
        ([3, 0, 1, 2, 9, 4, 5], {1, 2, 3, 5, 6}),
    ],
)
def test_as_many_as_can_be_keep_their_order(
    matched: list[int | None], kept: set[int]
) -> None:
    assert in_order(matched) == kept


@pytest.mark.parametrize(
    ("pointer", "path"),
    [
        ("", ""),
        ("/spec/to/0/port", "spec.to[0].port"),
        ("/spec/k.io~1a", 'spec["k.io/a"]'),
        ("/spec/~01", 'spec["~1"]'),
        ("/spec/to/-/gone", "spec.to[-].gone"),
    ],
)
def test_pointers_are_written_as_people_do(pointer: str, path: str) -> None:
    assert readable(pointer) == path


@given(VALUES, VALUES)
def test_a_patch_makes_one_value_of_another(old: Any, new: Any) -> None:
    made = jsonpatch.apply_patch(old, patch(old, new))
    assert same(made, new)


@given(VALUES, VALUES)
def test_there_are_differences_exactly_where_values_differ(old: Any, new: Any) -> None:
    found = list(differences(old, new))
    assert (not found) == same(old, new)
    before, after = dict(leaves(old)), dict(leaves(new))
    for each in found:
        # Every leaf that is told is one; a container that became another kind is whole.
        if each.moved_from is None and each.new == ABSENT:
            assert same(before[each.path], each.old)
        if each.moved_from is None and each.old == ABSENT:
            assert same(after[each.path], each.new)


@given(st.lists(VALUES, max_size=6), st.lists(VALUES, max_size=6))
def test_no_element_is_matched_twice(old: list[Any], new: list[Any]) -> None:
    matched = match_elements(old, new)
    origins = [origin for origin in matched if origin is not None]
    assert len(matched) == len(new)
    assert len(set(origins)) == len(origins)
    assert all(0 <= origin < len(old) for origin in origins)


@given(VALUES)
def test_leaves_say_where_they_are(value: Any) -> None:
    pointers = [pointer for pointer, _ in leaves(value)]
    assert len(set(pointers)) == len(pointers)
    for pointer, leaf in leaves(value):
        assert same(jsonpatch.JsonPointer(pointer).resolve(value), leaf)


def test_a_pointer_goes_on_below() -> None:
    assert below(below("", "a/b~"), 3) == "/a~1b~0/3"
