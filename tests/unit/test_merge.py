"""Three-way merges: what only one side changed is taken from it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given

from evstore.values.diff import same
from evstore.values.merge import Clash, merge
from values import VALUES

ABSENT = msgspec.UNSET


def merged(
    base: Any, wanted: Any, current: Any, *, force: bool = False
) -> tuple[Any, list[str]]:
    clashes: list[Clash] = []
    made = merge(base, wanted, current, clashes=clashes, force=force)
    return made, [clash.path for clash in clashes]


@pytest.mark.parametrize(
    ("base", "wanted", "current", "expected"),
    [
        # Fields of objects.
        ({"a": 1}, {"a": 2}, {"a": 1, "b": 1}, {"a": 2, "b": 1}),
        ({"a": 1, "b": 1}, {"a": 1}, {"a": 1, "b": 1, "c": 1}, {"a": 1, "c": 1}),
        ({"a": 1}, {"a": 1, "b": 1}, {"a": 2}, {"a": 2, "b": 1}),
        (
            {"a": {"x": 1, "y": 1}},
            {"a": {"x": 2, "y": 1}},
            {"a": {"x": 1, "y": 2}},
            {"a": {"x": 2, "y": 2}},
        ),
        # The same change on both sides is none.
        ({"a": 1}, {"a": 2}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {}, {}, {}),
        ({}, {"a": [1]}, {"a": [1]}, {"a": [1]}),
        # Elements of lists.
        ([1, 2, 3], [1, 3], [1, 2, 3, 4], [1, 3, 4]),
        ([1, 2], [1, 2, 3], [0, 1, 2], [0, 1, 2, 3]),
        ([1, 2], [1, 5, 2], [1, 2, 9], [1, 5, 2, 9]),
        ([1, 2, 3], [3, 1, 2], [1, 2, 3, 4], [3, 4, 1, 2]),
        ([1, 2, 3], [1, 2, 3, 9], [3, 1, 2], [3, 9, 1, 2]),
        ([1], [1, 2], [1, 2], [1, 2]),
        ([], ["a"], ["b"], ["a", "b"]),
        (
            [{"name": "a", "v": 1}, {"name": "b", "v": 1}],
            [{"name": "a", "v": 0}, {"name": "b", "v": 1}],
            [
                {"name": "c", "v": 9},
                {"name": "a", "v": 1, "w": 1},
                {"name": "b", "v": 2},
            ],
            [
                {"name": "c", "v": 9},
                {"name": "a", "v": 0, "w": 1},
                {"name": "b", "v": 2},
            ],
        ),
        # Nothing at all.
        (ABSENT, {"a": 1}, ABSENT, {"a": 1}),
        ({"a": 1}, ABSENT, {"a": 1}, ABSENT),
    ],
)
def test_changes_of_different_places_are_all_kept(
    base: Any, wanted: Any, current: Any, expected: Any
) -> None:
    for force in (False, True):
        made, clashes = merged(base, wanted, current, force=force)
        assert clashes == []
        assert same(made, expected)


@pytest.mark.parametrize(
    ("base", "wanted", "current", "paths", "forced"),
    [
        ({"a": 1}, {"a": 2}, {"a": 3}, ["/a"], {"a": 2}),
        ({"a": 1}, {}, {"a": 3}, ["/a"], {}),
        ({"a": 1}, {"a": 2}, {}, ["/a"], {"a": 2}),
        ({"a": 1}, {"a": 1.0}, {"a": True}, ["/a"], {"a": 1.0}),
        ({}, {"a": {"x": 1}}, {"a": {"x": 2}}, ["/a"], {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": 5}, {"a": {"x": 2}}, ["/a"], {"a": 5}),
        (
            {"a": 1, "b": 1, "c": 1},
            {"a": 2, "b": 2, "c": 2},
            {"a": 3, "b": 1, "c": 3},
            ["/a", "/c"],
            {"a": 2, "b": 2, "c": 2},
        ),
        # An element that one side took out and the other changed.
        (
            [{"name": "a", "v": 1}],
            [],
            [{"name": "z"}, {"name": "a", "v": 2}],
            ["/1"],
            [{"name": "z"}],
        ),
        (
            [{"name": "a", "v": 1}],
            [{"name": "a", "v": 2}],
            [{"name": "z"}],
            ["/-"],
            [{"name": "a", "v": 2}, {"name": "z"}],
        ),
        # The same name put in by both.
        (
            [],
            [{"name": "a", "v": 1}],
            [{"name": "a", "v": 2}],
            ["/0"],
            [{"name": "a", "v": 1}],
        ),
        # Two orders of the same.
        ([1, 2, 3], [3, 1, 2], [2, 1, 3], [""], [3, 1, 2]),
        (ABSENT, 1, 2, [""], 1),
    ],
)
def test_different_changes_of_one_place_clash(
    base: Any, wanted: Any, current: Any, paths: list[str], forced: Any
) -> None:
    made, clashes = merged(base, wanted, current)
    assert clashes == paths
    assert merged(base, wanted, current, force=True) == (forced, paths)
    # What does not clash is carried over all the same.
    if paths == ["/a", "/c"]:
        assert made == {"a": 3, "b": 2, "c": 3}


def test_a_clash_has_all_three_values() -> None:
    clashes: list[Clash] = []
    merge({"a": 1}, {}, {"a": 2}, path="/spec", clashes=clashes)
    assert clashes == [Clash(path="/spec/a", base=1, wanted=ABSENT, current=2)]


@given(VALUES, VALUES)
def test_what_only_one_side_changed_is_taken_from_it(base: Any, other: Any) -> None:
    for made, clashes in (
        merged(base, other, base),
        merged(base, base, other),
        merged(base, other, other),
    ):
        assert clashes == []
        assert same(made, other)


@given(VALUES, VALUES, VALUES)
def test_a_merge_without_clashes_is_the_same_with_force(
    base: Any, wanted: Any, current: Any
) -> None:
    made, clashes = merged(base, wanted, current)
    forced, same_clashes = merged(base, wanted, current, force=True)
    assert clashes == same_clashes
    if not clashes:
        assert same(made, forced)


@given(VALUES, VALUES, VALUES)
def test_fields_that_do_not_clash_are_those_of_whoever_changed_them(
    base: Any, wanted: Any, current: Any
) -> None:
    sides = [{"x": each, "y": 1} for each in (base, wanted, current)]
    sides[2]["y"] = 2
    made, clashes = merged(*sides)
    assert made["y"] == 2
    assert all(path.startswith("/x") for path in clashes)
