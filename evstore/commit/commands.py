"""The rules: what a command makes of a state, as events or as an error. Pure.

Within one command, preconditions look at the state before it, and each operation at
what the operations before it have left. Nothing here knows of positions, time or I/O:
`decide` gives drafts, `stamp.py` makes them events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

import msgspec
import orjson

from evstore.codec import body_text
from evstore.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidError,
    NotFoundError,
)
from evstore.folds.resources import owner_of
from evstore.model import (
    Key,
    Operation,
)
from evstore.redaction import keep_marks
from evstore.schemas import AS_STORED

from .changes import (
    NULL,
    Command as Command,  # noqa: PLC0414 - a noun of this room too
    Create,
    Delete,
    Owner,
    Precondition,
    Redact,
    Update,
)

if TYPE_CHECKING:
    from evstore.folds.requests import RequestOverlay
    from evstore.folds.resources import State
    from evstore.schemas import Schemas

TRANSACTION_EVENTS_MAX: Final = 100_000
TRANSACTION_BYTES_MAX: Final = 64 * 1024 * 1024


class Draft(msgspec.Struct, frozen=True, gc=False):
    """An event without a place in the log."""

    operation: Operation
    key: str
    body: bytes
    cause: str | None = None
    redaction: Redact | None = None
    schema_version: int = 1


class Decided(msgspec.Struct, frozen=True):
    """The command is to be appended as these events; none for one without effect."""

    drafts: list[Draft]


class Repeated(msgspec.Struct, frozen=True):
    """The command is in the log already, under its request id."""

    commit: int


def decide(
    command: Command,
    state: State,
    requests: RequestOverlay,
    schemas: Schemas = AS_STORED,
) -> Decided | Repeated:
    """Decide a command against the state that its events will follow.

    `schemas` tell the shape of bodies: of those in the state, and of new ones.

    Raises:
        AlreadyExistsError: a resource to be created exists.
        ConflictError: a resource is not at the expected or the required version, or the
            request id was used for another command.
        NotFoundError: a resource or an owner does not exist.
        InvalidError: the command makes too many events or bytes.
        SchemaError: a resource to be updated is in a newer shape than we write.
    """
    # Before what is required: what was applied once is answered so for ever.
    repeated = _repeated(command, requests)
    if repeated is not None:
        return repeated
    working = _Working(state, command, schemas)
    for key, precondition in command.required:
        working.require(key, precondition)
    for change in command.changes:
        match change:
            case Create():
                working.create(change)
            case Update():
                working.update(change)
            case Delete():
                working.delete(change)
            case Redact():
                working.redact(change)
            case _:
                assert_never(change)
    return Decided(working.drafts)


def _repeated(command: Command, requests: RequestOverlay) -> Repeated | None:
    if command.request_id is None:
        return None
    request = requests.get(command.request_id)
    if request is None:
        return None
    if request.digest == command.request_digest:
        return Repeated(request.commit)
    message = f"request id {command.request_id!r} was used for another command"
    raise ConflictError(message)


class _RawBody(msgspec.Struct):
    labels: msgspec.Raw
    owner: msgspec.Raw
    spec: msgspec.Raw
    status: msgspec.Raw


_split = msgspec.json.Decoder(_RawBody).decode


class _Working:
    """A state in the middle of a command: what its changes so far have left."""

    def __init__(self, state: State, command: Command, schemas: Schemas) -> None:
        self._state = state
        self._command = command
        self._schemas = schemas
        self._wanted_shapes = dict(command.shapes)
        self._shapes: dict[str, int] = {}
        self._overhead = 0
        self._bodies: dict[str, bytes | None] = {}
        self._created: set[str] = set()
        self._adopted: dict[str, set[str]] = {}
        self._size = 0
        self.drafts: list[Draft] = []

    def create(self, change: Create) -> None:
        key = change.key
        if self._body(key) is not None:
            record = self._state.get(key)
            raise AlreadyExistsError(
                key=Key.from_text(key), version=record.version if record else None
            )
        owner = NULL
        if change.owner is not None:
            owner = self._owner_text(change.owner)
            self._adopted.setdefault(change.owner.key, set()).add(key)
        self._created.add(key)
        body = body_text(change.labels, owner, change.spec, change.status)
        self._shapes[key] = self._wanted_shapes.get(key) or self._shape_of_new(key)
        self._draft(Operation.CREATED, key, body)

    def update(self, change: Update) -> None:
        key = change.key
        self.require(key, change.precondition)
        before = self._body(key)
        if before is None:
            raise self._absent(key, change.precondition)
        shape = self._shape(key)
        self._schemas.check_writable(key, shape)
        parts = _split(before)
        body = body_text(
            bytes(parts.labels) if change.labels is None else change.labels,
            bytes(parts.owner),
            bytes(parts.spec) if change.spec is None else change.spec,
            bytes(parts.status) if change.status is None else change.status,
        )
        body = keep_marks(before, body)
        wanted = self._wanted_shapes.get(key, shape)
        if body != before or wanted != shape:
            self._shapes[key] = wanted
            self._draft(Operation.UPDATED, key, body)

    def delete(self, change: Delete) -> None:
        key = change.key
        self.require(key, change.precondition)
        if self._body(key) is None:
            raise self._absent(key, change.precondition)
        family = self._family(key)
        if change.alone and len(family) > 1:
            owner, child = Key.from_text(key), Key.from_text(family[0])
            raise ConflictError(f"{owner} owns {child} by now", key=owner)
        for victim in family:
            cause = None if victim == key else key
            self._draft(Operation.DELETED, victim, b"", cause)

    def redact(self, change: Redact) -> None:
        self._size += change.size + len(change.key)
        draft = Draft(
            Operation.REDACTED,
            change.key,
            _GONE,
            redaction=change,
            schema_version=self._shape(change.key),
        )
        self.drafts.append(draft)
        self._check_bounds()

    def _body(self, key: str) -> bytes | None:
        if key in self._bodies:
            return self._bodies[key]
        record = self._state.get(key)
        return None if record is None else record.body

    def _shape(self, key: str) -> int:
        """Return the schema version that the body of a resource is in."""
        if key in self._shapes:
            return self._shapes[key]
        record = self._state.get(key)
        if record is None:
            return self._shape_of_new(key)
        return self._schemas.shape_of(key, record.schema_version)

    def _shape_of_new(self, key: str) -> int:
        newest = self._state.newest_schema(key.partition("/")[0])
        return self._schemas.shape_of_new(key, newest)

    def require(self, key: str, precondition: Precondition | None) -> None:
        if precondition is None:
            return
        record = self._state.get(key)
        if not precondition.holds(record):
            raise ConflictError(
                key=Key.from_text(key),
                expected=precondition.version,
                actual=record.version if record else None,
            )

    def _absent(
        self, key: str, precondition: Precondition | None
    ) -> NotFoundError | ConflictError:
        if precondition is None:
            return NotFoundError(key=Key.from_text(key))
        # It was there before this command: an earlier change of it deleted it.
        return ConflictError(key=Key.from_text(key), expected=precondition.version)

    def _owner_text(self, owner: Owner) -> bytes:
        key = Key.from_text(owner.key)
        record = self._state.get(owner.key)
        same = owner.created_version is None or (
            record is not None
            and owner.is_incarnation_of(record)
            and owner.key not in self._created
        )
        if self._body(owner.key) is None or not same:
            raise NotFoundError(f"owner {key} not found", key=key)
        return orjson.dumps({"mesh": key.mesh, "name": key.name, "type": key.type})

    def _family(self, root: str) -> list[str]:
        """Return what goes with `root`: descendants first, each level by key."""
        family: list[str] = []
        # Depth first without recursion: chains may be longer than Python's stack.
        stack = [(root, False)]
        while stack:
            key, expanded = stack.pop()
            if expanded:
                family.append(key)
                continue
            if len(family) + len(stack) > TRANSACTION_EVENTS_MAX:
                raise _too_many_events()
            stack.append((key, True))
            children = sorted(self._children(key), reverse=True)
            stack.extend((child, False) for child in children)
        return family

    def _children(self, owner: str) -> list[str]:
        found = [key for key in self._state.children(owner) if key not in self._bodies]
        for key in {*self._state.children(owner), *self._adopted.get(owner, ())}:
            body = self._bodies.get(key)
            if body is not None and owner_of(body) == owner:
                found.append(key)
        return found

    def _draft(
        self, operation: Operation, key: str, body: bytes, cause: str | None = None
    ) -> None:
        deleted = operation is Operation.DELETED
        self._bodies[key] = None if deleted else body
        self._size += len(body) + len(key)
        shape = self._shape(key)
        self.drafts.append(
            Draft(operation, key, body or _GONE, cause, schema_version=shape)
        )
        # One event is never too much: its parts are bounded.
        if len(self.drafts) > 1:
            self._check_bounds()

    def _check_bounds(self) -> None:
        count = len(self.drafts)
        self._overhead = self._overhead or _overhead(self._command)
        if count > TRANSACTION_EVENTS_MAX:
            raise _too_many_events()
        if self._size + count * self._overhead > TRANSACTION_BYTES_MAX:
            message = f"a transaction may have {TRANSACTION_BYTES_MAX} bytes at most"
            raise InvalidError(f"{message}; split it into several")


_GONE: Final = body_text(b"{}", NULL, NULL, NULL)


def _overhead(command: Command) -> int:
    """Return the bytes that every event of a command has beside key and body."""
    texts = (command.actor, command.reason, command.request_id, command.request_digest)
    return len(orjson.dumps(texts))


def _too_many_events() -> InvalidError:
    message = f"a transaction may have {TRANSACTION_EVENTS_MAX} events at most"
    return InvalidError(f"{message}; split it into several")
