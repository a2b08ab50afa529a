"""The event that should have set what differs between two states of one log."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from evstore.codec import DIGEST_MODULUS
from evstore.folds.projection import BUILT_IN
from evstore.folds.resources import digest_term, record_of
from evstore.model import ANY, Filter
from evstore.values.diff import same

from .differing import plain
from .folding import custom_of

if TYPE_CHECKING:
    from evstore.folds.projections import Projections
    from evstore.log import Log
    from evstore.model import StoredEvent
    from evstore.snapshots.start import Origin

_LOOKED_UP_MAX: Final = 500
_KEY_SLASHES: Final = 2


async def event_that_set(
    origin: Origin, right: Projections, other: Projections, name: str, what: str
) -> int | None:
    """Return the event that should have set `what`, a `first_difference` of the two.

    Of a resource it is the last event up to there. Of a state of one's own it is the
    last that changes the member in a replay, and of what is in a list the last that
    changes the list: elements have no names. None where that cannot be told: the replay
    never has it.

    Raises:
        UnavailableError: the log cannot be read.
    """
    if name != BUILT_IN:
        states = [plain(custom_of(each, name).freeze()) for each in (right, other)]
        names = max((_enclosing(what, state) for state in states), key=len)
        return await _last_change(origin, name, names, until=right.position)
    if what.startswith("request "):
        known = right.requests.get(what.removeprefix("request "))
        return None if known is None else known.commit
    if what.count("/") != _KEY_SLASHES:
        return None
    type_, mesh, own = what.split("/")
    where = Filter(type=type_, mesh=mesh, name=own)
    events = await origin.log.latest(where=where, until=right.position)
    return events[0].position if events else None


async def event_missed(
    log: Log, position: int, *, right: bytes, told: bytes
) -> StoredEvent | None:
    """Return the one event without which the resources have the digest that was told.

    A digest is a sum over the resources, so it tells one that is as it was before its
    last event. None where more than that differs, or something else.
    """
    off = (int.from_bytes(told) - int.from_bytes(right)) % DIGEST_MODULUS
    floor = log.floor.position
    latest = await log.latest(where=ANY, until=position)
    events = [each for each in latest if each.position > floor]
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
