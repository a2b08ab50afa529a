"""Whom to blame for each leaf."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from events import History, create, delete, genesis, key, update
from evstore.model import Operation
from evstore.past.blame import Blaming
from evstore.past.changed import content_of

A = key("a")


def blamed(*specs: dict[str, Any] | None) -> dict[str, int]:
    """Return the position for each leaf, after these specs; None is a deletion."""
    history = History(genesis(UUID(int=0)))
    there = False
    for spec in specs:
        if spec is None:
            history.transaction(delete(A))
        elif there:
            history.transaction(update(A, spec))
        else:
            history.transaction(create(A, spec))
        there = spec is not None
    blaming = Blaming()
    for event in history.events:
        gone = event.operation is Operation.DELETED
        blaming.add(event, None if gone else content_of(event.body))
    return {path: event.position for path, _, event in blaming.leaves()}


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ([{}], {"/spec": 1}),
        ([{"a": 1}], {"/spec/a": 1}),
        ([{"a": 1}, {"a": 2}], {"/spec/a": 2}),
        ([{"a": 1}, {"a": 2}, {"a": 1}], {"/spec/a": 3}),
        ([{"a": 1}, {"a": 1, "b": 1}], {"/spec/a": 1, "/spec/b": 2}),
        ([{"a": 1, "b": 1}, {"a": 1}], {"/spec/a": 1}),
        ([{"a": 1}, {"a": 1.0}], {"/spec/a": 2}),
        ([{"a": {"b": 1}}, {"a": {}}], {"/spec/a": 2}),
        ([{"a": []}, {"a": [1]}, {"a": [1, 2]}], {"/spec/a/0": 2, "/spec/a/1": 3}),
        # An element keeps its own, wherever it has gone.
        ([{"a": [1]}, {"a": [0, 1]}], {"/spec/a/0": 2, "/spec/a/1": 1}),
        ([{"a": [1, 2, 3]}, {"a": [3, 1]}], {"/spec/a/0": 1, "/spec/a/1": 1}),
        (
            [
                {"a": [{"name": "x", "v": 1}, {"name": "y", "v": 1}]},
                {"a": [{"name": "y", "v": 2}, {"name": "x", "v": 1}]},
            ],
            {
                "/spec/a/0/name": 1,
                "/spec/a/0/v": 2,
                "/spec/a/1/name": 1,
                "/spec/a/1/v": 1,
            },
        ),
        ([{"a": [1, 2]}, {"a": [1, 3]}], {"/spec/a/0": 1, "/spec/a/1": 2}),
        # A new incarnation is blamed on nobody before it.
        ([{"a": 1}, None, {"a": 1}], {"/spec/a": 3}),
        ([{"a": 1}, None], {}),
    ],
)
def test_each_leaf_is_blamed_on_the_event_that_last_changed_it(
    specs: list[dict[str, Any] | None], expected: dict[str, int]
) -> None:
    assert blamed(*specs) == expected


def test_labels_and_status_are_blamed_as_well() -> None:
    history = History(genesis(UUID(int=0)))
    history.transaction(
        create(A, {"a": 1}, labels={"k.io/l": "x"}, status={"up": True})
    )
    history.transaction(update(A, {"a": 2}))
    blaming = Blaming()
    for event in history.events:
        blaming.add(event, content_of(event.body))
    found = {path: (value, event.position) for path, value, event in blaming.leaves()}
    assert found == {
        "/spec/a": (2, 2),
        "/labels/k.io~1l": ("x", 1),
        "/status/up": (True, 1),
    }


def test_a_redaction_is_to_blame_for_nothing() -> None:
    history = History(genesis(UUID(int=0)))
    history.transaction(create(A, {"a": 1}))
    history.redaction(A)
    blaming = Blaming()
    for event in history.events:
        blaming.add(event, content_of(event.body))
    assert [event.position for _, _, event in blaming.leaves()] == [1]
    assert blaming.last == history.events[0]
