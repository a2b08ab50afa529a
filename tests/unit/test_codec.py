"""Canonical JSON and the hash chain: the format that can never change unnoticed."""

from __future__ import annotations

import enum
import json
import math
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, strategies as st

from events import History, assert_chained, create, delete, genesis, key
from evstore.codec import (
    DEPTH_MAX,
    body_digest,
    body_text,
    canonical,
    check_text,
    decode_json,
    event_hash,
    genesis_hash,
    record_term,
    unbroken,
)
from evstore.errors import InvalidError
from evstore.model import Operation, StoredEvent

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)

EVENT = StoredEvent(
    3,
    5,
    "000102030405060708090a0b0c0d0e0f",
    1_700_000_000_123_456,
    "alice é",
    Operation.UPDATED,
    "Dataplane/default/web-1",
    1,
    msgspec.Raw(b'{"labels":{},"owner":null,"spec":{"port":8080},"status":null}'),
    bytes(range(16)),
    None,
    msgspec.Raw(b'{"reason":"because"}'),
    b"",
)
PREVIOUS = bytes(range(32))


def refused(value: object) -> tuple[str, str]:
    """Return the path and the message with which a value is refused."""
    with pytest.raises(InvalidError) as caught:
        canonical(value, "spec")
    return caught.value.path, str(caught.value)


# Canonical JSON.


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": {"d": 1, "c": 2}}, '{"a":{"c":2,"d":1},"b":1}'),
        ({"é": 1, "z": 2, "😀": 3, "\uffff": 4}, '{"z":2,"é":1,"\uffff":4,"😀":3}'),
        ([1, 1.0, -0.0, 1e22, 1e-7], "[1,1.0,-0.0,1e+22,1e-7]"),
        ([True, False, None], "[true,false,null]"),
        ([2**64 - 1, -(2**63)], "[18446744073709551615,-9223372036854775808]"),
        ("\u2028/\x7f\t\x01", '"\u2028/\x7f\\t\\u0001"'),
        ((1, 2), "[1,2]"),
        ({}, "{}"),
    ],
)
def test_canonical_json_is_written_in_one_way(value: object, text: str) -> None:
    assert canonical(value, "spec") == text.encode()


@given(VALUES)
def test_what_was_written_is_written_the_same_again(value: Any) -> None:
    text = canonical(value, "spec")
    again = json.loads(text)
    assert canonical(again, "spec") == text
    assert again == value


