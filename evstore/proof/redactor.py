"""Redacting: announce what goes, by an event, then take it out of what is stored.

An announcement whose second step was never reached is found by the next call for the
same resource. It announces the same again, for the salt of the first one died with its
process, and finishes it.

Snapshots that may hold what goes are dropped between the two steps: from an announcement
on, none of before it is kept any more, so a redaction that is done has left none. They
are dropped once more at the end of each call, for a projection that was folded again
before the body was replaced.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import orjson

from evstore.codec import SALT_BYTES, body_digest
from evstore.commit.changes import Redact
from evstore.errors import CompactedError, InvalidError, NotFoundError, UnavailableError
from evstore.model import Filter, Key, Operation, StoredEvent
from evstore.redaction import (
    FIELDS_MAX,
    MARKS_BYTES_MAX,
    MISSING,
    Announcement,
    announcement_of,
    covers,
    is_there,
    marks,
    marks_bytes,
    parts_of,
    redact,
    value_at,
)
from evstore.schemas import AS_STORED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from evstore.log import Log
    from evstore.schemas import Schemas

    Announce = Callable[[Sequence[Redact]], Awaitable[object]]

_TRIES: Final = 5


class Redaction(msgspec.Struct, frozen=True, kw_only=True):
    """What a redaction did.

    `fields` are the parts that are gone now, by version, with those that were gone
    before. `holding` are other versions of the resource that have an equal value at one
    of the same places still.
    """

    key: Key
    fields: dict[int, tuple[str, ...]]
    holding: list[int]


class _Plan(NamedTuple):
    """What is announced, and what is to be stored then; the digest of what is there."""

    change: Redact
    body: bytes
    salt: bytes
    before: bytes


class Redactor:
    """Redacts versions of one resource; `announce` appends the events that say so.

    `log` is the log as it is stored; what is left must be readable by `schemas`.
    """

    def __init__(
        self, log: Log, key: Key, announce: Announce, schemas: Schemas = AS_STORED
    ) -> None:
        self._log = log
        self._schemas = schemas
        self._key = key
        self._announce = announce
        self._events: dict[int, StoredEvent] = {}
        self._announcements: list[tuple[StoredEvent, Announcement]] = []

    async def redact(
        self, version: int, fields: Sequence[str], *, everywhere: bool
    ) -> Redaction:
        """Redact parts of a version; without any, all but the owner.

        `everywhere` means: and of all other versions that have an equal value there.
        """
        # First: a redaction that was announced is to be done as well.
        await self._log.check_redactor()
        await self._load()
        self._check_there([version])
        event = self._events.get(version)
        if event is None or event.operation is Operation.DELETED:
            message = f"{self._key} has no version {version}"
            raise NotFoundError(message, key=self._key)
        chosen = fields or (*parts_of(event.body), *marks(event.body))
        values = _values(event, chosen)
        wanted = {version: tuple(chosen)}
        holding = self._holding(values, besides=version)
        if everywhere:
            wanted |= holding
            holding = {}
        for _, announced in self._announcements:
            # What was announced and not done, perhaps by a process that has died; what
            # was removed by a compaction is done.
            if announced.position not in self._events:
                continue
            before = wanted.get(announced.position, ())
            wanted[announced.position] = (*before, *announced.fields)
        missing = self._missing(wanted)
        self._check_there(missing)
        touched = {version, *missing}
        await self._bring_about(wanted)
        await self._log.drop_snapshots(since=min(wanted))
        return Redaction(
            key=self._key,
            fields={each: marks(self._events[each].body) for each in sorted(touched)},
            holding=sorted(holding),
        )

    async def _load(self) -> None:
        """Read all events of the resource that there are."""
        key = self._key
        where = Filter(type=key.type, mesh=key.mesh, name=key.name)
        after = self._log.floor.position
        self._events, self._announcements = {}, []
        if after:
            for event in await self._log.latest(where=where, until=after):
                self._events[event.position] = event
        async for chunk in self._log.read(after=after, where=where):
            for event in chunk:
                announced = announcement_of(event)
                if announced is None:
                    self._events[event.position] = event
                else:
                    self._announcements.append((event, announced))

    def _check_there(self, versions: Iterable[int]) -> None:
        """Check that all of these can be redacted.

        Raises:
            CompactedError: one is part of what is certified at the floor of the log.
        """
        floor = self._log.floor.position
        old = [version for version in versions if version <= floor]
        if old:
            message = (
                f"version {min(old)} is at or below position {floor}, up to which the "
                "log was compacted: it cannot be redacted. If it is current, write "
                "another value, and compact the log beyond that"
            )
            raise CompactedError(message, oldest=floor)

    def _holding(
        self, values: dict[str, Any], *, besides: int
    ) -> dict[int, tuple[str, ...]]:
        """Return the other versions that have an equal value at one of the places."""
        found: dict[int, tuple[str, ...]] = {}
        for position, event in self._events.items():
            if position == besides or event.operation is Operation.DELETED:
                continue
            document = orjson.loads(bytes(event.body))
            equal = tuple(
                field
                for field, value in values.items()
                if _same(value_at(document, field), value)
            )
            if equal:
                found[position] = equal
        return found

    async def _bring_about(self, wanted: dict[int, tuple[str, ...]]) -> None:
        """Announce and replace until nothing of what is to go is there any more."""
        for _ in range(_TRIES):
            missing = self._missing(wanted)
            if not missing:
                return
            plans = [self._plan(*each) for each in missing.items()]
            await self._announce([plan.change for plan in plans])
            await self._log.drop_snapshots(since=min(missing))
            await self._load()
            for plan in plans:
                await self._carry_out(plan)
            await self._load()
        message = "others redact the same resource; try again"
        raise UnavailableError(message)

    def _missing(
        self, wanted: dict[int, tuple[str, ...]]
    ) -> dict[int, tuple[str, ...]]:
        """Return what is still there of what is to go."""
        missing: dict[int, tuple[str, ...]] = {}
        for position, fields in wanted.items():
            body = self._events[position].body
            there = (each for each in dict.fromkeys(fields) if is_there(body, each))
            if found := tuple(there):
                missing[position] = found
        return missing

    def _plan(self, position: int, fields: tuple[str, ...]) -> _Plan:
        event = self._events[position]
        before = body_digest(event.salt, event.body)
        if marks_bytes((*marks(event.body), *fields)) > MARKS_BYTES_MAX:
            message = (
                f"too many parts of version {position}; name what they are parts of"
            )
            raise InvalidError(message, path="fields")
        body, salt = redact(event.body, fields), os.urandom(SALT_BYTES)
        # What an upcaster cannot take would stop each instance that has it.
        left = msgspec.structs.replace(event, body=msgspec.Raw(body))
        self._schemas.current([left])
        change = Redact(
            key=self._key.text,
            position=position,
            fields=fields,
            old_digest=event.body_digest or before,
            new_digest=body_digest(salt, body),
        )
        return _Plan(change, body, salt, before)

    async def _carry_out(self, plan: _Plan) -> None:
        """Replace what is stored; where somebody else was first, it is looked at again."""
        wanted = plan.change.new_digest.hex()
        for event, announced in self._announcements:
            if announced.new_digest == wanted:
                await self._log.redact(
                    announced.position,
                    body=plan.body,
                    salt=plan.salt,
                    before=plan.before,
                    announced=event.position,
                )


def _values(event: StoredEvent, fields: Sequence[str]) -> dict[str, Any]:
    """Return what stands at the places that are to be redacted and are not yet.

    Raises:
        InvalidError: there is nothing at one of them, or there are too many.
    """
    if len(fields) > FIELDS_MAX:
        message = f"{len(fields)} are too many, {FIELDS_MAX} at a time are allowed"
        raise InvalidError(message, path="fields")
    document = orjson.loads(bytes(event.body))
    values: dict[str, Any] = {}
    for field in fields:
        if covers(event.body, (field,)):
            continue
        value = value_at(document, field)
        if value is MISSING:
            message = f"version {event.position} has nothing at {field}"
            raise InvalidError(message, path="fields")
        values[field] = value
    return values


def _same(one: object, other: object) -> bool:
    """Whether two values are the same JSON: 1 is not 1.0, nor true."""
    if one is MISSING:
        return False
    sort = orjson.OPT_SORT_KEYS
    return orjson.dumps(one, option=sort) == orjson.dumps(other, option=sort)
