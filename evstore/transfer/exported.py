"""The format of an export: a header, then a line for each transaction. Pure.

The header says which log it is and from where to where the lines go. Each further line
is a transaction in the format of `evstore.interchange`, with all that its events have
besides. A line has one spelling only: whoever reads it can tell that it was not changed
by writing it again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID  # noqa: TC003 - msgspec reads it

import msgspec
import orjson

from evstore.codec import DIGEST_BYTES, SALT_BYTES, body_text, genesis_hash
from evstore.errors import DivergedError, InvalidError
from evstore.keys import Key
from evstore.model import ANY, RESERVED_TYPES, Body, Filter, Operation, StoredEvent

from .interchange import Change, Line, Operation as Word, Transaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FORMAT: Final = 1
_MARK: Final = b'{"evstore":'
_WORDS: Final = {
    Operation.CREATED: "create",
    Operation.UPDATED: "update",
    Operation.DELETED: "delete",
    Operation.REDACTED: "redact",
}
_OPERATIONS: Final = {word: operation for operation, word in _WORDS.items()}
_SECOND: Final = 1_000_000
# Seconds since 1970, to the microsecond; the year 9999 is the last.
_TIME: Final = re.compile(rb"(\d{1,12})\.(\d{6})")


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an export is of: events with `after < position <= until` of one log.

    The hashes are those of the events at these two positions, in hex. Where `filter`
    lets everything through, all events between are there.
    """

    evstore: Literal["export"] = "export"
    format: int = FORMAT
    log: UUID
    after: int
    after_hash: str
    until: int
    until_hash: str
    filter: Filter = ANY

    def line(self) -> bytes:
        """Return the header as the first line of a file."""
        fields = msgspec.to_builtins(self)
        fields["filter"] = {
            name: value for name, value in fields["filter"].items() if value is not None
        }
        return orjson.dumps(fields) + b"\n"


def is_header(content: bytes) -> bool:
    """Whether the first line of a file is that of an export, of whatever format."""
    return content.startswith(_MARK)


