"""The built-in projection: every resource that exists, and its indexes.

`fold` is the rule: what one event makes of one resource. `Resources` keeps the result
for all of them; `Overlay` shows it as it will be after events that are not in the log
yet, so that a batch of commands can be decided before any of it is appended.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final, Protocol, assert_never

import msgspec

from evstore.codec import DIGEST_BYTES, DIGEST_MODULUS, body_digest, record_term
from evstore.model import Body, Key, Operation, Record, StoredEvent
from evstore.redaction import announcement_of, left_by

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_NO_OWNER: Final = b'{"labels":{},"owner":null,'


class _OwnerOnly(msgspec.Struct):
    owner: Key | None = None


class _Created(msgspec.Struct):
    created_version: int | None = None
    created_at: int | None = None


_decode_owner = msgspec.json.Decoder(_OwnerOnly).decode
_decode_created = msgspec.json.Decoder(_Created).decode
decode_body = msgspec.json.Decoder(Body).decode


class State(Protocol):
    """What rules may ask of the resources at one position."""

    def get(self, key: str) -> Record | None:
        """Return the resource, or None where there is none."""
        ...

    def children(self, owner: str) -> Collection[str]:
        """Return the keys of what `owner` owns, in no particular order."""
        ...

    def newest_schema(self, type_: str) -> int:
        """Return the newest schema version of the type's bodies so far; 1 without any."""
        ...


def fold(previous: Record | None, event: StoredEvent) -> Record | None:
    """Return what `event` makes of a resource: a record, or None where it is gone."""
    match event.operation:
        case Operation.UPDATED:
            assert previous is not None, f"update of nothing at {event.position}"
            created_version = previous.created_version
            created_time = previous.created_time
        case Operation.CREATED:
            created_version, created_time = event.position, event.time
        case Operation.DELETED:
            assert previous is not None, f"delete of nothing at {event.position}"
            return None
        case Operation.REDACTED:
            return _redacted(previous, event)
        case _:
            assert_never(event.operation)
    return Record(
        event.key,
        event.position,
        event.commit,
        created_version,
        created_time,
        event.time,
        bytes(event.body),
        event.body_digest or event.salt,
        event.hash,
        event.schema_version,
    )


def record_of(event: StoredEvent) -> Record | None:
    """Return the whole resource that an event produced; None for a deletion.

    Events after the creation say in their metadata when that was.
    """
    if event.operation is Operation.DELETED:
        return None
    created = _decode_created(event.metadata)
    return Record(
        event.key,
        event.position,
        event.commit,
        created.created_version or event.position,
        event.time if created.created_at is None else created.created_at,
        event.time,
        bytes(event.body),
        event.body_digest or event.salt,
        event.hash,
        event.schema_version,
    )


def _redacted(previous: Record | None, event: StoredEvent) -> Record | None:
    """Return a resource without what is announced to go; its version stays."""
    announced = announcement_of(event)
    if previous is None or announced is None or announced.position != previous.version:
        return previous
    return msgspec.structs.replace(
        previous,
        body=left_by(event, previous.body, announced),
        seal=bytes.fromhex(announced.old_digest),
    )


def note_schema(newest: dict[str, int], event: StoredEvent) -> None:
    """Keep the newest schema version of each type's bodies, with one event more."""
    if event.operation in {Operation.CREATED, Operation.UPDATED}:
        type_ = event.key.partition("/")[0]
        newest[type_] = max(newest.get(type_, 1), event.schema_version)


def owner_of(body: bytes) -> str | None:
    """Return the key of the owner that a body names."""
    if body.startswith(_NO_OWNER):
        return None
    owner = _decode_owner(body).owner
    return owner.text if owner else None


def digest_term(record: Record) -> int:
    """Return what `record` adds to the state digest."""
    seal = record.seal
    digest = seal if len(seal) == DIGEST_BYTES else body_digest(seal, record.body)
    return record_term(record.key, record.version, digest)


def digest_of(records: Iterable[Record]) -> bytes:
    """Return the state digest of these resources."""
    return (sum(map(digest_term, records)) % DIGEST_MODULUS).to_bytes(DIGEST_BYTES)


