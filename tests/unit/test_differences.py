"""Differences as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from evstore.cli.output.differences import (
    block,
    difference_document,
    difference_lines,
    is_secret,
    shown,
)
from evstore.cli.output.documents import masked
from evstore.values.diff import differences


def lines(
    old: Any, new: Any, path: str = "/spec", *, secret: bool = False
) -> list[str]:
    found = list(differences(old, new, path))
    return [str(each) for each in difference_lines(found, secret=secret)]


def test_each_kind_has_its_sign_and_its_colour() -> None:
    old = {"gone": 1, "port": 1, "to": [1, 2]}
    found = list(differences(old, {"port": 2, "to": [2, 1], "new": {"k.io/a": "x"}}))
    told = list(difference_lines(found, secret=False))
    assert [(str(each), str(each.style)) for each in told] == [
        ("-gone: 1", "red"),
        ("~port: 1 -> 2", "yellow"),
        (">to[0]: was to[1]", "cyan"),
        ('+new["k.io/a"]: "x"', "green"),
    ]


@pytest.mark.parametrize("path", ["/spec", "/spec/data"])
def test_secret_values_are_hidden_and_labels_are_not(path: str) -> None:
    assert lines("old", "new", path, secret=True)[0].endswith(": *** -> ***")
    assert lines("x", "y", "/labels/a", secret=True) == ['~labels.a: "x" -> "y"']
    # A resource as a whole has a spec in it.
    assert shown({"spec": "hunter2"}, "", secret=True) == "***"


def test_only_secrets_are_masked_and_only_unless_asked_for() -> None:
    assert is_secret("Secret", show=False)
    assert is_secret("GlobalSecret", show=False)
    assert not is_secret("Secret", show=True)
    assert not is_secret("Mesh", show=False)


def test_of_very_many_the_first_are_told_and_how_many_more() -> None:
    many = {f"n{number:02}": number for number in range(20)}
    told = lines({}, many)
    assert len(told) == 13
    assert told[-1] == "and 8 more (-o json has all)"


def test_an_owner_is_no_news() -> None:
    assert lines({}, {"owner": {"type": "Mesh"}, "spec": 1}, "") == ["+spec: 1"]


def test_control_characters_do_nothing_to_a_terminal() -> None:
    (line,) = lines({}, {"a\x1b[31m": "\x1b[31m"})
    assert "\x1b" not in line
    assert "\x1b" not in str(block("\x1b[31m", []))


def test_json_has_old_and_new_only_where_there_is_one() -> None:
    documents = [
        difference_document(each)
        for each in differences({"gone": 1, "to": [1, 2]}, {"a": None, "to": [2, 1]})
    ]
    assert documents == [
        {"path": "/gone", "old": 1},
        {"path": "/to/0", "moved_from": "/to/1"},
        {"path": "/a", "new": None},
    ]


def test_masking_keeps_the_shape() -> None:
    assert masked({"a": ["x", {"b": 1}]}) == {"a": ["***", {"b": "***"}]}
