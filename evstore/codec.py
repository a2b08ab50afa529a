"""Canonical JSON, digests and the hash chain: the bytes that evstore stands on.

Canonical JSON is what orjson writes with sorted keys: UTF-8, no white space, keys in
order of their code points, numbers as Python has them (`1.0` stays `1.0`). What JSON or
PostgreSQL cannot keep is refused, with the path: NaN and infinities, NUL characters,
lone surrogates, integers beyond 64 bits, deep nesting, keys that are not strings.

The chain: `hash(n) = SHA-256(hash(n-1), position, commit, tx, time in microseconds,
actor, operation, type, mesh, name, schema version, digest of metadata, digest of body)`,
each field led by its length as four bytes, integers as eight bytes, all big-endian, the
schema version as four. The digest of a body is SHA-256(salt, body): without the salt, the
digest of a short secret could be guessed after the secret itself has been redacted.
"""

from __future__ import annotations

import enum
import json
import math
import struct
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

import msgspec
import orjson

from .errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .model import StoredEvent

DEPTH_MAX: Final = 128
INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**64 - 1
SALT_BYTES: Final = 16
DIGEST_BYTES: Final = 32
DIGEST_MODULUS: Final = 1 << 256

_OPTIONS: Final = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)
# Each field of the fixed part is led by its length.
_FIXED: Final = struct.Struct(">I32sIqIqI16sIqIi")
_LENGTH: Final = struct.Struct(">I")
_DIGEST_LENGTH: Final = _LENGTH.pack(DIGEST_BYTES)


def canonical(value: object, path: str) -> bytes:
    """Return `value` as canonical JSON.

    Raises:
        InvalidError: a part of it cannot be kept; names the place below `path`.
    """
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value)
    try:
        text = orjson.dumps(value, option=_OPTIONS)
    except (TypeError, RecursionError) as error:
        _find_fault(value, path)
        raise InvalidError(str(error), path=path) from error
    # orjson writes NaN as null and takes NUL and depth as they come: look closer where
    # the text shows that one of them can be there.
    if (
        b"null" in text
        or b"\\u0000" in text
        or text.count(b"{") + text.count(b"[") > DEPTH_MAX
    ):
        _find_fault(value, path)
    return text


def _find_fault(value: object, path: str, depth: int = 1) -> None:
    """Raise InvalidError for the first part of `value` that JSON cannot keep."""
    if depth > DEPTH_MAX and isinstance(value, dict | list | tuple):
        message = f"nested more than {DEPTH_MAX} levels deep"
        # The path itself would be as deep as the fault.
        raise InvalidError(
            message, path=path.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0]
        )
    match value:
        case dict():
            for name, item in cast("dict[object, object]", value).items():
                if not isinstance(name, str):
                    message = f"the key {name!r} is not a string"
                    raise InvalidError(message, path=path)
                _check_text(name, f"{path}, key {name!r}")
                _find_fault(item, f"{path}.{name}", depth + 1)
        case list() | tuple():
            items = cast("Sequence[object]", value)
            for index, item in enumerate(items):
                _find_fault(item, f"{path}[{index}]", depth + 1)
        case enum.Enum():
            _find_fault(value.value, path, depth)  # orjson writes what it stands for
        case _:
            _find_leaf_fault(value, path)


def _find_leaf_fault(value: object, path: str) -> None:
    match value:
        case None | bool() | UUID():
            pass  # orjson writes a UUID as a string
        case str():
            _check_text(value, path)
        case int():
            if not INTEGER_MIN <= value <= INTEGER_MAX:
                raise InvalidError("an integer beyond 64 bits", path=path)
        case float():
            if not math.isfinite(value):
                raise InvalidError(f"{value} is not a JSON number", path=path)
        case _:
            message = f"a value of type {type(value).__name__} is not JSON"
            raise InvalidError(message, path=path)


def _check_text(text: str, path: str) -> None:
    if "\0" in text:
        raise InvalidError("contains a NUL character", path=path)
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        message = "contains a lone surrogate, which UTF-8 cannot hold"
        raise InvalidError(message, path=path) from None


def check_text(text: object, path: str, *, characters_max: int = 4096) -> str:
    """Return `text` if a log can keep it.

    Raises:
        InvalidError: it is no string, too long, or holds what UTF-8 or PostgreSQL cannot.
    """
    if not isinstance(text, str):
        message = f"must be a string, not {type(text).__name__}"
        raise InvalidError(message, path=path)
    if len(text) > characters_max:
        message = f"has {len(text)} characters, at most {characters_max} are allowed"
        raise InvalidError(message, path=path)
    _check_text(text, path)
    return text


