"""What a redaction makes of a body: which parts go, and what stands there instead. Pure.

A part is named by a JSON Pointer (RFC 6901) into the body, such as `/spec/password`. A
value that was redacted reads `[redacted]`; labels, spec and status as a whole become
empty or null. The body's own list `redacted` says which parts these are, so that nobody
takes a mark for a value. To redact what is redacted changes nothing: a fold of the
announcement gives the same, whether the stored body has been replaced by then or not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import orjson

from .codec import SALT_BYTES, body_digest
from .errors import InvalidError
from .model import Operation, StoredEvent
from .values.diff import leaves

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MARK: Final = "[redacted]"
FIELDS_MAX: Final = 1000
# The table lets a new body have 65,536 bytes more than the old one.
MARKS_BYTES_MAX: Final = 60_000
# Where the list stands in a body, if it has one: a quick look before any decoding.
_SIGN: Final = b'"redacted":['
_WHOLE: Final[dict[str, object]] = {"/labels": {}, "/spec": None, "/status": None}
_INDEX: Final = re.compile(r"0|[1-9][0-9]*")
_STEP: Final = re.compile(r"(?:^|\.)([^.\[\]]+)|\[(\d+)\]")


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What a `redacted` event says: which event loses which parts, and the digests.

    `old_digest` is what the first body hashed to with its salt, `new_digest` what the one
    that comes hashes to with its own; both in hex. The salts stay out: what is left in
    the new body may have to go as well some day, and could be guessed from a digest.
    """

    position: int = 0
    fields: tuple[str, ...] = ()
    old_digest: str = ""
    new_digest: str = ""

    def metadata(self) -> dict[str, Any]:
        """Return what the announcement's event keeps of it."""
        return {
            "position": self.position,
            "fields": list(self.fields),
            "old_digest": self.old_digest,
            "new_digest": self.new_digest,
        }

    def allows(self, event: StoredEvent) -> bool:
        """Whether body and salt of a redacted event are those that were announced."""
        return (
            event.body_digest is not None
            and event.body_digest.hex() == self.old_digest
            and body_digest(event.salt, event.body).hex() == self.new_digest
        )

    def done(self, event: StoredEvent) -> bool:
        """Whether an event has lost all that was announced."""
        return event.body_digest is not None and not any(
            is_there(event.body, field) for field in self.fields
        )


_decode = msgspec.json.Decoder(Announcement).decode


class _Marks(msgspec.Struct):
    redacted: tuple[str, ...] = ()


_decode_marks = msgspec.json.Decoder(_Marks).decode


class CurrentAnnouncement(StoredEvent, frozen=True, gc=False, array_like=True):
    """A `redacted` event, with what it leaves of a body that is in another shape.

    The fields that it names are those of the stored body. `left` is that body without
    them, in the current shape.
    """

    left: msgspec.Raw


def announcement_of(event: StoredEvent) -> Announcement | None:
    """Return what a `redacted` event announces; None for any other."""
    if event.operation is not Operation.REDACTED:
        return None
    return _decode(event.metadata)


def marks(body: bytes | msgspec.Raw) -> tuple[str, ...]:
    """Return the parts of a body that were redacted."""
    text = bytes(body)
    return _decode_marks(text).redacted if _SIGN in text else ()


def marks_bytes(fields: Iterable[str]) -> int:
    """Return by how many bytes a body grows at most when these parts go."""
    return sum(len(orjson.dumps(field)) + len(MARK) + 3 for field in fields)


def covers(body: bytes | msgspec.Raw, fields: Iterable[str]) -> bool:
    """Whether all of these parts of a body were redacted, or what they are parts of."""
    found = marks(body)
    return all(_within(field, found) for field in fields)


def is_there(body: bytes | msgspec.Raw, field: str) -> bool:
    """Whether a body has something at a place that was not redacted."""
    if covers(body, (field,)):
        return False
    return value_at(orjson.loads(bytes(body)), field) is not MISSING


