"""What is in a snapshot: it comes back as it was, or is refused."""

from __future__ import annotations

from itertools import combinations
from uuid import UUID

import msgspec
import pytest

from events import History, create, creations, delete, genesis, key, update
from evstore.folds.projections import Projections
from evstore.snapshots.content import CHUNK_BYTES, BuiltIn, ContentError

GENESIS = genesis(UUID(int=7))


def some_history() -> History:
    history = History(GENESIS)
    history.transaction(create("Mesh//m"), create(key("a"), owner="Mesh//m"))
    history.transaction(update(key("a"), {"é": [1, 2.5, None]}), request_id="r-1")
    history.transaction(create(key("b"), labels={"team": "x"}), request_id="r-2")
    history.transaction(delete(key("b")))
    return history


def thawed(chunks: list[bytes], *, digest: bytes) -> Projections:
    projections = Projections(GENESIS)
    reading = BuiltIn(projections).reading()
    for chunk in chunks:
        reading.add(chunk)
    reading.thaw(GENESIS, digest)
    return projections


def frozen(history: History) -> tuple[list[bytes], bytes]:
    frozen = BuiltIn(history.projections).freeze()
    assert frozen.head == history.head
    return list(frozen.chunks), frozen.digest


def test_what_is_thawed_goes_on_as_what_was_frozen() -> None:
    history = some_history()
    chunks, digest = frozen(history)
    again = Projections(GENESIS)
    reading = BuiltIn(again).reading()
    for chunk in chunks:
        reading.add(chunk)
    reading.thaw(history.head, digest)
    assert again.head == history.head
    assert set(again.resources) == set(history.projections.resources)
    assert again.resources.digest() == digest == history.projections.resources.digest()
    assert again.requests.items() == history.projections.requests.items()
    assert list(again.resources.children("Mesh//m")) == [key("a")]
    further = history.transaction(delete("Mesh//m"), request_id="r-3")
    again.apply(further)
    assert len(further) == 2, "what it owns goes with it"
    assert again.resources.digest() == history.projections.resources.digest()
    assert again.requests.items() == history.projections.requests.items()
    assert again.resources.types == []


def test_what_is_frozen_stays_while_the_folds_go_on() -> None:
    history = some_history()
    before, digest = frozen(history)
    late = BuiltIn(history.projections).freeze()
    history.transaction(update(key("a"), {"late": True}), delete("Mesh//m"))
    assert (list(late.chunks), late.digest) == (before, digest)


def test_chunks_are_bounded() -> None:
    history = History(GENESIS)
    large = {"text": "x" * (CHUNK_BYTES // 2 - 1000)}
    for number in range(5):
        history.transaction(create(key(f"dp-{number}"), large))
    history.transaction(create(key("huge"), {"text": "x" * 3 * CHUNK_BYTES}))
    creations(history, (f"small-{number}" for number in range(10_000)))
    chunks, digest = frozen(history)
    huge = [number for number, chunk in enumerate(chunks) if len(chunk) > CHUNK_BYTES]
    assert huge == [3]
    assert len(chunks) == 8, "two, two, one, the huge one, three of small ones, the end"
    assert thawed(chunks, digest=digest).resources.digest() == digest


def test_an_empty_state_has_a_snapshot_too() -> None:
    chunks, digest = frozen(History(GENESIS))
    assert len(thawed(chunks, digest=digest).resources) == 0


def test_anything_but_all_chunks_in_full_is_refused() -> None:
    history = some_history()
    chunks, digest = frozen(history)
    assert len(chunks) == 3
    for count in range(3):
        for some in combinations(chunks, count):
            with pytest.raises(ContentError, match="chunks are missing"):
                thawed(list(some), digest=digest)
    with pytest.raises(ContentError, match="behind the last"):
        thawed([*chunks, chunks[0]], digest=digest)
    with pytest.raises(ContentError, match="another digest"):
        thawed(chunks, digest=bytes(32))


def test_no_damage_to_a_chunk_goes_unnoticed_or_raises_anything_else() -> None:
    chunks, digest = frozen(some_history())
    records, requests, end = chunks
    for place in range(len(records)):
        for damaged in (
            records[:place],
            records[:place] + bytes([records[place] ^ 0x41]) + records[place + 1 :],
        ):
            # Time stamps are in no digest: the checksum of the whole sees to those.
            try:
                again = thawed([damaged, requests, end], digest=digest)
            except ContentError:
                continue
            assert again.resources.digest() == digest


def test_a_snapshot_of_another_shape_is_refused() -> None:
    with pytest.raises(ContentError, match="cannot be decoded"):
        thawed([msgspec.msgpack.encode(["elsewhere", []])], digest=bytes(32))