class Resources:
    """All resources at one position of the log.

    Within a type they are ordered by name, then mesh. The state digest is kept up to
    date lazily: what changed since it was last asked for is counted when it is asked
    for, once however often it changed, so the commit path does not pay for it.

    `newest_schemas` are the newest schema versions that bodies of a type have had, where
    that is not 1; what is deleted counts as well.
    """

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._types: dict[str, _TypeIndex] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._digest = 0
        self._uncounted: dict[str, Record | None] = {}
        self.newest_schemas: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def get(self, key: str) -> Record | None:
        """Return the resource, or None where there is none."""
        return self._records.get(key)

    def children(self, owner: str) -> Collection[str]:
        """Return the keys of what `owner` owns, in no particular order."""
        return self._children.get(owner, {})

    def newest_schema(self, type_: str) -> int:
        """Return the newest schema version of the type's bodies so far; 1 without any."""
        return self.newest_schemas.get(type_, 1)

    def of_type(self, type_: str) -> Iterator[Record]:
        """Yield the resources of one type, by name, then mesh."""
        index = self._types.get(type_)
        if index is not None:
            records = self._records
            for name, mesh in index.ordered():
                yield records[f"{type_}/{mesh}/{name}"]

    @property
    def types(self) -> list[str]:
        """The types that have resources, sorted."""
        return sorted(type_ for type_, index in self._types.items() if index.names)

    def digest(self) -> bytes:
        """Return the state digest: equal for equal states, however they came about."""
        total = self._digest
        for key, counted in self._uncounted.items():
            if counted is not None:
                total -= digest_term(counted)
            record = self._records.get(key)
            if record is not None:
                total += digest_term(record)
        self._uncounted.clear()
        self._digest = total % DIGEST_MODULUS
        return self._digest.to_bytes(DIGEST_BYTES)

    def restore(self, records: Iterable[Record], *, digest: bytes) -> None:
        """Become what these records say; nothing has been taken in before."""
        assert not self._records, "only an empty state is restored"
        for record in records:
            self._records[record.key] = record
            self._add(record)
        self._digest = int.from_bytes(digest)

    def apply(self, events: Iterable[StoredEvent]) -> None:
        """Take in the next events."""
        records = self._records
        get = records.get
        uncounted = self._uncounted
        for event in events:
            key = event.key
            previous = get(key)
            if event.schema_version > 1:
                note_schema(self.newest_schemas, event)
            record = fold(previous, event)
            if record is previous:
                continue
            if key not in uncounted:
                uncounted[key] = previous
            if record is None and previous is not None:
                del records[key]
                self._remove(previous)
            elif record is not None:
                records[key] = record
                if previous is None:
                    self._add(record)

    def adopt(self, overlay: Overlay) -> None:
        """Become what an overlay of this state shows; its events are in the log now."""
        for type_ in overlay.newest_schemas:
            self.newest_schemas[type_] = overlay.newest_schema(type_)
        for key, record in overlay.changed.items():
            previous = self._records.get(key)
            if record is previous:
                continue
            if key not in self._uncounted:
                self._uncounted[key] = previous
            reborn = (
                record is None
                or previous is None
                or record.created_version != previous.created_version
            )
            if reborn and previous is not None:
                del self._records[key]
                self._remove(previous)
            if record is not None:
                self._records[key] = record
                if reborn:
                    self._add(record)

    def _add(self, record: Record) -> None:
        type_, mesh, name = record.key.split("/")
        index = self._types.get(type_)
        if index is None:
            index = self._types[type_] = _TypeIndex()
        index.add(name, mesh)
        owner = owner_of(record.body)
        if owner is not None:
            self._children.setdefault(owner, {})[record.key] = None

    def _remove(self, record: Record) -> None:
        type_, mesh, name = record.key.split("/")
        self._types[type_].remove(name, mesh)
        owner = owner_of(record.body)
        if owner is not None:
            siblings = self._children[owner]
            del siblings[record.key]
            if not siblings:
                del self._children[owner]


class _TypeIndex:
    """Names and meshes of one type; sorted when first asked, kept sorted from then on.

    A replay adds and removes without asking, and so never pays for the order.
    """

    __slots__ = ("_ordered", "names")

    def __init__(self) -> None:
        self.names: dict[tuple[str, str], None] = {}
        self._ordered: list[tuple[str, str]] | None = None

    def ordered(self) -> list[tuple[str, str]]:
        if self._ordered is None:
            self._ordered = sorted(self.names)
        return self._ordered

    def add(self, name: str, mesh: str) -> None:
        self.names[name, mesh] = None
        if self._ordered is not None:
            insort(self._ordered, (name, mesh))

    def remove(self, name: str, mesh: str) -> None:
        del self.names[name, mesh]
        if self._ordered is not None:
            del self._ordered[bisect_left(self._ordered, (name, mesh))]


class _Unchanged:
    """What a key that has not changed has in place of a record."""


_UNCHANGED: Final = _Unchanged()


class Overlay:
    """A state as it will be after some events that are not in the log yet."""

    def __init__(self, base: State) -> None:
        self._base = base
        # By key, each as it is after all events; None for what is gone.
        self.changed: dict[str, Record | None] = {}
        self.newest_schemas: dict[str, int] = {}
        self._adopted: dict[str, dict[str, None]] = {}

    def rebase(self, base: State) -> None:
        """Lie on another state from now on, one that is equal to the old."""
        self._base = base

    def get(self, key: str) -> Record | None:
        """Return the resource, or None where there is none."""
        found = self.changed.get(key, _UNCHANGED)
        # A sentinel and no exception: most keys are asked for before they change.
        return self._base.get(key) if isinstance(found, _Unchanged) else found

    def newest_schema(self, type_: str) -> int:
        """Return the newest schema version of the type's bodies so far; 1 without any."""
        return max(self.newest_schemas.get(type_, 1), self._base.newest_schema(type_))

    def children(self, owner: str) -> Collection[str]:
        """Return the keys of what `owner` owns, in no particular order."""
        before = self._base.children(owner)
        if not self.changed:
            return before
        found: list[str] = []
        for key in {**dict.fromkeys(before), **self._adopted.get(owner, {})}:
            record = self.get(key)
            if record is not None and owner_of(record.body) == owner:
                found.append(key)
        return found

    def apply(self, events: Iterable[StoredEvent]) -> None:
        """Show the state as it is after `events`."""
        for event in events:
            if event.schema_version > 1:
                note_schema(self.newest_schemas, event)
            record = fold(self.get(event.key), event)
            self.changed[event.key] = record
            if record is not None and event.operation is Operation.CREATED:
                owner = owner_of(record.body)
                if owner is not None:
                    self._adopted.setdefault(owner, {})[event.key] = None