def body_text(labels: bytes, owner: bytes, spec: bytes, status: bytes) -> bytes:
    """Return the canonical body of an event from the canonical parts."""
    return b'{"labels":%b,"owner":%b,"spec":%b,"status":%b}' % (
        labels,
        owner,
        spec,
        status,
    )


def body_digest(salt: bytes, body: bytes | msgspec.Raw) -> bytes:
    """Return what stands for a body in the chain."""
    digest = sha256(salt)
    digest.update(body)
    return digest.digest()


def genesis_hash(identity: UUID) -> bytes:
    """Return the hash of the place before the first event of a log."""
    return sha256(b"evstore/1" + identity.bytes).digest()


def event_hash(previous: bytes, event: StoredEvent) -> bytes:
    """Return the hash of `event` in a log whose event before it has hash `previous`."""
    return chain_hash(
        previous,
        position=event.position,
        commit=event.commit,
        tx=event.tx,
        time=event.time,
        actor=event.actor,
        operation=event.operation,
        key=event.key,
        schema_version=event.schema_version,
        metadata=event.metadata,
        digest=event.body_digest or body_digest(event.salt, event.body),
    )


def chain_hash(  # noqa: PLR0913 - the hash is over this many fields
    previous: bytes,
    *,
    position: int,
    commit: int,
    tx: str,
    time: int,
    actor: str,
    operation: str,
    key: str,
    schema_version: int,
    metadata: bytes | msgspec.Raw,
    digest: bytes,
) -> bytes:
    """Return the hash of one event; `digest` is that of its body."""
    fixed = _FIXED.pack(
        *(32, previous, 8, position, 8, commit),
        *(16, bytes.fromhex(tx), 8, time, 4, schema_version),
    )
    parts = (
        fixed,
        field(actor),
        field(operation),
        key_fields(key),
        _DIGEST_LENGTH,
        _metadata_digest(bytes(metadata)),
        _DIGEST_LENGTH,
        digest,
    )
    return sha256(b"".join(parts)).digest()


def unbroken(previous: bytes, events: Sequence[StoredEvent]) -> bool:
    """Whether these events follow a hash and one another.

    The same as `event_hash` of each, in two thirds of the time: verifying a log does
    nothing else.

    Raises:
        ValueError, TypeError, struct.error: a value that no event has.
    """
    pack, unhex = _FIXED.pack, bytes.fromhex
    for event in events:
        parts = (
            pack(
                *(32, previous, 8, event.position, 8, event.commit, 16),
                *(unhex(event.tx), 8, event.time, 4, event.schema_version),
            ),
            field(event.actor),
            field(event.operation),
            key_fields(event.key),
            _DIGEST_LENGTH,
            sha256(event.metadata).digest(),
            _DIGEST_LENGTH,
            event.body_digest or sha256(event.salt + bytes(event.body)).digest(),
        )
        previous = sha256(b"".join(parts)).digest()
        if previous != event.hash:
            return False
    return True


@lru_cache(maxsize=100_000)
def field(text: str) -> bytes:
    """Return a text in UTF-8, led by its length as four bytes, big-endian.

    The chain's form of a field, and also PostgreSQL's of an array element. Names of
    types, meshes, actors and resources come again and again.
    """
    encoded = text.encode()
    return _LENGTH.pack(len(encoded)) + encoded


@lru_cache(maxsize=100_000)
def key_fields(key: str) -> bytes:
    """Return type, mesh and name of a key as fields."""
    return b"".join(map(field, key.split("/")))


@lru_cache(maxsize=10_000)
def _metadata_digest(metadata: bytes) -> bytes:
    """Return the digest of metadata: without a reason, a resource's is always the same."""
    return sha256(metadata).digest()


def record_term(key: str, version: int, digest: bytes) -> int:
    """Return what one resource adds to the state digest.

    The state digest is the sum of these terms modulo 2^256: it does not depend on the
    order of changes and is kept up to date one resource at a time. It finds drift; it
    is no proof against tampering.
    """
    text = b"%b\0%d\0%b" % (key.encode(), version, digest)
    return int.from_bytes(sha256(text).digest())


def decode_json(text: bytes | str, path: str) -> Any:
    """Return the value of a JSON text that a person or another program wrote.

    Raises:
        InvalidError: it is no JSON, or has the same key twice in one object.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidError(f"the key {twice!r} stands twice", path=path)
        return found

    def refuse(constant: str) -> None:
        raise InvalidError(f"{constant} is not JSON", path=path)

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"not JSON: {error}", path=path) from error
