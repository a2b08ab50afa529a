"""Bookmarks as texts: over a wire and back."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from evstore import Bookmark
from evstore.errors import InvalidError

LOG = UUID("0c0ffee0-0000-4000-8000-000000000001")
HASH = "ab" * 32


@given(st.uuids(), st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_a_bookmark_is_the_same_after_the_way_through_its_text(
    log: UUID, position: int, digest: bytes
) -> None:
    bookmark = Bookmark(log=log, position=position, hash=digest)
    assert Bookmark.parse(str(bookmark)) == bookmark
    assert str(bookmark).isascii()
    assert not set(str(bookmark)) & set(" /\\'\"\n")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "1 parts"),
        (f"{LOG}:7", "2 parts"),
        (f"{LOG}:7:{HASH}:", "4 parts"),
        (f"log:7:{HASH}", "no id of a log"),
        (f"{LOG.hex}:7:{HASH}", "must be written"),
        (f"{LOG}:-1:{HASH}", "no position"),
        (f"{LOG}:07:{HASH}", "no position"),
        (f"{LOG}:\u0667:{HASH}", "no position"),
        (f"{LOG}:{2**63}:{HASH}", "no position"),
        (f"{LOG}:7:{HASH[2:]}", "64 small hex digits"),
        (f"{LOG}:7:{HASH.upper()}", "64 small hex digits"),
        (f"{LOG}:7:{'x' * 64}", "not hexadecimal"),
    ],
)
def test_what_is_no_bookmark_is_refused_with_the_part_that_is_wrong(
    text: str, wrong: str
) -> None:
    with pytest.raises(InvalidError, match=wrong):
        Bookmark.parse(text)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidError, match="must be a text"):
        Bookmark.parse(7)  # type: ignore[arg-type]
