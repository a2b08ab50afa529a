"""What callers give, checked and encoded at the call, before anything is awaited.

After this room nothing refers to a caller's objects: changing a dict after the call
changes nothing. Every error names the argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from evstore.codec import canonical, check_text
from evstore.errors import InvalidError
from evstore.model import LEASE_TYPE, Filter, Key, Operation, Resource
from evstore.past.history import microseconds
from evstore.schemas import check_free, check_type

from .changes import (
    Change,
    Command,
    Create,
    Delete,
    Owner,
    Precondition,
    Update,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

NAME_CHARACTERS_MAX: Final = 253
MESH_CHARACTERS_MAX: Final = 63
SPEC_BYTES_MAX: Final = 1024 * 1024
LABELS_BYTES_MAX: Final = 64 * 1024
ACTOR_CHARACTERS_MAX: Final = 253
REASON_CHARACTERS_MAX: Final = 4096
REQUEST_ID_CHARACTERS_MAX: Final = 253

_SEGMENT: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_NAME: Final = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")

Typed = str | type[Any]
Spec = dict[str, Any] | msgspec.Struct


class Arguments:
    """Checks and encodes the arguments of the store's methods.

    Args:
        types: struct types; the name of each is the resource type whose specs it
            describes.
        actor: who acts where a call names nobody.
    """

    def __init__(self, types: Iterable[type[Any]] = (), *, actor: str = "") -> None:
        self.types: dict[str, type[Any]] = {each.__name__: each for each in types}
        self._actor = actor
        for name in self.types:
            check_type(name, "types")
            check_free(name, "types")

    def type_name(self, type_: Typed, *, reserved: bool = False) -> str:
        """Return the name of a type that was given as a name or as a struct type.

        `reserved` lets the store's own types through as well.
        """
        if isinstance(type_, str):
            if not reserved:
                check_free(type_, "type")
            check_type(type_, "type")
            return type_
        name = getattr(type_, "__name__", repr(type_))
        if self.types.get(name) is not type_:
            message = f"{name} is not among the types that were given to open"
            raise InvalidError(message, path="type")
        return name

    def key(self, type_: Typed, name: str, mesh: str) -> Key:
        """Return the key of a resource."""
        key = Key(type=self.type_name(type_), mesh=mesh, name=name)
        check_key(key)
        return key

    def lease_key(self, name: str) -> Key:
        """Return the key of the lease that stands for a leadership."""
        _check_pattern(name, _NAME, NAME_CHARACTERS_MAX, "name")
        return Key(type=LEASE_TYPE, name=name)

    def where(  # noqa: PLR0913 - what a filter is made of
        self,
        type_: Typed | None,
        mesh: str | None,
        name: str | None = None,
        actor: str | None = None,
        *,
        operation: str | None = None,
        reason: str | None = None,
        reserved: bool = False,
    ) -> Filter:
        """Return a filter; None means any. `reserved` as in `type_name`."""
        if mesh is not None:
            _check_mesh(mesh)
        if name is not None:
            _check_pattern(name, _NAME, NAME_CHARACTERS_MAX, "name")
        if actor is not None:
            check_text(actor, "actor", characters_max=ACTOR_CHARACTERS_MAX)
        return Filter(
            type=None if type_ is None else self.type_name(type_, reserved=reserved),
            mesh=mesh,
            name=name,
            actor=actor,
            operation=None if operation is None else _operation(operation),
            reason=None if reason is None else check_text(reason, "reason"),
        )

    def create(  # noqa: PLR0913 - what a resource is made of
        self,
        type_: Typed,
        name: str,
        *,
        mesh: str = "",
        spec: Spec,
        status: dict[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        owner: Resource[Any] | Key | None = None,
    ) -> Create:
        """Encode the creation of a resource."""
        key = self.key(type_, name, mesh)
        return Create(
            key=key.text,
            spec=self._spec(key.type, spec),
            status=_status(status),
            labels=_labels({} if labels is None else labels),
            owner=_owner(owner),
        )

    def update(
        self,
        target: Resource[Any] | Key,
        *,
        spec: object | None = None,
        status: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET,
        labels: Mapping[str, str] | None = None,
    ) -> Update:
        """Encode an update: of exactly this resource, or of whatever has this key."""
        if isinstance(target, Resource):
            key = target.key
            check_free(key.type, "target")
            precondition = Precondition(target.version, target.record.hash)
        else:
            key, precondition = _expect_key(target, "target"), None
        return Update(
            key=key.text,
            precondition=precondition,
            spec=None if spec is None else self._spec(key.type, spec),
            status=None if status is msgspec.UNSET else _status(status),
            labels=None if labels is None else _labels(labels),
        )

    def delete(
        self,
        type_: Typed,
        name: str,
        *,
        mesh: str = "",
        version: int | Resource[Any] | None = None,
    ) -> Delete:
        """Encode a deletion; a version given as a resource names that very log."""
        precondition = None
        if isinstance(version, Resource):
            precondition = Precondition(version.version, version.record.hash)
        elif version is not None:
            precondition = Precondition(_expect_integer(version, "version"))
        key = self.key(type_, name, mesh)
        return Delete(key=key.text, precondition=precondition)

    def command(
        self,
        changes: Sequence[Change],
        *,
        actor: str | None,
        reason: str,
        request_id: str | None,
        recorded_at: datetime | None = None,
        asked: object = None,
    ) -> Command:
        """Return the command that makes all of these changes, or none.

        `asked` is what makes a repeated request the same, where it is not the changes.
        """
        digest = ""
        if request_id is not None:
            check_text(
                request_id, "request_id", characters_max=REQUEST_ID_CHARACTERS_MAX
            )
            if not request_id:
                raise InvalidError("must not be empty", path="request_id")
            content = msgspec.msgpack.encode(asked or changes)
            digest = sha256(content).hexdigest()[:32]
        return Command(
            changes=tuple(changes),
            actor=check_text(
                self._actor if actor is None else actor,
                "actor",
                characters_max=ACTOR_CHARACTERS_MAX,
            ),
            reason=check_text(reason, "reason", characters_max=REASON_CHARACTERS_MAX),
            request_id=request_id,
            request_digest=digest,
            time=None
            if recorded_at is None
            else microseconds(recorded_at, "recorded_at"),
        )

    def upsert(
        self,
        key: Key,
        labels: Mapping[str, str] | None,
        owner: Resource[Any] | Key | None,
    ) -> object:
        """Return what makes two upserts the same request, whatever they find."""
        owned_by = _owner(owner)
        return (
            "upsert",
            key.text,
            None if labels is None else _labels(labels),
            None if owned_by is None else owned_by.key,
        )

    def _spec(self, type_: str, spec: object) -> bytes:
        expected = self.types.get(type_)
        if isinstance(spec, msgspec.Struct):
            if expected is None or not isinstance(spec, expected):
                message = f"a {type(spec).__name__} is not a spec of the type {type_}"
                raise InvalidError(message, path="spec")
        elif not isinstance(spec, dict):
            message = f"must be an object, not {type(spec).__name__}"
            raise InvalidError(message, path="spec")
        text = canonical(cast("object", spec), "spec")
        if not text.startswith(b"{"):  # a struct type that is written as an array
            raise InvalidError("must be an object, not an array", path="spec")
        if expected is not None:
            try:
                msgspec.json.decode(text, type=expected)
            except msgspec.ValidationError as error:
                # msgspec ends its message with the path: `... - at `$.port``
                raise InvalidError(str(error).replace("$", "spec")) from error
        return _bounded(text, "spec", SPEC_BYTES_MAX)


def _operation(text: str) -> Operation:
    try:
        return Operation(text)
    except ValueError:
        names = ", ".join(each.value for each in Operation)
        message = f"{text!r} is not allowed; use {names}"
        raise InvalidError(message, path="operation") from None


def check_key(key: Key) -> None:
    """Check type, mesh and name.

    Raises:
        InvalidError: one of them does not fit its pattern, or is too long.
    """
    check_type(key.type, "type")
    _check_mesh(key.mesh)
    _check_pattern(key.name, _NAME, NAME_CHARACTERS_MAX, "name")


def _check_mesh(mesh: str) -> None:
    if mesh != "":
        _check_pattern(mesh, _NAME, MESH_CHARACTERS_MAX, "mesh")


def _check_pattern(
    text: str, pattern: re.Pattern[str], characters_max: int, path: str
) -> None:
    check_text(text, path, characters_max=characters_max)
    if not pattern.fullmatch(text):
        rule = "lower case letters, digits, '-' and '.', as in a DNS name"
        raise InvalidError(f"{text!r} is not allowed; use {rule}", path=path)


def _bounded(text: bytes, path: str, bytes_max: int) -> bytes:
    if len(text) > bytes_max:
        message = f"has {len(text):,} bytes as JSON, at most {bytes_max:,} are allowed"
        raise InvalidError(message, path=path)
    return text


def _status(status: object) -> bytes:
    if status is not None and not isinstance(status, dict):
        message = f"must be an object or None, not {type(status).__name__}"
        raise InvalidError(message, path="status")
    text = canonical(cast("object", status), "status")
    return _bounded(text, "status", SPEC_BYTES_MAX)


def _labels(labels: object) -> bytes:
    plain = check_labels(labels)
    return _bounded(canonical(plain, "labels"), "labels", LABELS_BYTES_MAX)


def check_labels(labels: object) -> dict[str, str]:
    """Return labels as a dict of one's own.

    Raises:
        InvalidError: they are no mapping of strings to strings.
    """
    if not isinstance(labels, Mapping):
        message = f"must be an object, not {type(labels).__name__}"
        raise InvalidError(message, path="labels")
    plain = dict(cast("Mapping[str, str]", labels))
    for name, value in cast("dict[str, object]", plain).items():
        if not isinstance(value, str):
            message = f"must be a string, not {type(value).__name__}"
            raise InvalidError(message, path=f"labels.{name}")
    return plain


def check_keys(keys: object) -> frozenset[Key]:
    """Return keys as a set of one's own.

    Raises:
        InvalidError: one of them is no key.
    """
    if not isinstance(keys, Iterable):
        message = f"must be several keys, not {type(keys).__name__}"
        raise InvalidError(message, path="keys")
    several = cast("Iterable[object]", keys)
    return frozenset(_expect_key(each, "keys") for each in several)


def _expect_key(value: object, path: str) -> Key:
    if not isinstance(value, Key):
        message = f"must be a Resource or a Key, not {type(value).__name__}"
        raise InvalidError(message, path=path)
    check_key(value)
    check_free(value.type, path)
    return value


def check_position(value: object, path: str) -> int:
    """Return a position, a size or a count.

    Raises:
        InvalidError: it is no integer, or negative.
    """
    number = _expect_integer(value, path)
    if number < 0:
        raise InvalidError(f"must not be negative, not {number}", path=path)
    return number


def _expect_integer(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        message = f"must be an integer, not {type(value).__name__}"
        raise InvalidError(message, path=path)
    return value


def _owner(owner: Resource[Any] | Key | None) -> Owner | None:
    if owner is None:
        return None
    if isinstance(owner, Resource):
        record = owner.record
        check_free(owner.type, "owner")
        return Owner(record.key, record.created_version, record.version, record.hash)
    return Owner(_expect_key(owner, "owner").text)