def read_header(content: bytes) -> Header:
    """Return the header that the first line of a file is.

    Raises:
        InvalidError: it is damaged, or of a format that this version does not know.
    """
    try:
        version = msgspec.json.decode(content, type=_AnyHeader).format
        if version != FORMAT:
            message = f"is an export of format {version}, this evstore reads {FORMAT}"
            raise InvalidError(f"line 1: {message}")
        header = msgspec.json.decode(content, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidError(f"line 1: is not the header of an export: {error}") from None
    if header.line().strip() != content:
        raise InvalidError("line 1: is not as an export has it: it was changed")
    if not header.after and header.after_hash != genesis_hash(header.log).hex():
        raise InvalidError("line 1: log and after_hash do not fit: it was changed")
    return header


class _AnyHeader(msgspec.Struct):
    format: int


class _Reason(msgspec.Struct):
    reason: str = ""


_decode_reason = msgspec.json.Decoder(_Reason).decode


class _Parts(msgspec.Struct, forbid_unknown_fields=True):
    labels: msgspec.Raw
    owner: msgspec.Raw
    spec: msgspec.Raw
    status: msgspec.Raw


_decode_parts = msgspec.json.Decoder(_Parts).decode


def transaction_line(events: Sequence[StoredEvent]) -> bytes:
    """Return events of one transaction as a line.

    Raises:
        DivergedError: they do not agree about what a transaction has in common.
    """
    first = events[0]
    common = (first.commit, first.tx, first.time, first.actor)
    for event in events:
        if (event.commit, event.tx, event.time, event.actor) != common:
            message = f"position {event.position} does not belong to its transaction"
            raise DivergedError(message)
    seconds, microsecond = divmod(first.time, _SECOND)
    return (
        b'{"time":%d.%06d,"actor":%b,"reason":%b,"commit":%d,"tx":"%b","changes":[%b]}\n'
    ) % (
        seconds,
        microsecond,
        orjson.dumps(first.actor),
        orjson.dumps(_decode_reason(first.metadata).reason),
        first.commit,
        first.tx.encode(),
        b",".join(map(_change_text, events)),
    )


def _change_text(event: StoredEvent) -> bytes:
    type_, mesh, name = event.key.split("/")
    metadata = bytes(event.metadata)
    if b"\n" in metadata:
        message = f"the metadata of position {event.position} is not canonical"
        raise DivergedError(message)
    digest = event.body_digest
    return (
        b'{"op":"%b","type":"%b","mesh":"%b","name":"%b",%b,"schema_version":%d,'
        b'"metadata":%b,"position":%d,"salt":"%b",%b"hash":"%b"}'
    ) % (
        _WORDS[event.operation].encode(),
        type_.encode(),
        mesh.encode(),
        name.encode(),
        _body_members(bytes(event.body)),
        event.schema_version,
        metadata,
        event.position,
        event.salt.hex().encode(),
        b"" if digest is None else b'"body_digest":"%b",' % digest.hex().encode(),
        event.hash.hex().encode(),
    )


def _body_members(body: bytes) -> bytes:
    """Return a body as members of a change: its parts, or as a text what has others."""
    try:
        parts = _decode_parts(body)
    except msgspec.DecodeError:
        return b'"body":' + orjson.dumps(body.decode())
    texts = (parts.labels, parts.owner, parts.spec, parts.status)
    labels, owner, spec, status = map(bytes, texts)
    if b"\n" in body or body_text(labels, owner, spec, status) != body:
        return b'"body":' + orjson.dumps(body.decode())
    return b'"labels":%b,"owner":%b,"spec":%b,"status":%b' % (
        labels,
        owner,
        spec,
        status,
    )


class _ChangeText(msgspec.Struct, forbid_unknown_fields=True):
    op: str
    type: str
    mesh: str
    name: str
    schema_version: int
    metadata: msgspec.Raw
    position: int
    salt: str
    hash: str
    body: str | None = None
    labels: msgspec.Raw = msgspec.Raw()
    owner: msgspec.Raw = msgspec.Raw()
    spec: msgspec.Raw = msgspec.Raw()
    status: msgspec.Raw = msgspec.Raw()
    body_digest: str | None = None


class _LineText(msgspec.Struct, forbid_unknown_fields=True):
    time: msgspec.Raw
    actor: str
    reason: str
    commit: int
    tx: str
    changes: list[_ChangeText]


_decode_line = msgspec.json.Decoder(_LineText).decode
_decode_body = msgspec.json.Decoder(Body).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_decode_status = msgspec.json.Decoder(dict[str, Any] | None).decode


class ExportedLine(Line, frozen=True):
    """A line of an export."""

    def events(self) -> list[StoredEvent]:
        """Return the events, exactly as they were.

        Raises:
            InvalidError: the line is not one that an export has, to the last byte.
        """
        try:
            found = _decode_line(self.content)
            time = _microseconds(bytes(found.time))
            events = [_event(found, each, time) for each in found.changes]
            # What it says of itself must be so: everything is spelled in one way.
            unchanged = bool(events) and transaction_line(events).strip() == (
                self.content
            )
        except (msgspec.DecodeError, ValueError, KeyError, DivergedError) as error:
            message = f"is not a transaction of an export: {error}"
            raise InvalidError(message) from None
        if not unchanged:
            raise InvalidError("is not as an export has it: it was changed")
        return events

    def decode(self) -> Transaction:
        """Return what the transaction does, for a log of other events.

        Left out is what is not for callers to make: redactions, and the resources of
        reserved types.
        """
        events = self.events()
        return Transaction(
            time=events[0].time,
            actor=events[0].actor,
            reason=_decode_reason(events[0].metadata).reason,
            changes=list(_changes(events)),
        )


def _microseconds(text: bytes) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        message = f"{text.decode()} is no time"
        raise ValueError(message)
    return int(found[1]) * _SECOND + int(found[2])


def _event(line: _LineText, change: _ChangeText, time: int) -> StoredEvent:
    key = Key(type=change.type, mesh=change.mesh, name=change.name).text
    _binary(line.tx, 16)
    if key.count("/") != 2 or not 0 <= change.schema_version < 2**31:  # noqa: PLR2004
        message = f"{key!r} is no key, or its schema version no integer of 32 bits"
        raise ValueError(message)
    body = (
        body_text(
            *map(bytes, (change.labels, change.owner, change.spec, change.status))
        )
        if change.body is None
        else change.body.encode()
    )
    _decode_object(body)
    _decode_object(change.metadata)
    digest = change.body_digest
    return StoredEvent(
        change.position,
        line.commit,
        line.tx,
        time,
        line.actor,
        _OPERATIONS[change.op],
        key,
        change.schema_version,
        msgspec.Raw(body),
        _binary(change.salt, SALT_BYTES),
        None if digest is None else _binary(digest, DIGEST_BYTES),
        # A copy: a part would keep the whole line in memory.
        msgspec.Raw(bytes(change.metadata)),
        _binary(change.hash, DIGEST_BYTES),
    )


def _binary(text: str, length: int) -> bytes:
    value = bytes.fromhex(text)
    if len(value) != length or value.hex() != text:
        message = f"{text!r} is not {length} bytes in hex"
        raise ValueError(message)
    return value


def _changes(events: Iterable[StoredEvent]) -> Iterator[Change]:
    for event in events:
        key = Key.from_text(event.key)
        if event.operation is Operation.REDACTED or key.type in RESERVED_TYPES:
            continue
        word = Word(_WORDS[event.operation])
        if word is Word.DELETE:
            yield Change(word, key, {}, None)
            continue
        body = _decode_body(event.body)
        spec, status = _decode_status(body.spec), _decode_status(body.status)
        # A body that was redacted as a whole has no spec any more.
        yield Change(
            word,
            key,
            {} if spec is None else spec,
            body.labels,
            status,
            body.owner if word is Word.CREATE else None,
            event.schema_version,
        )
