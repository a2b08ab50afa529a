"""What a log tells besides events: instances, snapshots, connections."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec resolves them when it decodes
from uuid import UUID  # noqa: TC003

import msgspec

from evstore.model import Head, StoredEvent


class AuditedEvent(StoredEvent, frozen=True, gc=False, array_like=True):
    """An event as it is stored, with the size that is stored beside it."""

    stored_size: int


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """A running store, as its last heartbeat told it.

    `projections` are the labels of its projections (`Stamp.label`); `knows` is the
    newest schema version of a database that its program brings migrations for. A log
    fills that in with a heartbeat that says 0; where there is no database, 0 stays.
    """

    id: UUID
    position: int
    digest: bytes
    code_version: str
    knows: int = 0
    projections: tuple[str, ...] = ()
    seen_at: datetime | None = None


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """What a log certifies of the state at its floor: whoever folds can begin there.

    `events` are the last ones of all resources that exist there, as they are stored;
    `requests` the remembered ones, oldest first: id, digest, commit, time. `digest` is
    that of the state, `newest_schemas` are the newest schema versions of types.
    """

    head: Head
    digest: bytes
    events: list[StoredEvent]
    requests: list[tuple[str, str, int, int]]
    newest_schemas: dict[str, int]


def label_of(projection: str, version: int, fingerprint: str) -> str:
    """Return a projection with its version and fingerprint: who shares it can share."""
    return f"{projection}:{version}:{fingerprint}"


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot is of: a projection of one log, folded by certain code, there.

    `fingerprint` tells upcasters apart, in hex; `digest` is that of the state.
    """

    log: UUID
    projection: str
    version: int
    fingerprint: str
    head: Head
    digest: bytes

    @property
    def label(self) -> str:
        """What tells whether it can be shared (`label_of`)."""
        return label_of(self.projection, self.version, self.fingerprint)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A stored fold, whole. `checksum` is the SHA-256 of all its chunks together."""

    id: UUID
    stamp: Stamp
    chunks: int
    size: int
    checksum: bytes
    taken_at: datetime
    code_version: str


class Connections(msgspec.Struct, frozen=True, kw_only=True):
    """The connections of a log to its server: as they are, looked at and not tried.

    `writer` and `listener` say whether there is one; `listener` is None where
    notifications are off, or a pooler is in between. `readers` counts those in the pool,
    `readers_idle` the ones that nobody uses, `readers_wanted` the reads that wait for
    one. Connections to a read replica are not among them.
    """

    writer: bool
    listener: bool | None
    readers: int
    readers_idle: int
    readers_wanted: int
    readers_max: int
