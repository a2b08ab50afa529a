"""What a caller gets: resources, events, pages. Each decodes its own copy of the JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from evstore.bookmark import Bookmark
from evstore.clock import to_datetime
from evstore.errors import InvalidError
from evstore.keys import Key

from .stored import REASON, Body, Operation, Record, StoredEvent

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from uuid import UUID

SpecT = TypeVar("SpecT")

_decode_body = msgspec.json.Decoder(Body).decode
_decode_any = msgspec.json.Decoder(Any).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_decode_status: Callable[[msgspec.Raw], dict[str, Any] | None]
_decode_status = msgspec.json.Decoder(dict[str, Any] | None).decode


class _Content:
    """What a resource is called, and its body: decoded lazily, for each holder anew."""

    __slots__ = ("_body", "_key", "_labels", "_raw", "_spec", "_spec_type", "_status")

    def __init__(
        self, key: str, raw: bytes | msgspec.Raw, spec_type: builtins.type[Any] | None
    ) -> None:
        self._key = key
        self._raw = raw
        self._spec_type = spec_type

    @property
    def key(self) -> Key:
        """Type, mesh and name."""
        return Key.from_text(self._key)

    @property
    def type(self) -> str:
        """Type of the resource, for example Dataplane."""
        return self._key.split("/")[0]

    @property
    def mesh(self) -> str:
        """Mesh of the resource; "" for global types."""
        return self._key.split("/")[1]

    @property
    def name(self) -> str:
        """Name of the resource, unique within type and mesh."""
        return self._key.split("/")[2]

    @property
    def _parts(self) -> Body:
        try:
            return self._body
        except AttributeError:
            self._body: Body = _decode_body(self._raw)
            return self._body

    @property
    def labels(self) -> dict[str, str]:
        """Labels; empty where there are none."""
        try:
            return self._labels
        except AttributeError:
            self._labels: dict[str, str] = dict(self._parts.labels)
            return self._labels

    @property
    def owner(self) -> Key | None:
        """The key of the owner, with which this resource is deleted."""
        return self._parts.owner

    @property
    def redacted(self) -> tuple[str, ...]:
        """The parts that were redacted, as JSON Pointers such as `/spec/password`.

        `[redacted]` stands there; for spec, status and labels as a whole, None or {}.
        """
        return self._parts.redacted

    @property
    def spec(self) -> Any:
        """What is wanted: a dict, or the struct type registered for the type."""
        try:
            return self._spec
        except AttributeError:
            if self._spec_type is None:
                self._spec: Any = _decode_any(self._parts.spec)
            else:
                self._spec = self._typed_spec(self._spec_type)
            return self._spec

    def _typed_spec(self, spec_type: builtins.type[SpecT]) -> SpecT | None:
        if self._parts.spec == msgspec.Raw(b"null"):
            return None
        try:
            return msgspec.json.decode(self._parts.spec, type=spec_type)
        except msgspec.ValidationError as error:
            message = f"what is stored is no {spec_type.__name__}: {error}"
            if self.redacted:
                message += f"; redacted: {', '.join(self.redacted)}"
            raise InvalidError(message, path="spec") from error

    @property
    def status(self) -> dict[str, Any] | None:
        """What is observed; None where nothing was given."""
        try:
            return self._status
        except AttributeError:
            self._status: dict[str, Any] | None = _decode_status(self._parts.status)
            return self._status


class Resource(_Content, Generic[SpecT]):
    """One resource at one version, as it was handed out.

    `version` is the position of the event that produced it: it only grows, also across
    delete and re-create. Given back to `update`, `delete` or as an owner, a resource
    names exactly that version of that log.
    """

    __slots__ = ("record",)

    if TYPE_CHECKING:

        @property
        def spec(self) -> SpecT:
            """What is wanted: a dict, or the struct type registered for the type."""
            ...

    def __init__(self, record: Record, spec_type: type[Any] | None = None) -> None:
        super().__init__(record.key, record.body, spec_type)
        self.record = record

    @property
    def version(self) -> int:
        """Position of the event that produced this version."""
        return self.record.version

    @property
    def commit(self) -> int:
        """Position of the last event of the transaction that produced this version."""
        return self.record.commit

    @property
    def created_version(self) -> int:
        """Version at which this incarnation of the resource began."""
        return self.record.created_version

    @property
    def created_at(self) -> datetime:
        """When this incarnation of the resource was created."""
        return to_datetime(self.record.created_time)

    @property
    def modified_at(self) -> datetime:
        """When this version was recorded."""
        return to_datetime(self.record.modified_time)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Resource):
            return NotImplemented
        mine, theirs = self.record, other.record
        return (mine.key, mine.version, mine.hash) == (
            theirs.key,
            theirs.version,
            theirs.hash,
        )

    def __hash__(self) -> int:
        return hash((self.record.key, self.record.version, self.record.hash))

    def __repr__(self) -> str:
        # The spec stays out: it may hold secrets, and reprs end up in logs.
        return (
            f"Resource(type={self.type!r}, mesh={self.mesh!r}, name={self.name!r}, "
            f"version={self.version})"
        )


class Event(_Content):
    """One change of one resource, as the log has it."""

    __slots__ = ("_log", "_metadata", "stored")

    def __init__(
        self, stored: StoredEvent, log: UUID, spec_type: type[Any] | None = None
    ) -> None:
        super().__init__(stored.key, stored.body, spec_type)
        self.stored = stored
        self._log = log

    @property
    def position(self) -> int:
        """Place in the log: 1, 2, 3, ... without gaps."""
        return self.stored.position

    @property
    def commit(self) -> int:
        """Position of the last event of its transaction."""
        return self.stored.commit

    @property
    def recorded_at(self) -> datetime:
        """When its transaction was recorded; never decreases with position."""
        return to_datetime(self.stored.time)

    @property
    def actor(self) -> str:
        """Who made the change."""
        return self.stored.actor

    @property
    def reason(self) -> str:
        """Why, in the actor's words; "" where none was given."""
        return str(self.metadata.get(REASON, ""))

    @property
    def operation(self) -> Operation:
        """What happened."""
        return self.stored.operation

    @property
    def schema_version(self) -> int:
        """Shape of the spec as it was stored."""
        return self.stored.schema_version

    @property
    def metadata(self) -> dict[str, Any]:
        """What else is known: reason, cause, request id, creation."""
        try:
            return self._metadata
        except AttributeError:
            self._metadata: dict[str, Any] = _decode_object(self.stored.metadata)
            return self._metadata

    @property
    def hash(self) -> bytes:
        """SHA-256 over this event and the hash of the one before it."""
        return self.stored.hash

    @property
    def bookmark(self) -> Bookmark:
        """The place right after this event, to go on from with `Store.watch`."""
        return Bookmark(log=self._log, position=self.position, hash=self.hash)

    def __copy__(self) -> Event:
        """Return the same event, which decodes its content anew."""
        return Event(self.stored, self._log, self._spec_type)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return self.stored.hash == other.stored.hash

    def __hash__(self) -> int:
        return hash(self.stored.hash)

    def __repr__(self) -> str:
        return (
            f"Event(position={self.position}, operation={self.operation.value!r}, "
            f"type={self.type!r}, mesh={self.mesh!r}, name={self.name!r}, "
            f"actor={self.actor!r})"
        )


