"""The objects of the log as the cluster keeps them: shapes, names, bytes. No I/O.

The API server re-encodes JSON, drops what its schema does not know and turns `1.0` into
`1`: so events travel as one string, JSON lines of canonical text, and hashes survive.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime  # noqa: TC003 - msgspec resolves it
from hashlib import sha256
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec
import zstandard

from evstore.clock import to_datetime
from evstore.log.failures import UnreadableError
from evstore.model import Head, StoredEvent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

GROUP: Final = "evstore.dev"
VERSION: Final = "v1"
CHANGES: Final = "changes"
CHUNKS: Final = "chunks"
SNAPSHOT_CHUNKS: Final = "snapshotchunks"
LOGS: Final = "logs"
SNAPSHOTS: Final = "snapshots"
RESOURCES: Final = "resources"
KINDS: Final = {
    CHANGES: "Change",
    CHUNKS: "Chunk",
    LOGS: "Log",
    SNAPSHOTS: "Snapshot",
    SNAPSHOT_CHUNKS: "SnapshotChunk",
    RESOURCES: "Resource",
}
IDENTITY: Final = "evstore"
SWEPT_ANNOTATION: Final = f"{GROUP}/swept"

COMPRESSED_ABOVE: Final = 16 * 1024
CHUNK_CHARACTERS: Final = 512 * 1024
PLAIN: Final = "json"
COMPRESSED: Final = "zstd"
_NAME_DIGITS: Final = 20
_SUMMARY_CHARACTERS: Final = 80
# What a transaction may have, and what JSON makes of it at most.
_TEXT_BYTES_MAX: Final = 512 * 1024 * 1024

ItemT = TypeVar("ItemT")


class Metadata(msgspec.Struct, rename="camel"):
    """What the API server knows about an object."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 1
    creation_timestamp: datetime | None = None

    def is_older_than(self, limit: datetime) -> bool:
        """Whether the object was created at or before a moment, as the server says."""
        created = self.creation_timestamp
        return created is not None and created <= limit


class Part(msgspec.Struct, frozen=True):
    """A chunk object by its name, with the SHA-256 of its payload in hex."""

    name: str
    digest: str