@given(st.dictionaries(TEXTS, SCALARS), st.randoms())
def test_the_order_of_keys_makes_no_difference(
    value: dict[str, Any], random: Any
) -> None:
    names = list(value)
    random.shuffle(names)
    shuffled = {name: value[name] for name in names}
    assert canonical(shuffled, "spec") == canonical(value, "spec")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [0, {"b": math.nan}]}, "spec.a[1].b"),
        ({"a": math.inf}, "spec.a"),
        ({"a": -math.inf}, "spec.a"),
        ({"a": {"b": "x\0y"}}, "spec.a.b"),
        ({"a": {"x\0y": 1}}, "spec.a, key 'x\\x00y'"),
        ({"a": ["\ud800"]}, "spec.a[0]"),
        ({"a": {"\udfff": 1}}, "spec.a, key '\\udfff'"),
        ({"a": 2**64}, "spec.a"),
        ({"a": [-(2**63) - 1]}, "spec.a[0]"),
        ({"a": 10**400}, "spec.a"),
        ({"a": {1: 2}}, "spec.a"),
        ({"a": {None: 2}}, "spec.a"),
        ({"a": {1, 2}}, "spec.a"),
        ({"a": b"bytes"}, "spec.a"),
        ({"a": object()}, "spec.a"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_path(value: object, path: str) -> None:
    assert refused(value)[0] == path


def test_a_null_beside_a_nan_does_not_hide_it() -> None:
    assert refused({"a": None, "b": [None, math.nan]})[0] == "spec.b[1]"


def test_texts_that_look_like_faults_are_kept() -> None:
    value = {"a": "\\u0000", "b": "null", "c": "NaN", "d": "{" * 200, "e": None}
    assert json.loads(canonical(value, "spec")) == value


def nested(levels: int, kind: str, innermost: Any) -> Any:
    value = innermost
    for _ in range(levels):
        value = [value] if kind == "array" else {"a": value}
    return value


@pytest.mark.parametrize("kind", ["array", "object"])
def test_128_levels_are_accepted_and_129_are_not(kind: str) -> None:
    assert DEPTH_MAX == 128
    empty: Any = [] if kind == "array" else {}
    assert canonical(nested(128, kind, 1), "spec")
    assert canonical(nested(127, kind, empty), "spec")
    for too_deep in (nested(129, kind, 1), nested(128, kind, empty)):
        path, message = refused(too_deep)
        assert path == "spec"
        assert "128" in message


@pytest.mark.parametrize("levels", [300, 5_000])
def test_any_depth_is_refused_without_a_crash(levels: int) -> None:
    assert "128" in refused(nested(levels, "array", 1))[1]


def test_breadth_is_not_depth() -> None:
    assert canonical([[[]]] * 1_000, "spec")


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize("value", [UUID(int=1), Colour.RED], ids=["uuid", "enum"])
def test_what_is_kept_does_not_depend_on_its_neighbours(value: object) -> None:
    def kept(whole: object) -> bool:
        try:
            canonical(whole, "spec")
        except InvalidError:
            return False
        return True

    assert kept({"a": value}) == kept({"a": value, "b": None})


class Inner(msgspec.Struct):
    port: int
    name: str | None = None


class Outer(msgspec.Struct, rename="camel"):
    inner_part: Inner
    weight: float = 1.0


def test_structs_are_written_under_their_encoded_names() -> None:
    text = canonical(Outer(inner_part=Inner(port=1)), "spec")
    assert text == b'{"innerPart":{"name":null,"port":1},"weight":1.0}'
    assert refused(Outer(Inner(1), weight=math.nan))[0] == "spec.weight"


# Texts.


def test_a_text_is_checked_for_what_no_log_can_keep() -> None:
    assert check_text("é\n😀", "actor", characters_max=3) == "é\n😀"
    for text in ("a\0", "\ud800", "abcd", 7, None, b"a"):
        with pytest.raises(InvalidError) as caught:
            check_text(text, "actor", characters_max=3)
        assert caught.value.path == "actor"


# JSON from elsewhere.


@given(VALUES)
def test_decoding_gives_what_was_encoded(value: Any) -> None:
    assert decode_json(canonical(value, "line 1"), "line 1") == value


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ('{"a":1,"b":{"c":1,"c":1}}', "'c'"),
        ('{"a":1,"a":1}', "'a'"),
        ("NaN", "NaN"),
        ('{"a":-Infinity}', "-Infinity"),
        ("{", "not JSON"),
        ("", "not JSON"),
        ("1 2", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (b'"\xff"', "not JSON"),
        ("1" * 5_000, "not JSON"),
    ],
)
def test_bad_json_is_refused_with_its_path(text: str | bytes, sign: str) -> None:
    with pytest.raises(InvalidError, match=sign) as caught:
        decode_json(text, "line 3")
    assert caught.value.path == "line 3"


def test_the_same_key_in_different_objects_is_no_duplicate() -> None:
    assert decode_json('{"a":{"a":1},"b":[{"a":1}]}', "") == {
        "a": {"a": 1},
        "b": [{"a": 1}],
    }


# The chain.


def test_a_known_event_has_the_hash_it_has_always_had() -> None:
    """The format of the chain is for ever: another hash here makes every log invalid."""
    assert (
        genesis_hash(UUID("00112233-4455-6677-8899-aabbccddeeff")).hex()
        == "6fc1476712fa656e388064ce9264c3b822728b4b19c298de9b3b66f024b368b3"
    )
    assert body_digest(EVENT.salt, EVENT.body).hex() == (
        "97612f08767ddac38cef548df5b96e1a800d36d4e3c7c484f1ad1f7ef574584f"
    )
    assert event_hash(PREVIOUS, EVENT).hex() == (
        "f00e7267f8bbbeba635101f0ae1096cdb6a652b3819c79f4c3aad334b9b1adf5"
    )


