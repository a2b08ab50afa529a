"""What a redaction makes of a body; folds agree whether the body is replaced or not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from evstore.codec import body_text, canonical
from evstore.errors import InvalidError
from evstore.redaction import (
    MARK,
    covers,
    is_there,
    keep_marks,
    marks,
    parts_of,
    pointer,
    redact,
)


def body(spec: Any, **labels: str) -> bytes:
    return body_text(canonical(labels, ""), b"null", canonical(spec, ""), b"null")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("spec.password", "/spec/password"),
        ("spec", "/spec"),
        ("spec.users[0].password", "/spec/users/0/password"),
        ("spec[3]", "/spec/3"),
        ("labels.team", "/labels/team"),
        ("/labels/kuma.io~1service", "/labels/kuma.io~1service"),
        ("spec.a/b~c", "/spec/a~1b~0c"),
    ],
)
def test_a_field_is_a_dotted_path_or_a_pointer(text: str, expected: str) -> None:
    assert pointer(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", ".", "spec.", "spec..x", "spec[x]", "spec]", "owner.name", "/owner", "/"],
)
def test_what_is_no_field_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        pointer(text)


def test_a_value_becomes_the_mark_and_the_body_lists_it() -> None:
    made = redact(body({"a": [1, {"b": "x"}]}, team="shop"), ["/spec/a/1/b"])
    assert made == (
        b'{"labels":{"team":"shop"},"owner":null,"redacted":["/spec/a/1/b"],'
        b'"spec":{"a":[1,{"b":"[redacted]"}]},"status":null}'
    )


def test_parts_as_a_whole_become_empty() -> None:
    made = orjson.loads(redact(body({"a": 1}, team="shop"), ["/spec", "/labels"]))
    assert (made["spec"], made["labels"]) == (None, {})
    assert made["redacted"] == ["/labels", "/spec"]


def test_a_mark_covers_what_is_below_it() -> None:
    made = redact(redact(body({"a": {"b": 1}}), ["/spec/a/b"]), ["/spec/a"])
    assert marks(made) == ("/spec/a",)
    assert covers(made, ["/spec/a/b"])
    assert redact(made, ["/spec/a/b"]) == made


@pytest.mark.parametrize(
    "field", ["/spec/none", "/spec/l/9", "/spec/l/01", "/spec/l/-", "/spec/s/0"]
)
def test_a_part_that_is_not_there_changes_nothing(field: str) -> None:
    whole = body({"l": [1], "s": "text"})
    assert not is_there(whole, field)
    assert redact(whole, [field]) == whole


def test_a_spec_that_looks_redacted_is_not() -> None:
    whole = body({"redacted": ["/spec/x"], "x": "[redacted]"})
    assert marks(whole) == ()
    assert keep_marks(whole, whole) == whole
    assert is_there(whole, "/spec/x")


def test_a_mark_that_has_moved_is_a_mark_still() -> None:
    a, b = ({"name": name, "pin": 1} for name in "ab")
    before = redact(body({"users": [a, b]}), ["/spec/users/1/pin"])
    hidden = {**b, "pin": MARK}
    for users, gone in (
        ([a, hidden], ("/spec/users/1/pin",)),
        ([{"name": "c"}, a, hidden], ("/spec/users/2/pin",)),
        ([hidden], ("/spec/users/0/pin",)),
        ([a, b], ()),
        ([a], ()),
    ):
        assert marks(keep_marks(before, body({"users": users}))) == gone


def test_the_whole_of_a_body_is_what_it_has() -> None:
    assert parts_of(body({"a": 1})) == ("/spec",)
    assert parts_of(body(None, a="b")) == ("/labels",)
    assert parts_of(body(None)) == ()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(-1, 1)
    | st.text("ab/~é"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab/~0", min_size=1), inner, max_size=3)
    ),
    max_leaves=12,
)


def paths(value: Any, path: str) -> list[str]:
    found = [path]
    if isinstance(value, dict):
        for name, item in value.items():
            step = name.replace("~", "~0").replace("/", "~1")
            found += paths(item, f"{path}/{step}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += paths(item, f"{path}/{index}")
    return found


@given(spec=st.dictionaries(st.text("ab/~0", min_size=1), JSON), data=st.data())
def test_redactions_gather_in_any_order_and_change_nothing_twice(
    spec: dict[str, Any], data: st.DataObject
) -> None:
    """So a fold gives the same, whether the stored body is replaced by then or not."""
    whole = body(spec)
    fields = data.draw(st.lists(st.sampled_from(paths(spec, "/spec")), max_size=4))
    made = redact(whole, fields)
    assert redact(made, fields) == made
    assert not any(is_there(made, field) for field in fields)
    first, rest = fields[:2], fields[2:]
    assert marks(redact(redact(whole, rest), first)) == marks(made)
    assert redact(redact(whole, first), rest) == made