class ChangeSpec(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One append: its events, or where they are, and what people look at.

    What is empty is left out: some API servers take empty strings for null.
    """

    log: str = ""
    first: int = 0
    position: int = 0
    events: int = 0
    after: str = ""
    hash: str = ""
    time: str = ""
    actor: str = ""
    summary: str = ""
    encoding: str = ""
    payload: str = ""
    chunks: list[Part] = []


class Change(msgspec.Struct, kw_only=True):
    """The object of one append."""

    metadata: Metadata
    spec: ChangeSpec = msgspec.field(default_factory=ChangeSpec)


class ListMeta(msgspec.Struct, rename={"resource_version": "resourceVersion"}):
    """What comes with a list; `token` says that more follows."""

    resource_version: str = ""
    token: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct, Generic[ItemT]):
    """One page of a list; some servers say null where there are no items."""

    metadata: ListMeta
    items: list[ItemT] | None = None


class Bare(msgspec.Struct):
    """An object of which only the metadata is wanted."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)


class ChunkSpec(msgspec.Struct):
    """A piece of something large."""

    payload: str = ""


class Chunk(msgspec.Struct):
    """The object of a piece."""

    spec: ChunkSpec


class Floor(msgspec.Struct, kw_only=True):
    """Below which place changes are void, and where the base is that is certified there.

    `digest` is the SHA-256 of the pieces together.
    """

    position: int
    hash: str
    time: int
    digest: str
    pieces: list[str]

    @property
    def head(self) -> Head:
        """The place."""
        return Head(
            position=self.position, hash=bytes.fromhex(self.hash), time=self.time
        )


class LogSpec(msgspec.Struct, omit_defaults=True):
    """Which log this is, and where its history begins."""

    identity: str = ""
    floor: Floor | None = None


class LogObject(msgspec.Struct):
    """The object of the log itself."""

    metadata: Metadata
    spec: LogSpec

    @property
    def floor(self) -> int:
        """The position at or below which changes are void."""
        return self.spec.floor.position if self.spec.floor else 0


class Packed(msgspec.Struct, frozen=True):
    """Events as they are sent: the fields of the change, and payloads for chunks."""

    spec: ChangeSpec
    pieces: list[str]


def name_of(position: int) -> str:
    """Return the name of the change that begins at a position."""
    return str(position).zfill(_NAME_DIGITS)


def chunk_names(first: int, count: int) -> list[str]:
    """Return names for the chunks of a change, which nobody else has."""
    return [f"{name_of(first)}-{token_hex(16)}" for _ in range(count)]


def piece_names(count: int) -> list[str]:
    """Return names for the pieces of anything else, which nobody else has."""
    return [token_hex(16) for _ in range(count)]


def collection(namespace: str, plural: str) -> str:
    """Return the path of all objects of a kind in a namespace."""
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{plural}"


def document(plural: str, name: str, spec: object, **metadata: Any) -> bytes:
    """Return an object to be sent."""
    return msgspec.json.encode(
        {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KINDS[plural],
            "metadata": {"name": name, **metadata},
            "spec": spec,
        }
    )


def pack(events: Sequence[StoredEvent], *, after: bytes, log: UUID) -> Packed:
    """Return the events of an append as they are sent; `after` is the hash before."""
    text = encode_lines(events)
    encoding, payload = PLAIN, ""
    if len(text) > COMPRESSED_ABOVE:
        encoding = COMPRESSED
        payload = base64.b64encode(zstandard.compress(text, 3)).decode()
    else:
        payload = text.decode()
    spec = ChangeSpec(
        log=str(log),
        first=events[0].position,
        position=events[-1].position,
        events=len(events),
        after=after.hex(),
        hash=events[-1].hash.hex(),
        time=to_datetime(events[-1].time).isoformat(),
        actor=events[-1].actor,
        summary=summary_of(events),
        encoding=encoding,
    )
    if len(payload) <= CHUNK_CHARACTERS:
        spec.payload = payload
        return Packed(spec, [])
    pieces = [
        payload[start : start + CHUNK_CHARACTERS]
        for start in range(0, len(payload), CHUNK_CHARACTERS)
    ]
    return Packed(spec, pieces)


def encode_lines(events: Sequence[StoredEvent]) -> bytes:
    """Return events as JSON lines."""
    return msgspec.json.Encoder().encode_lines(events)


def unpack(change: Change, payload: str) -> list[StoredEvent]:
    """Return the events of a change.

    Raises:
        UnreadableError: what is stored there is none.
    """
    spec = change.spec
    position = position_of(change)
    try:
        text = payload.encode()
        if spec.encoding == COMPRESSED:
            text = zstandard.ZstdDecompressor().decompress(
                base64.b64decode(text, validate=True), max_output_size=_TEXT_BYTES_MAX
            )
        events = _decode_lines(text)
    except (
        *(msgspec.DecodeError, zstandard.ZstdError, binascii.Error),
        *(ValueError, MemoryError),
    ) as error:
        raise UnreadableError(position) from error
    if not events or [each.position for each in events] != list(
        range(position, position + len(events))
    ):
        raise UnreadableError(position)
    return events


def position_of(change: Change) -> int:
    """Return the position that a change's name says; 0 where it says none."""
    name = change.metadata.name
    return int(name) if len(name) == _NAME_DIGITS and name.isdecimal() else 0


def first_of_chunk(name: str) -> int:
    """Return where the change begins that a chunk is of; 0 where its name says none."""
    digits = name.partition("-")[0]
    return int(digits) if len(digits) == _NAME_DIGITS and digits.isdecimal() else 0


def digest_of(payload: str) -> str:
    """Return what a chunk is known by, besides its name."""
    return sha256(payload.encode()).hexdigest()


def summary_of(events: Sequence[StoredEvent]) -> str:
    """Return in a few words what an append did, for people who list changes."""
    first = events[0]
    text = f"{first.operation} {first.key}"
    if len(events) > 1:
        text += f" and {len(events) - 1} more"
    if len(text) > _SUMMARY_CHARACTERS:
        return text[: _SUMMARY_CHARACTERS - 1] + "…"
    return text


_decode_lines: Final = msgspec.json.Decoder(StoredEvent).decode_lines
decode_change: Final = msgspec.json.Decoder(Change).decode
decode_changes: Final = msgspec.json.Decoder(Page[Change]).decode
decode_bare: Final = msgspec.json.Decoder(Bare).decode
decode_bares: Final = msgspec.json.Decoder(Page[Bare]).decode
decode_chunk: Final = msgspec.json.Decoder(Chunk).decode
decode_log: Final = msgspec.json.Decoder(LogObject).decode