class Page(Generic[SpecT]):
    """One page of a listing; all pages of a listing come from the state at `position`.

    `total` counts everything that the filters let through, on all pages.
    `next_page_token` is None on the last page.
    """

    __slots__ = ("items", "next_page_token", "position", "total")

    def __init__(
        self,
        items: Sequence[Resource[SpecT]],
        *,
        total: int,
        next_page_token: str | None,
        position: int,
    ) -> None:
        self.items = list(items)
        self.total = total
        self.next_page_token = next_page_token
        self.position = position

    def __repr__(self) -> str:
        more = ", more to come" if self.next_page_token else ""
        return (
            f"Page({len(self.items)} of {self.total} at position {self.position}{more})"
        )


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events or resources a reader wants; None means any.

    `reason` is a text that the event's reason contains.
    """

    type: str | None = None
    mesh: str | None = None
    name: str | None = None
    actor: str | None = None
    operation: Operation | None = None
    reason: str | None = None

    @property
    def everything(self) -> bool:
        """Whether every event passes."""
        return self == _EVERYTHING

    def accepts(self, event: StoredEvent) -> bool:
        """Whether `event` is one that the reader wants."""
        return (
            (self.actor is None or event.actor == self.actor)
            and (self.operation is None or event.operation is self.operation)
            and (self.reason is None or self.reason in _reason_of(event))
            and self.accepts_key(event.key)
        )

    def accepts_key(self, key: str) -> bool:
        """Whether the resource with this key is one that the reader wants."""
        type_, mesh, name = key.split("/")
        return (
            (self.type is None or type_ == self.type)
            and (self.mesh is None or mesh == self.mesh)
            and (self.name is None or name == self.name)
        )


class _ReasonOnly(msgspec.Struct):
    reason: str = ""


_decode_reason = msgspec.json.Decoder(_ReasonOnly).decode


def _reason_of(event: StoredEvent) -> str:
    return _decode_reason(event.metadata).reason


_EVERYTHING = Filter()
ANY = _EVERYTHING
