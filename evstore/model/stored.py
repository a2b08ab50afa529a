"""What a log stores: immutable, compact, its JSON undecoded."""

from __future__ import annotations

import enum

import msgspec

from evstore.keys import Key  # noqa: TC001 - msgspec resolves it when it decodes

REASON = "reason"
REQUEST_ID = "request_id"
REQUEST_DIGEST = "request_digest"
CREATED_VERSION = "created_version"
CREATED_AT = "created_at"
CAUSE = "cause"
REVERTS = "reverts"

# The types whose resources are the store's own: callers can read their events, no more.
LEASE_TYPE = "EvstoreLease"
RESERVED_TYPES = frozenset({LEASE_TYPE})
# The types whose specs are not shown where anybody could look.
SECRET_TYPES = frozenset({"Secret", "GlobalSecret"})


class Operation(enum.StrEnum):
    """What an event says happened to its resource."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    REDACTED = "redacted"


class Head(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A place in a log: a position, its event's hash and its time in microseconds.

    The place before the first event has position 0, the hash that the log's identity
    gives, and time 0.
    """

    position: int
    hash: bytes
    time: int

    def is_gone(self, head: Head) -> bool:
        """Whether a log has lost this place, by its head as it was read later."""
        if head.position == self.position:
            return head.hash != self.hash
        return head.position < self.position


class StoredEvent(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An event as every log keeps it.

    `time` is `recorded_at` in microseconds; `body` is the canonical text of
    `{"labels", "owner", "spec", "status"}`, `metadata` of the rest that is known about
    the change. `body_digest` is set once the body has been redacted, to what body and
    salt hashed to before. One that is in another shape than it is stored in has there
    the digest of what is stored, too; `schema_version` is always the stored one.
    """

    position: int
    commit: int
    tx: str
    time: int
    actor: str
    operation: Operation
    key: str
    schema_version: int
    body: msgspec.Raw
    salt: bytes
    body_digest: bytes | None
    metadata: msgspec.Raw
    hash: bytes

    @property
    def size(self) -> int:
        """Bytes of body and metadata."""
        return len(self.body) + len(self.metadata)

    @property
    def head(self) -> Head:
        """The head of a log that ends with this event."""
        return Head(position=self.position, hash=self.hash, time=self.time)


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the state keeps of one resource.

    `seal` says which body this is: the 16 bytes of its salt, or the 32 bytes of its
    digest where the body itself has been redacted, or is in another shape than the
    stored one. `hash` is that of the event that produced the version, so that equal
    positions of different logs are told apart. `schema_version` is the stored one.
    """

    key: str
    version: int
    commit: int
    created_version: int
    created_time: int
    modified_time: int
    body: bytes
    seal: bytes
    hash: bytes
    schema_version: int


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a resource: an event's body, its parts undecoded but labels."""

    labels: dict[str, str] = {}
    owner: Key | None = None
    spec: msgspec.Raw = msgspec.Raw(b"null")
    status: msgspec.Raw = msgspec.Raw(b"null")
    redacted: tuple[str, ...] = ()
