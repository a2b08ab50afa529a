"""The base: the state at the floor, certified, in pieces that the log's object names."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

import msgspec
import zstandard

from evstore.errors import UnavailableError
from evstore.log.failures import UnreadableError
from evstore.log.shapes import Base
from evstore.model import Head, StoredEvent

from . import objects

if TYPE_CHECKING:
    from .shelf import Shelf

_TEXT_BYTES_MAX: Final = 2**31 - 1
_TRIES: Final = 5


class _Top(msgspec.Struct, kw_only=True):
    """The first line; the others are events."""

    head: Head
    digest: bytes
    requests: list[tuple[str, str, int, int]]
    newest_schemas: dict[str, int]


def pack(base: Base) -> list[str]:
    """Return a base as the payloads of its pieces."""
    top = _Top(
        head=base.head,
        digest=base.digest,
        requests=base.requests,
        newest_schemas=base.newest_schemas,
    )
    text = msgspec.json.encode(top) + b"\n" + objects.encode_lines(base.events)
    payload = base64.b64encode(zstandard.compress(text, 3)).decode()
    size = objects.CHUNK_CHARACTERS
    return [payload[at : at + size] for at in range(0, len(payload), size)]


def unpack(payload: str, floor: objects.Floor) -> Base:
    """Return the base that a floor names.

    Raises:
        UnreadableError: it is not what was certified.
    """
    if objects.digest_of(payload) != floor.digest:
        raise UnreadableError(floor.position)
    try:
        text = zstandard.ZstdDecompressor().decompress(
            base64.b64decode(payload, validate=True), max_output_size=_TEXT_BYTES_MAX
        )
        first, _, rest = text.partition(b"\n")
        top = msgspec.json.decode(first, type=_Top)
        events = msgspec.json.Decoder(StoredEvent).decode_lines(rest)
    except (
        *(msgspec.DecodeError, zstandard.ZstdError, binascii.Error),
        *(ValueError, MemoryError),
    ) as error:
        raise UnreadableError(floor.position) from error
    if top.head != floor.head:
        raise UnreadableError(floor.position)
    return Base(
        head=top.head,
        digest=top.digest,
        events=events,
        requests=top.requests,
        newest_schemas=top.newest_schemas,
    )


async def read(shelf: Shelf) -> Base | None:
    """Return the base at the floor as it is now; None where there is no floor.

    Raises:
        UnreadableError: it is not what was certified.
        UnavailableError: it cannot be reached, or the floor never stands still.
    """
    for _ in range(_TRIES):
        floor = (await shelf.log()).spec.floor
        if floor is None:
            return None
        pieces = await shelf.chunks(objects.SNAPSHOT_CHUNKS, floor.pieces)
        if None not in pieces:
            return unpack("".join(each or "" for each in pieces), floor)
        # A later base may have taken its place meanwhile.
        now = (await shelf.log()).spec.floor
        if now is not None and now.position == floor.position:
            raise UnreadableError(floor.position)
    message = "the floor of the log was raised again and again"
    raise UnavailableError(message)
