"""YAML as JSON in another spelling: what is read, what is refused, what is written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from evstore.cli.yaml_text import YamlError, dump, parse

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.from_regex(r"[-+0-9._eExobfnaiNyY:~<= ]{1,8}", fullmatch=True),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


def value(text: str) -> Any:
    (document,) = parse(f"a: {text}\n")
    return document.value["a"]


@given(st.dictionaries(TEXT, JSON, min_size=1))
def test_what_is_written_is_read_back_as_the_same(written: dict[str, Any]) -> None:
    (document,) = parse(dump(written))
    assert repr(document.value) == repr(written)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("", None), ("~", None), ("null", None)),
        *(("true", True), ("Yes", True), ("on", True), ("OFF", False), ("y", "y")),
        *(("1", 1), ("-1", -1), ("1_000", 1000), ("0x1F", 31), ("0b11", 3)),
        *(("0777", 511), ("0o17", 15), ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5)),
        *(("10:30", "10:30"), ("2001-01-01", "2001-01-01"), ("1.1.1.1", "1.1.1.1")),
        *(("5s", "5s"), ("'1'", "1"), ("!!str 1", "1"), ("!!int '1'", 1), ("=", "=")),
        *(("[1, [2]]", [1, [2]]), ("{b: {c: 1}}", {"b": {"c": 1}})),
    ],
)
def test_scalars_mean_what_they_mean_in_kuma(text: str, expected: object) -> None:
    assert repr(value(text)) == repr(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (".nan", ".nan is not a JSON number"),
        ("-.inf", "-.inf is not a JSON number"),
        ("1e999", "too large"),
        ("!!binary aGk=", "does not fit the tag"),
        ("!!set {b}", "is not allowed"),
        ("!mine 1", "does not fit the tag"),
        ("{b: 1, b: 2}", "the key 'b' stands twice"),
        ("{[1]: 2}", "a key is not plain text"),
        ("*b", "anchor 'b' is not defined"),
        ("&b [*b]", "anchor 'b' is used inside itself"),
        ("{<<: 1}", "<< takes mappings only"),
        ("[" * 200, "nested more than 128 levels"),
        ("[" * 100_000, "nested more than 128 levels"),
        ("{b: " * 100_000, "nested more than 128 levels"),
        ("[", "invalid YAML"),
        ("\x07", "does not allow"),
    ],
)
def test_what_json_has_not_is_refused(text: str, message: str) -> None:
    with pytest.raises(YamlError, match=r".") as caught:
        value(text)
    assert message in str(caught.value)


def test_aliases_that_multiply_are_bounded() -> None:
    lines = ["a: &a [" + "1," * 10 + "]"]
    for before, after in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{after}: &{after} [" + f"*{before}," * 10 + "]")
    with pytest.raises(YamlError, match="more than 10,000,000 values"):
        list(parse("\n".join(lines)))


def test_merge_keys_give_what_is_not_there() -> None:
    (document,) = parse("a: &a {b: 1, c: 2}\nd: {<<: *a, c: 3}\n")
    assert document.value["d"] == {"b": 1, "c": 3}


def test_keys_are_texts_as_they_are_written() -> None:
    assert value("{8080: 1, yes: 2}") == {"8080": 1, "yes": 2}


def test_documents_are_numbered_and_empty_ones_left_out() -> None:
    found = list(parse("# nothing\n---\n---\na: 1\n---\nb: 2\n...\n"))
    assert [(each.number, each.line, each.value) for each in found] == [
        (2, 4, {"a": 1}),
        (3, 6, {"b": 2}),
    ]


def test_an_error_names_document_and_line() -> None:
    with pytest.raises(YamlError) as caught:
        list(parse("a: 1\n---\nb: 1\nc: 1\nb: 2\n"))
    assert (caught.value.document, caught.value.line) == (2, 5)
