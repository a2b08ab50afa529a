"""Values in PostgreSQL's binary format, as the statements of the writer take them.

psycopg can do this, element by element through a dumper; for a batch of events that was
more than half of what an append costs on our side. The format of an array is that of
`array_recv`: dimensions, a flag for nulls, the element's type; length and lower bound of
the dimension; then each element, led by its length.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from psycopg.postgres import types

from evstore.codec import field

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evstore.model import StoredEvent

_BYTEA: Final = types["bytea"].oid
_INT8: Final = types["int8"].oid
_TEXT: Final = types["text"].oid
_HEADER: Final = struct.Struct("!iiIii")
_LENGTH: Final = struct.Struct("!i")
_BIGINT: Final = struct.Struct("!q")

TRUE: Final = b"\x01"
FALSE: Final = b"\x00"


def integer(value: int) -> bytes:
    """Return a bigint."""
    return _BIGINT.pack(value)


def integers(values: Sequence[int]) -> bytes:
    """Return a bigint[]."""
    interleaved = [part for value in values for part in (8, value)]
    elements = struct.pack("!" + "iq" * len(values), *interleaved)
    return _array(_INT8, len(values), elements)


def words(values: Sequence[str]) -> bytes:
    """Return a text[] of texts that are likely to come again."""
    return _array(_TEXT, len(values), b"".join(map(field, values)))


def texts(values: Sequence[bytes]) -> bytes:
    """Return a text[] of texts that are encoded already."""
    return _array(_TEXT, len(values), _elements(values))


def binaries(values: Sequence[bytes]) -> bytes:
    """Return a bytea[]."""
    return _array(_BYTEA, len(values), _elements(values))


def _elements(values: Iterable[bytes]) -> bytes:
    pack = _LENGTH.pack
    return b"".join([part for value in values for part in (pack(len(value)), value)])


def _array(oid: int, count: int, elements: bytes) -> bytes:
    return _HEADER.pack(1, 0, oid, count, 1) + elements


def columns(events: Sequence[StoredEvent]) -> dict[str, bytes]:
    """Return one array for each column of `evstore.events` that an append fills."""
    keys = [event.key.split("/") for event in events]
    return {
        "commits": integers([event.commit for event in events]),
        "times": integers([event.time for event in events]),
        "txs": binaries([bytes.fromhex(event.tx) for event in events]),
        "schema_versions": integers([e.schema_version for e in events]),
        "actors": words([event.actor for event in events]),
        "operations": words([event.operation for event in events]),
        "types": words([key[0] for key in keys]),
        "meshes": words([key[1] for key in keys]),
        "names": words([key[2] for key in keys]),
        "salts": binaries([event.salt for event in events]),
        "hashes": binaries([event.hash for event in events]),
        "metadatas": texts([bytes(event.metadata) for event in events]),
        "bodies": texts([bytes(event.body) for event in events]),
    }
