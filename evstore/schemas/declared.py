"""What a program declares: types, schema versions, upcasters. And what that does."""

from __future__ import annotations

import inspect
from functools import cached_property
from hashlib import sha256
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import orjson

from evstore.codec import body_digest
from evstore.errors import InvalidError, SchemaError
from evstore.model import Operation

from .fingerprint import fingerprint
from .names import check_free, check_type
from .upcasters import Upcaster, step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from evstore.model import StoredEvent

VERSION_MAX: Final = 2**31 - 1

_BODILESS: Final = (Operation.DELETED, Operation.REDACTED)


class Schema(msgspec.Struct, frozen=True):
    """The schema version of a type, for `open(..., types=[...])`.

    `type` is a name, or a `msgspec.Struct` type, which then also describes the specs.
    `version` is what this program writes. `readable` is the newest version that it may
    still read, `version` where it is None: such an event is handed out as it is stored,
    and its resource cannot be updated, only deleted.
    """

    type: str | type[Any]
    version: int = 1
    readable: int | None = None

    @property
    def name(self) -> str:
        """The name of the type."""
        return self.type if isinstance(self.type, str) else _name_of(self.type)


class Schemas:
    """The types that a program declares, and what becomes of older events of them.

    Args:
        types: struct types, and schemas.
        upcasters: for each type with a schema version above 1, one from each version
            below.

    Raises:
        InvalidError: a type or an upcaster is declared wrongly, or twice, or a link of a
            chain is missing; the message names it.
    """

    as_stored = False

    def __init__(
        self,
        types: Iterable[type[Any] | Schema] = (),
        upcasters: Iterable[Upcaster] = (),
    ) -> None:
        self.structs: dict[str, type[Any]] = {}
        self._chains = _chains(upcasters)
        self._versions = {name: len(chain) + 1 for name, chain in self._chains.items()}
        self._readable: dict[str, int] = {}
        declared: dict[str, Schema] = {}
        for each in types:
            self._add_struct(each)
            if isinstance(each, Schema):
                _check_schema(each)
                if each.name in declared:
                    message = f"{each.name} has two schemas"
                    raise InvalidError(message, path="types")
                declared[each.name] = each
        for name, schema in declared.items():
            _check_chain(schema, len(self._chains.get(name, ())))
            self._versions[name] = schema.version
            self._readable[name] = schema.readable or schema.version
        # Where nothing ever is to be done but to refuse: one look at each event is it.
        self._plain = not self._chains and not any(
            readable > 1 for readable in self._readable.values()
        )

    def _add_struct(self, declared: type[Any] | Schema) -> None:
        struct = declared.type if isinstance(declared, Schema) else declared
        if isinstance(struct, str):
            return
        if not inspect.isclass(struct):
            message = f"{declared!r} is neither a struct type nor a Schema"
            raise InvalidError(message, path="types")
        name = _name_of(struct)
        check_free(name, "types")
        check_type(name, "types")
        if self.structs.setdefault(name, struct) is not struct:
            raise InvalidError(f"{name} is declared twice", path="types")

    @property
    def upcasting(self) -> bool:
        """Whether there are upcasters."""
        return bool(self._chains)

    def version_of(self, type_: str) -> int:
        """Return the schema version that this program writes of a type."""
        return self._versions.get(type_, 1)

    def shape_of(self, key: str, stored: int) -> int:
        """Return the schema version that a body is handed out in, by the stored one."""
        return max(stored, self._versions.get(_type_of(key), 1))

    def shape_of_new(self, key: str, newest: int) -> int:
        """Return the schema version of a resource that is created.

        `newest` is that of the newest event of its type in the log.
        """
        del newest  # what this program writes does not depend on what others wrote
        return self.version_of(_type_of(key))

    def check_writable(self, key: str, shape: int) -> None:
        """Check that bodies of this schema version can be written.

        Raises:
            SchemaError: it is newer than what this program writes.
        """
        type_ = _type_of(key)
        version = self.version_of(type_)
        if shape > version:
            message = (
                f"{key} is in schema version {shape} of {type_}, and this program writes"
                f" {version}: an update would lose what is new in it; use a program that"
                f" writes {shape}"
            )
            raise SchemaError(message)

    def can_read(self, newest: Mapping[str, int]) -> bool:
        """Whether a log can be read whose newest events have these schema versions.

        By type, where that is not 1. A state that another program has folded may be
        of events that this one would have refused.
        """
        return all(
            version <= self._readable.get(type_, self.version_of(type_))
            for type_, version in newest.items()
        )

    def is_old(self, event: StoredEvent) -> bool:
        """Whether an event's body is handed out in another shape than it is stored in."""
        chain = self._chains.get(_type_of(event.key))
        return (
            chain is not None
            and event.schema_version <= len(chain)
            and event.operation not in _BODILESS
        )

    def current(self, events: list[StoredEvent]) -> list[StoredEvent]:
        """Return events with their bodies in the current shape.

        An event whose body changes has the digest of the stored one in `body_digest`, so
        that state digests are about what is stored. Deletions and announcements of
        redactions have no body, and pass.

        Raises:
            SchemaError: an event is newer than what is readable, or an upcaster failed.
                The first of them is named, also by `position`.
        """
        if self._plain and all(map(_is_first, events)):
            return events
        found: list[StoredEvent] | None = None
        versions = self._versions
        for index, event in enumerate(events):
            version = versions.get(event.key.partition("/")[0], 1)
            if event.schema_version == version or event.operation in _BODILESS:
                continue
            if not 1 <= event.schema_version < version:
                self._check_readable(event, version)
                continue
            if found is None:
                found = list(events)
            found[index] = self._upcast(event)
        return events if found is None else found

    def body(self, event: StoredEvent) -> bytes:
        """Return the body of one event in the current shape.

        Raises:
            SchemaError: as of `current`.
        """
        return bytes(self.current([event])[0].body)

    def _check_readable(self, event: StoredEvent, version: int) -> None:
        type_ = _type_of(event.key)
        readable = self._readable.get(type_, version)
        if not 1 <= event.schema_version <= readable:
            reads = f"reads {type_} up to {readable}"
            message = (
                f"the event at position {event.position} is in schema version"
                f" {event.schema_version} of {type_}, and this program {reads}; use one"
                f" that knows {event.schema_version}"
            )
            raise SchemaError(message, position=event.position)

    def _upcast(self, event: StoredEvent) -> StoredEvent:
        chain = self._chains[_type_of(event.key)]
        body: dict[str, Any] = orjson.loads(bytes(event.body))
        fixed: dict[str, bytes] = {
            name: orjson.dumps(body.pop(name), option=orjson.OPT_SORT_KEYS)
            for name in ("owner", "redacted")
            if name in body
        }
        gone: Sequence[str] = orjson.loads(fixed.get("redacted", b"[]"))
        text = b""
        for link in chain[event.schema_version - 1 :]:
            if text:
                # Each gets what the one before it would have stored, and a copy.
                body = orjson.loads(text)
                body.pop("owner", None)
                body.pop("redacted", None)
            text = step(link, body, fixed, gone, event.position)
        return msgspec.structs.replace(
            event,
            body=msgspec.Raw(text),
            body_digest=event.body_digest or body_digest(event.salt, event.body),
        )

    @cached_property
    def fingerprint(self) -> str:
        """What tells these upcasters from others, in hex; "" where there are none."""
        if not self._chains:
            return ""
        digest = sha256()
        for name in sorted(self._chains):
            for link in self._chains[name]:
                parts = (link.type, link.from_version, link.revision)
                digest.update(repr(parts).encode())
                digest.update(fingerprint(link.function))
        return digest.hexdigest()[:32]


