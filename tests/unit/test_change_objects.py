"""What goes into a change object comes out of it, to the byte, or not at all."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given, strategies as st

from events import History, create, creations, genesis, key, update
from evstore.log.failures import UnreadableError
from evstore.log.kubernetes import objects

if TYPE_CHECKING:
    from evstore.model import StoredEvent

IDENTITY = uuid4()


def packed(events: list[StoredEvent]) -> objects.Packed:
    return objects.pack(events, after=bytes(32), log=IDENTITY)


def stored(found: objects.Packed) -> objects.Change:
    """Return a change as the API server gives it back: its JSON encoded anew."""
    name = objects.name_of(found.spec.first)
    sent = json.loads(objects.document(objects.CHANGES, name, found.spec))
    return objects.decode_change(json.dumps(sent).encode())


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        st.floats(allow_nan=False, allow_infinity=False)
        | st.integers(-(2**63), 2**64 - 1)
        | st.none(),
        max_size=5,
    )
)
def test_events_come_back_as_they_were(spec: dict[str, object]) -> None:
    history = History(genesis(IDENTITY))
    history.transaction(create(key("a"), spec), actor="é\u2028\n")
    change = stored(packed(history.events))
    assert objects.unpack(change, change.spec.payload) == history.events


def test_what_is_small_stays_readable_and_what_is_larger_is_compressed() -> None:
    history = History(genesis(IDENTITY))
    creations(history, "ab")
    small = packed(history.events)
    assert small.spec.encoding == "json"
    assert small.spec.payload.count("\n") == 2
    creations(history, (f"n{number}" for number in range(200)))
    large = packed(history.events)
    assert large.spec.encoding == "zstd"
    assert large.pieces == []
    change = stored(large)
    assert objects.unpack(change, change.spec.payload) == history.events


def test_what_is_too_large_for_an_object_is_cut_into_pieces() -> None:
    history = History(genesis(IDENTITY))
    for number in range(2):
        blob = Random(number).randbytes(500_000).hex()
        history.transaction(create(key(f"n{number}"), {"blob": blob}))
    found = packed(history.events)
    assert len(found.pieces) > 1
    assert all(len(piece) <= objects.CHUNK_CHARACTERS for piece in found.pieces)
    assert found.spec.payload == ""
    assert objects.unpack(stored(found), "".join(found.pieces)) == history.events


@pytest.mark.parametrize(
    ("payload", "encoding"),
    [
        ("", "json"),
        ("{}", "json"),
        ("[1]", "json"),
        ("no base64", "zstd"),
        ("bm8genN0ZA==", "zstd"),
        ("", "zstd"),
    ],
)
def test_what_is_no_event_is_unreadable(payload: str, encoding: str) -> None:
    history = History(genesis(IDENTITY))
    creations(history, "a")
    change = stored(packed(history.events))
    change.spec.encoding = encoding
    with pytest.raises(UnreadableError) as caught:
        objects.unpack(change, payload)
    assert caught.value.position == 1


def test_events_of_another_position_are_unreadable() -> None:
    history = History(genesis(IDENTITY))
    creations(history, "ab")
    change = stored(packed(history.events))
    for events in (history.events[1:], history.events[::-1]):
        with pytest.raises(UnreadableError):
            objects.unpack(change, objects.encode_lines(events).decode())


def test_names_sort_as_positions_do_up_to_the_last() -> None:
    positions = [1, 9, 10, 99, 2**31, 2**53, 2**63 - 1]
    names = [objects.name_of(position) for position in positions]
    assert names == sorted(names)
    for position, name in zip(positions, names, strict=True):
        assert len(name) == 20
        change = objects.Change(metadata=objects.Metadata(name=name))
        assert objects.position_of(change) == position
    for name in ("", "1", "x" * 20, "²" * 20):
        change = objects.Change(metadata=objects.Metadata(name=name))
        assert objects.position_of(change) == 0


def test_a_summary_says_what_was_done_without_what_is_in_it() -> None:
    history = History(genesis(IDENTITY))
    history.transaction(create(key("key", "Secret"), {"password": "hidden"}))
    assert objects.summary_of(history.events) == "created Secret/default/key"
    history.transaction(update(key("key", "Secret"), {"password": "other"}))
    assert objects.summary_of(history.events).endswith(" and 1 more")
    long = msgspec.structs.replace(history.events[0], key="Zone//" + "n" * 253)
    assert len(objects.summary_of([long])) == 80
    # That there is more is told, however long the first name is.
    many = objects.summary_of([long, long, long])
    assert (len(many), many[-12:]) == (80, "… and 2 more")
    assert "hidden" not in json.dumps(
        {
            name: value
            for name, value in msgspec.to_builtins(packed(history.events).spec).items()
            if name != "payload"
        }
    )
