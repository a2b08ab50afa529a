"""Where two states of one log differ first, and the event that should have set that."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import msgspec

from evstore.codec import DIGEST_MODULUS
from evstore.folds.resources import digest_term
from evstore.model import ANY, Filter
from evstore.past.history import record_of
from evstore.values.diff import differences, same

from .folding import custom_of

if TYPE_CHECKING:
    from evstore.folds.custom import Custom
    from evstore.folds.requests import Requests
    from evstore.folds.resources import Resources
    from evstore.log import Log
    from evstore.model import StoredEvent
    from evstore.snapshots.start import Origin

    # What differs, and the position of the event that should have set it.
    Found = tuple[str, int | None]

_LOOKED_UP_MAX = 500


async def differing_resource(
    log: Log, right: Resources, other: Resources, *, until: int
) -> Found | None:
    """Return the first key, by type, mesh and name, whose resource is another one."""
    keys = {each.key for each in right} | {each.key for each in other}
    wrong = [key for key in keys if right.get(key) != other.get(key)]
    if not wrong:
        return None
    key = min(wrong, key=lambda text: text.split("/"))
    type_, mesh, name = key.split("/")
    where = Filter(type=type_, mesh=mesh, name=name)
    events = await log.latest(where=where, until=until)
    return key, events[0].position if events else None


def differing_request(right: Requests, other: Requests) -> Found | None:
    """Return the first request id of which something else is remembered."""
    mine, theirs = dict(right.items()), dict(other.items())
    for id_ in mine | theirs:
        if mine.get(id_) != theirs.get(id_):
            known = mine.get(id_)
            return f"request {id_}", None if known is None else known.commit
    return None


async def event_missed(
    log: Log, position: int, *, right: bytes, told: bytes
) -> StoredEvent | None:
    """Return the one event without which the resources have the digest that was told.

    A digest is a sum over the resources, so it tells one that is as it was before its
    last event. None where more than that differs, or something else.
    """
    off = (int.from_bytes(told) - int.from_bytes(right)) % DIGEST_MODULUS
    events = await log.latest(where=ANY, until=position)
    for first in range(0, len(events), _LOOKED_UP_MAX):
        some = events[first : first + _LOOKED_UP_MAX]
        before = await log.previous([(each.key, each.position) for each in some])
        for event, previous in zip(some, before, strict=True):
            if (_term(previous) - _term(event) - off) % DIGEST_MODULUS == 0:
                return event
    return None


def _term(event: StoredEvent | None) -> int:
    """Return what a resource adds to the digest, by its last event."""
    record = None if event is None else record_of(event)
    return 0 if record is None else digest_term(record)


async def differing_member(
    origin: Origin, right: Custom, other: Custom
) -> Found | None:
    """Return the first member of a state of one's own that is another one.

    The event is the last that changes it in a replay. Of what is in a list it is the
    last that changes the list: elements have no names. None for the event where a replay
    never has that member.
    """
    mine, theirs = right.freeze(), other.freeze()
    if mine == theirs:
        return None
    old, new = plain(theirs), plain(mine)
    first = next(differences(old, new), None)
    if first is None:
        return "", None  # other bytes for the same JSON
    names = max((_enclosing(first.path, each) for each in (new, old)), key=len)
    event = await _last_change(origin, right.name, names, until=right.head.position)
    return first.path, event


def plain(payload: bytes) -> Any:
    """Return a frozen state as JSON has it: dicts, lists, texts, numbers."""
    found = msgspec.msgpack.decode(payload)
    return msgspec.json.decode(msgspec.json.encode(found, enc_hook=repr))


async def _last_change(
    origin: Origin, name: str, names: list[str], *, until: int
) -> int | None:
    """Return the last event whose fold changes a member of a state, in a replay.

    The replay is looked at between chunks first, then event by event in the last chunk
    that has changed the member.
    """
    fold = custom_of(origin.fresh(), name)
    before = fold.freeze()
    last: tuple[bytes, list[StoredEvent]] | None = None
    place = fold.head
    begun = place
    events = origin.log.replay(after=0, until=until)
    async with aclosing(events) as chunks:
        async for chunk in chunks:
            place = fold.head
            fold.apply(chunk)
            if not fold.running:
                return None
            after = fold.freeze()
            if not same(_member(before, names), _member(after, names)):
                last, begun = (before, chunk), place
            before = after
    if last is None:
        return None
    before, chunk = last
    fold.restore(begun, before)
    found: int | None = None
    for event in chunk:
        fold.apply([event])
        if not fold.running:
            return None
        after = fold.freeze()
        if not same(_member(before, names), _member(after, names)):
            found = event.position
        before = after
    return found


def _member(payload: bytes, names: list[str]) -> Any:
    value = plain(payload)
    for name in names:
        if not isinstance(value, dict) or name not in value:
            return msgspec.UNSET
        value = cast("dict[str, Any]", value)[name]
    return value


def _enclosing(pointer: str, value: Any) -> list[str]:
    """Return the names of the members down to a pointer, or to the first list."""
    names: list[str] = []
    for name in _parts(pointer):
        if not isinstance(value, dict) or name not in value:
            break
        names.append(name)
        value = cast("dict[str, Any]", value)[name]
    return names


def _parts(pointer: str) -> list[str]:
    return [
        part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]
    ]