def test_the_hash_is_what_the_format_says() -> None:
    """The same hash, put together from the words of the format alone."""

    def led(field: bytes) -> bytes:
        return len(field).to_bytes(4, "big") + field

    content = b"".join(
        map(
            led,
            [
                PREVIOUS,
                (3).to_bytes(8, "big"),
                (5).to_bytes(8, "big"),
                bytes(range(16)),
                (1_700_000_000_123_456).to_bytes(8, "big"),
                (1).to_bytes(4, "big"),
                "alice é".encode(),
                b"updated",
                b"Dataplane",
                b"default",
                b"web-1",
                sha256(b'{"reason":"because"}').digest(),
                sha256(EVENT.salt + bytes(EVENT.body)).digest(),
            ],
        )
    )
    assert event_hash(PREVIOUS, EVENT) == sha256(content).digest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("position", 4),
        ("commit", 6),
        ("tx", "ff" * 16),
        ("time", EVENT.time + 1),
        ("actor", "alice"),
        ("operation", Operation.CREATED),
        ("key", "Dataplane/default/web-2"),
        ("key", "Dataplane/defaul/tweb-1"),
        ("key", "Dataplan/edefault/web-1"),
        ("schema_version", 2),
        ("body", msgspec.Raw(bytes(EVENT.body).replace(b"8080", b"8081"))),
        ("body", msgspec.Raw(bytes(EVENT.body) + b" ")),
        ("salt", bytes(16)),
        ("body_digest", bytes(32)),
        ("metadata", msgspec.Raw(b"{}")),
    ],
)
def test_a_change_of_any_field_changes_the_hash(field: str, value: Any) -> None:
    changed = msgspec.structs.replace(EVENT, **{field: value})
    assert event_hash(PREVIOUS, changed) != event_hash(PREVIOUS, EVENT)


def test_every_field_of_an_event_is_in_its_hash() -> None:
    changed = {"position", "commit", "tx", "time", "actor", "operation", "key"}
    changed |= {"schema_version", "body", "salt", "body_digest", "metadata"}
    assert {field.name for field in msgspec.structs.fields(EVENT)} == changed | {"hash"}


def test_another_event_before_changes_the_hash() -> None:
    assert event_hash(bytes(32), EVENT) != event_hash(PREVIOUS, EVENT)


def test_moving_a_character_from_one_field_to_the_next_changes_the_hash() -> None:
    def with_actor(actor: str, key: str) -> bytes:
        return event_hash(
            PREVIOUS, msgspec.structs.replace(EVENT, actor=actor, key=key)
        )

    assert with_actor("a", "B/m/n") != with_actor("", "aB/m/n")


def test_a_chain_is_unbroken_exactly_where_each_hash_follows() -> None:
    previous, events = PREVIOUS, []
    for number in range(5):
        event = msgspec.structs.replace(
            EVENT,
            position=number + 1,
            commit=number + 1,
            body_digest=bytes(32) if number == 3 else None,
        )
        previous = event_hash(previous, event)
        events.append(msgspec.structs.replace(event, hash=previous))
    assert unbroken(PREVIOUS, events)
    assert unbroken(PREVIOUS, [])
    assert not unbroken(bytes(32), events)
    for index in range(5):
        broken = msgspec.structs.replace(events[index], actor="mallory")
        assert not unbroken(PREVIOUS, [*events[:index], broken, *events[index + 1 :]])


def test_a_redacted_body_keeps_the_hash_through_its_digest() -> None:
    redacted = msgspec.structs.replace(
        EVENT,
        body=msgspec.Raw(b"{}"),
        salt=bytes(16),
        body_digest=body_digest(EVENT.salt, EVENT.body),
    )
    assert event_hash(PREVIOUS, redacted) == event_hash(PREVIOUS, EVENT)


def test_the_salt_hides_equal_bodies() -> None:
    assert body_digest(bytes(16), b"{}") != body_digest(bytes(range(16)), b"{}")


def test_no_two_logs_share_a_hash() -> None:
    first, second = UUID(int=1), UUID(int=2)
    assert genesis_hash(first) != genesis_hash(second)


def test_a_history_is_chained() -> None:
    start = genesis(UUID(int=1))
    history = History(start)
    history.transaction(create(key("a")), create(key("b"), owner=key("a")))
    history.transaction(delete(key("a")))
    assert_chained(history.events, start)


def test_a_body_has_its_parts_in_canonical_order() -> None:
    text = body_text(b'{"l":"1"}', b"null", b'{"s":1}', b'{"t":1}')
    assert text == canonical(json.loads(text), "body")


# The state digest.


def test_a_term_tells_key_version_and_body_apart() -> None:
    terms = {
        record_term("A/m/n", 1, bytes(32)),
        record_term("A/m/o", 1, bytes(32)),
        record_term("A/m/n", 2, bytes(32)),
        record_term("A/m/n", 1, bytes(31) + b"\1"),
        record_term("A/m/n1", 1, bytes(32)),
    }
    assert len(terms) == 5