def redact(body: bytes | msgspec.Raw, fields: Iterable[str]) -> bytes:
    """Return a body without these parts; one that is not there changes nothing."""
    document: dict[str, Any] = orjson.loads(bytes(body))
    gone = set(document.get("redacted", ()))
    for field in fields:
        if _within(field, gone) or not _replace(document, field):
            continue
        gone = {each for each in gone if not each.startswith(f"{field}/")} | {field}
    if not gone:
        return bytes(body)
    document["redacted"] = sorted(gone)
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def left_by(
    event: StoredEvent, body: bytes | msgspec.Raw, announced: Announcement
) -> bytes:
    """Return what a `redacted` event leaves of a body, in the shape that this one has."""
    if isinstance(event, CurrentAnnouncement):
        return bytes(event.left)
    return redact(body, announced.fields)


def redacted_event(
    event: StoredEvent, announcement: StoredEvent, announced: Announcement
) -> StoredEvent:
    """Return an event as it is after its redaction, but for the salt."""
    return msgspec.structs.replace(
        event,
        body=msgspec.Raw(left_by(announcement, event.body, announced)),
        salt=bytes(SALT_BYTES),
        body_digest=bytes.fromhex(announced.old_digest),
    )


def keep_marks(before: bytes, after: bytes) -> bytes:
    """Return a new body that goes on saying what is redacted in the one before it.

    A part of which nobody has given another value is still redacted, wherever it stands
    by now: what holds a mark may have moved, as in a list.
    """
    gone = marks(before)
    if not gone:
        return after
    document: dict[str, Any] = orjson.loads(after)
    whole = [field for field in gone if field in _WHOLE]
    kept = [field for field in whole if value_at(document, field) == _WHOLE[field]]
    if len(whole) < len(gone):
        kept += (
            field
            for part in _WHOLE
            for field, value in leaves(value_at(document, part), part)
            if value == MARK
        )
    if not kept:
        return after
    document["redacted"] = sorted(kept)
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


class _Missing:
    """What stands where nothing is."""


MISSING: Final = _Missing()


def value_at(document: object, field: str) -> Any:
    """Return the value that a pointer names, MISSING where there is none."""
    found = document
    for step in _steps(field):
        found = _member(found, step)
    return found


def pointer(text: str) -> str:
    """Return the JSON Pointer that a caller means.

    Either one already, `/spec/tags/kuma.io~1service`, or names joined by dots with
    places of lists in brackets: `spec.users[0].password`.

    Raises:
        InvalidError: it is neither, or no part of spec, status or labels.
    """
    if text.startswith("/"):
        found = text
        if re.search(r"~(?![01])", text):
            message = f"{text!r} is no JSON Pointer: write ~0 for ~ and ~1 for /"
            raise InvalidError(message, path="fields")
    else:
        steps = list(_STEP.finditer(text))
        if "".join(step[0] for step in steps) != text or not text:
            message = (
                f"{text!r} is no field; write spec.users[0].password or a JSON Pointer"
            )
            raise InvalidError(message, path="fields")
        found = "".join(f"/{_escape(step[1] or step[2])}" for step in steps)
    if not _within(found, _WHOLE):
        message = f"{text!r} is no part of spec, status or labels"
        raise InvalidError(message, path="fields")
    return found


def parts_of(body: bytes | msgspec.Raw) -> tuple[str, ...]:
    """Return what there is to redact of a whole body; the owner stays."""
    document: dict[str, Any] = orjson.loads(bytes(body))
    return tuple(
        field
        for field, empty in _WHOLE.items()
        if value_at(document, field) not in (empty, MISSING)
    )


def _mark(field: str) -> object:
    return _WHOLE.get(field, MARK)


def _within(field: str, others: Iterable[str]) -> bool:
    return any(field == each or field.startswith(f"{each}/") for each in others)


def _steps(field: str) -> Iterator[str]:
    for step in field.split("/")[1:]:
        yield step.replace("~1", "/").replace("~0", "~")


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _member(container: object, step: str) -> Any:
    match container:
        case dict():
            return cast("dict[str, Any]", container).get(step, MISSING)
        case list() if _INDEX.fullmatch(step):
            items = cast("Sequence[Any]", container)
            return items[int(step)] if int(step) < len(items) else MISSING
        case _:
            return MISSING


def _replace(document: dict[str, Any], field: str) -> bool:
    *way, last = _steps(field)
    container: Any = document
    for step in way:
        container = _member(container, step)
    if _member(container, last) is MISSING:
        return False
    container[int(last) if isinstance(container, list) else last] = _mark(field)
    return True