def _is_first(event: StoredEvent) -> bool:
    return event.schema_version == 1


def _type_of(key: str) -> str:
    return key.partition("/")[0]


def _name_of(struct: type[Any]) -> str:
    return getattr(struct, "__name__", repr(struct))


def _is_version(value: object) -> bool:
    return (
        isinstance(value, int)
        and not isinstance(value, bool)
        and 1 <= value <= VERSION_MAX
    )


def _check_schema(schema: Schema) -> None:
    check_free(schema.name, "types")
    check_type(schema.name, "types")
    for field, value in (("version", schema.version), ("readable", schema.readable)):
        if not (_is_version(value) or (field == "readable" and value is None)):
            message = (
                f"{field} of {schema.name} must be a number from 1 on, not {value!r}"
            )
            raise InvalidError(message, path="types")
    if schema.readable is not None and schema.readable < schema.version:
        message = (
            f"{schema.name} is readable up to {schema.readable}, and its version is"
            f" {schema.version}: what is written must be readable"
        )
        raise InvalidError(message, path="types")


def _chains(upcasters: Iterable[Upcaster]) -> dict[str, list[Upcaster]]:
    """Return the upcasters of each type, from schema version 1 on."""
    links: dict[str, dict[int, Upcaster]] = {}
    for each in cast("Iterable[object]", upcasters):
        if not isinstance(each, Upcaster):
            message = f"{each!r} is no upcaster; make it one with @evstore.upcaster"
            raise InvalidError(message, path="upcasters")
        _check_upcaster(each)
        chain = links.setdefault(each.type, {})
        if each.from_version in chain:
            raise InvalidError(f"there are two of {each}", path="upcasters")
        chain[each.from_version] = each
    for name, chain in links.items():
        _check_whole(name, chain, max(chain))
    return {name: [chain[n] for n in sorted(chain)] for name, chain in links.items()}


def _check_upcaster(link: Upcaster) -> None:
    check_free(link.type, "upcasters")
    check_type(link.type, "upcasters")
    for field in ("from_version", "revision"):
        if not _is_version(getattr(link, field)):
            value = getattr(link, field)
            message = f"{field} of one of {link.type} must be a number from 1 on"
            raise InvalidError(f"{message}, not {value!r}", path="upcasters")
    function = link.function
    if not isinstance(function, FunctionType) or inspect.iscoroutinefunction(function):
        # Only of these it is known when they change.
        message = f"{link} must be a plain function, not {type(function).__name__}"
        raise InvalidError(message, path="upcasters")


def _check_whole(name: str, chain: Iterable[int], last: int) -> None:
    missing = [str(n) for n in range(1, last + 1) if n not in set(chain)]
    if missing:
        message = f"{name} has no upcaster from schema version {', '.join(missing)}"
        raise InvalidError(message, path="upcasters")


def _check_chain(schema: Schema, links: int) -> None:
    if links >= schema.version:
        message = (
            f"{schema.name} has an upcaster from schema version {links}, and its version"
            f" is {schema.version}"
        )
        raise InvalidError(message, path="upcasters")
    _check_whole(schema.name, range(1, links + 1), schema.version - 1)
