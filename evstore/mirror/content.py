"""What a mirrored resource looks like in the cluster, and what it is called. No I/O.

The log is the truth and the object is shown, nothing more. So each object carries two
digests: of the place in the log that it was made from, and of its own content. An object
that does not fit its own digest was written by somebody else. The API server writes
numbers in its own way, so the digest is of a form that this does not change.
"""

from __future__ import annotations

import base64
import re
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from evstore.clock import to_datetime
from evstore.log.kubernetes.objects import GROUP, KINDS, RESOURCES, VERSION
from evstore.model import RESERVED_TYPES, SECRET_TYPES, Body, Key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evstore.model import Record

SOURCE: Final = f"{GROUP}/source"
CONTENT: Final = f"{GROUP}/content"
TYPE_LABEL: Final = f"{GROUP}/type"
MESH_LABEL: Final = f"{GROUP}/mesh"

SLUG_CHARACTERS_MAX: Final = 100
# More of the key's digest than anybody will find two of by trying.
HASH_BYTES: Final = 10
# The server also keeps who set which field: about as much again.
BODY_BYTES_MAX: Final = 512 * 1024

_NOT_IN_SLUG: Final = re.compile(r"[^a-z0-9]+")
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?", re.ASCII)
_SHOWN: Final = (
    *("type", "mesh", "name", "version", "createdAt", "modifiedAt"),
    *("labels", "owner", "spec", "status", "omitted"),
)
_INTEGERS: Final = range(-(1 << 63), 1 << 63)
# From here on the server writes whole numbers with an exponent.
_PLAIN_MAX: Final = 1e21

_decode_body: Final = msgspec.json.Decoder(Body).decode
_decode: Final = msgspec.json.Decoder(Any).decode


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """An object as the cluster has it, as far as it matters.

    `source` says what it was made from; it is empty where the object does not fit its
    own digest. `version` is the one that it shows.
    """

    uid: str
    resource_version: str
    source: str
    version: int
    leaving: bool = False


def is_mirrored(key: str) -> bool:
    """Whether a resource may be shown: neither a secret nor the store's own."""
    type_ = key.partition("/")[0]
    return type_ not in SECRET_TYPES and type_ not in RESERVED_TYPES


def name_of(key: str) -> str:
    """Return the name of a resource's object: readable, one for each key, and valid.

    That is a DNS subdomain of at most 128 characters, the same for ever.
    """
    slug = _NOT_IN_SLUG.sub("-", key.lower())[:SLUG_CHARACTERS_MAX].strip("-")
    digest = base64.b32encode(sha256(key.encode()).digest()[:HASH_BYTES])
    short = digest.decode().lower()
    return f"{slug}-{short}" if slug else short


def source_of(record: Record) -> str:
    """Return what tells this state of a resource from each other one."""
    return sha256(record.hash + record.body).hexdigest()


def document_of(record: Record) -> dict[str, Any]:
    """Return the object that shows a resource.

    A body above 512 KiB is left out, and the object says so.
    """
    key = Key.from_text(record.key)
    body = _decode_body(record.body)
    shown: dict[str, Any] = {
        "type": key.type,
        "mesh": key.mesh,
        "name": key.name,
        "version": record.version,
        "createdAt": _time(record.created_time),
        "modifiedAt": _time(record.modified_time),
        "labels": body.labels or None,
        "owner": _shown_key(body.owner) if body.owner else None,
    }
    if len(record.body) > BODY_BYTES_MAX:
        shown["omitted"] = f"spec and status: {len(record.body)} bytes are too many"
    else:
        shown |= {"spec": _decode(body.spec), "status": _decode(body.status)}
    labels = {TYPE_LABEL: key.type, MESH_LABEL: key.mesh}
    annotations = {SOURCE: source_of(record)}
    metadata: dict[str, Any] = {
        "name": name_of(record.key),
        "labels": {name: text for name, text in labels.items() if _fits(text)},
        "annotations": annotations,
    }
    document = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KINDS[RESOURCES],
        "metadata": metadata,
        # The schema takes no null, and kubectl shows an absent mesh as it should be.
        **{
            name: value
            for name, value in shown.items()
            if value is not None and (name != "mesh" or value)
        },
    }
    annotations[CONTENT] = _digest_of(document, _metadata_of(document))
    return document


def seen_of(document: dict[str, Any]) -> Seen:
    """Return what matters of an object, as the cluster has it."""
    metadata = _metadata_of(document)
    annotations = metadata.annotations
    try:
        whole = annotations.get(CONTENT) == _digest_of(document, metadata)
    except RecursionError:
        whole = False  # nested deeper than anything that a log keeps
    return Seen(
        uid=metadata.uid,
        resource_version=metadata.resource_version,
        source=annotations.get(SOURCE, "") if whole else "",
        version=int(document.get("version", 0)),
        leaving=metadata.deletion_timestamp is not None,
    )


def editor_of(document: dict[str, Any], *, but: str) -> str:
    """Return with which program an object was last written, but for our own; or ""."""
    others = [
        each for each in _metadata_of(document).managed_fields if each.manager != but
    ]
    return max(others, key=_time_of).manager if others else ""


class _Writer(msgspec.Struct):
    """Who has written some of the fields of an object, and when last."""

    manager: str = ""
    time: str = ""


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    managed_fields: list[_Writer] = []
    deletion_timestamp: str | None = None


def _metadata_of(document: dict[str, Any]) -> _Metadata:
    return msgspec.convert(document["metadata"], _Metadata)


def _time_of(writer: _Writer) -> str:
    return writer.time


def _digest_of(document: dict[str, Any], metadata: _Metadata) -> str:
    """Return the digest of all that we write into an object."""
    content: dict[str, Any]
    content = {name: document[name] for name in _SHOWN if name in document}
    content["metadata"] = [
        metadata.name,
        metadata.annotations.get(SOURCE),
        metadata.labels.get(TYPE_LABEL),
        metadata.labels.get(MESH_LABEL),
    ]
    text = msgspec.json.encode(_normal(content), order="sorted")
    return sha256(text).hexdigest()


def _shown_key(key: Key) -> dict[str, str]:
    mesh = {"mesh": key.mesh} if key.mesh else {}
    return {"type": key.type, **mesh, "name": key.name}


def _fits(text: str) -> bool:
    return _LABEL.fullmatch(text) is not None


def _time(microseconds: int) -> str:
    moment = to_datetime(microseconds).replace(tzinfo=None)
    return moment.isoformat(timespec="microseconds") + "Z"


def _normal(value: Any) -> Any:
    """Return a value as it is after the API server has read and written it."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {name: _normal(each) for name, each in fields.items()}
    if isinstance(value, list):
        return list(map(_normal, cast("Iterable[Any]", value)))
    if isinstance(value, float):
        return _normal_float(value)
    if isinstance(value, int) and value not in _INTEGERS:
        return _normal_float(float(value))
    return value


def _normal_float(value: float) -> int | float:
    if value.is_integer() and abs(value) < _PLAIN_MAX:
        # The shortest digits that name it, as the server writes them; then an integer.
        whole = int(Decimal(repr(value)))
        if whole in _INTEGERS:
            return whole
    return value
