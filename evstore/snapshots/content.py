"""What is in a snapshot, and how it is cut into chunks: pure.

Of the built-in projection a chunk is MessagePack: some records, or some remembered
requests, or at the end the counts of both. Bodies stay the bytes that they are. Of a
custom projection the chunks are pieces of one encoded state.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from evstore.errors import StoreError
from evstore.folds.projection import BUILT_IN
from evstore.folds.projections import RESOURCES_VERSION
from evstore.folds.requests import Request  # noqa: TC001 - msgspec resolves it
from evstore.folds.resources import digest_of
from evstore.model import Record  # noqa: TC001 - msgspec resolves it

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evstore.folds.custom import Custom
    from evstore.folds.projections import Projections
    from evstore.model import Head

CHUNK_BYTES: Final = 1024 * 1024
RECORD_BYTES: Final = 200  # about what a resource takes besides its body
REQUESTS_A_CHUNK: Final = 5_000


class ContentError(Exception):
    """What is stored is not a snapshot, or not all of one; never leaves the store."""


class _Records(msgspec.Struct, array_like=True, tag="records"):
    items: list[Record]


class _Requests(msgspec.Struct, array_like=True, tag="requests"):
    items: list[tuple[str, Request]]


class _End(msgspec.Struct, array_like=True, tag="end"):
    records: int
    requests: int
    newest_schemas: dict[str, int]


_encode = msgspec.msgpack.Encoder().encode
_Part = _Records | _Requests | _End
_decode = msgspec.msgpack.Decoder(_Part).decode


class Frozen(NamedTuple):
    """A fold at one place; it may go on while the chunks are made."""

    head: Head
    digest: bytes
    chunks: Iterator[bytes]


class Fold(Protocol):
    """A fold that snapshots can be taken of, and that can begin from one."""

    @property
    def name(self) -> str:
        """The projection's name."""
        ...

    @property
    def version(self) -> int:
        """The projection's version."""
        ...

    @property
    def head(self) -> Head:
        """The place up to which it has folded."""
        ...

    @property
    def stopped(self) -> bool:
        """Whether it has met an event that it cannot take."""
        ...

    def freeze(self) -> Frozen | None:
        """Return it as it is now; None where it has nothing that could be kept."""
        ...

    def reading(self) -> Reading:
        """Return what puts a snapshot together again; nothing has been folded yet."""
        ...


class Reading(Protocol):
    """Puts a snapshot together again, chunk by chunk."""

    def add(self, chunk: bytes) -> None:
        """Take the next chunk.

        Raises:
            ContentError: it is none of ours.
        """
        ...

    def thaw(self, head: Head, digest: bytes) -> None:
        """Have the fold begin from it.

        Raises:
            ContentError: it is not all of one, or its state has another digest; the
                fold has not changed.
        """
        ...


def folds_of(projections: Projections) -> list[Fold]:
    """Return the folds of a log's projections, the built-in one first."""
    return [BuiltIn(projections), *map(OfOne, projections.custom)]


class BuiltIn:
    """Resources and request ids: together, since a start needs both at one place."""

    def __init__(self, projections: Projections) -> None:
        self.name: Final = BUILT_IN
        self.version: Final = RESOURCES_VERSION
        self.stopped: Final = False
        self._projections = projections

    @property
    def head(self) -> Head:
        """The place up to which it has folded."""
        return self._projections.head

    def freeze(self) -> Frozen:
        """Return it as it is now: references to what never changes."""
        resources, requests = self._projections.resources, self._projections.requests
        newest = dict(resources.newest_schemas)
        chunks = _chunks(list(resources), requests.items(), newest)
        return Frozen(self.head, resources.digest(), chunks)

    def reading(self) -> _BuiltInReading:
        """Return what puts a snapshot together again."""
        return _BuiltInReading(self._projections)


class _BuiltInReading:
    def __init__(self, projections: Projections) -> None:
        self._projections = projections
        self._records: list[Record] = []
        self._requests: list[tuple[str, Request]] = []
        self._end: _End | None = None

    def add(self, chunk: bytes) -> None:
        if self._end is not None:
            message = "there is a chunk behind the last one"
            raise ContentError(message)
        try:
            part: _Part = _decode(chunk)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"a chunk cannot be decoded: {error}"
            raise ContentError(message) from error
        match part:
            case _Records(items):
                self._records += items
            case _Requests(items):
                self._requests += items
            case _End():
                self._end = part

    def thaw(self, head: Head, digest: bytes) -> None:
        end = self._end
        counts = (len(self._records), len(self._requests))
        if end is None or (end.records, end.requests) != counts:
            message = "some of its chunks are missing"
            raise ContentError(message)
        # Counted again: what was stored with it need not be about these records.
        if digest_of(self._records) != digest:
            message = "its state has another digest"
            raise ContentError(message)
        self._projections.resources.restore(self._records, digest=digest)
        self._projections.resources.newest_schemas = end.newest_schemas
        self._projections.requests.restore(self._requests)
        self._projections.head = head


class OfOne:
    """A projection of one's own: one encoded state, in pieces."""

    def __init__(self, custom: Custom) -> None:
        self.name: Final = custom.name
        self.version: Final = custom.projection.version
        self._custom = custom

    @property
    def head(self) -> Head:
        """The place up to which it has folded."""
        return self._custom.head

    @property
    def stopped(self) -> bool:
        """Whether it has met an event that it cannot take."""
        return self._custom.stopped is not None

    def freeze(self) -> Frozen | None:
        """Return it as it is now: encoded at once, as the fold may change it in place.

        None where it has stopped, or is folded again.
        """
        try:
            payload = self._custom.freeze()
        except StoreError:
            return None
        pieces = (
            payload[first : first + CHUNK_BYTES]
            for first in range(0, len(payload), CHUNK_BYTES)
        )
        return Frozen(self.head, sha256(payload).digest(), pieces)

    def reading(self) -> _ReadingOfOne:
        """Return what puts a snapshot together again."""
        return _ReadingOfOne(self._custom)


class _ReadingOfOne:
    def __init__(self, custom: Custom) -> None:
        self._custom = custom
        self._payload = bytearray()

    def add(self, chunk: bytes) -> None:
        self._payload += chunk

    def thaw(self, head: Head, digest: bytes) -> None:
        payload = bytes(self._payload)
        if sha256(payload).digest() != digest:
            message = "its state has another digest"
            raise ContentError(message)
        try:
            self._custom.restore(head, payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"it is no state of the projection: {error}"
            raise ContentError(message) from error


def _chunks(
    records: Sequence[Record],
    requests: Sequence[tuple[str, Request]],
    newest_schemas: dict[str, int],
) -> Iterator[bytes]:
    """Yield chunks that are hardly larger than 1 MB, or hold one resource."""
    some: list[Record] = []
    size = 0
    for record in records:
        own = RECORD_BYTES + len(record.body)
        if some and size + own > CHUNK_BYTES:
            yield _encode(_Records(some))
            some = []
            size = 0
        size += own
        some.append(record)
    if some:
        yield _encode(_Records(some))
    for first in range(0, len(requests), REQUESTS_A_CHUNK):
        yield _encode(_Requests(list(requests[first : first + REQUESTS_A_CHUNK])))
    yield _encode(_End(len(records), len(requests), newest_schemas))
