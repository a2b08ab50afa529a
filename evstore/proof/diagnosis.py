"""What was done to a log whose chain of hashes does not hold. Pure.

A hash that does not follow says where, not what. What happened is found by asking which
event would have followed: one that stands elsewhere, a later one, or the same with
another value in one column. A tampering after which the hash was made anew shows at the
next event only; after one that made all later hashes anew, only an anchor shows it.
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import orjson

from evstore.clock import to_datetime
from evstore.codec import event_hash
from evstore.model import Operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from evstore.log import AuditedEvent
    from evstore.model import Head

NEIGHBOURS: Final = 1000
SCHEMA_VERSIONS: Final = range(1, 10)
_BODY: Final = frozenset({"labels", "owner", "redacted", "spec", "status"})


class Kind(enum.StrEnum):
    """What is wrong with a log."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    TORN = "torn"
    BACKDATED = "backdated"
    CUT = "cut"
    REWRITTEN = "rewritten"
    FOREIGN = "foreign"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong: what, where, and as far as can be told, in which column.

    `last` is where it ends, if it is about several positions. `text` says it in words.
    """

    kind: Kind
    position: int
    last: int
    text: str
    column: str | None = None


class Surroundings:
    """The events around the one whose hash does not follow, by position."""

    def __init__(self, floor: Head, events: Iterable[AuditedEvent]) -> None:
        self._floor = floor
        self._events = {event.position: event for event in events}

    def __iter__(self) -> Iterator[AuditedEvent]:
        return iter(self._events.values())

    def get(self, position: int) -> AuditedEvent | None:
        """Return the event at a position, None where it is not among these."""
        return self._events.get(position)

    def hash_before(self, position: int) -> bytes | None:
        """Return the hash that the event at a position is to follow."""
        if position == self._floor.position + 1:
            return self._floor.hash
        before = self._events.get(position - 1)
        return None if before is None else before.hash


def follows(
    previous: bytes | None,
    event: AuditedEvent,
    *,
    position: int | None = None,
    commits: Iterable[int] = (),
) -> bool:
    """Whether an event follows a hash, at its position or another one.

    `commits` are other values that its commit may have had there.
    """
    if previous is None:
        return False
    where = event.position if position is None else position
    for commit in {event.commit, *commits}:
        stood = event
        if (where, commit) != (event.position, event.commit):
            stood = msgspec.structs.replace(event, position=where, commit=commit)
        if computed(previous, stood) == event.hash:
            return True
    return False


def computed(previous: bytes, event: AuditedEvent) -> bytes | None:
    """Return the hash that an event should have; None for what can have none."""
    try:
        return event_hash(previous, event)
    except (ValueError, TypeError, struct.error):
        return None


def belongs(
    event: AuditedEvent, *, position: int, previous: bytes, there: AuditedEvent
) -> bool:
    """Whether an event that stands later is the one that belongs at `position`."""
    shift = event.position - position
    commits = (event.commit - shift, there.commit)
    return follows(previous, event, position=position, commits=commits)


def diagnose(around: Surroundings, position: int, home: AuditedEvent | None) -> Finding:
    """Return what was done where the hash does not follow.

    `home` is the event that belongs at the position and stands later.
    """
    event = around.get(position)
    assert event is not None, "it is what does not follow"
    if home is not None:
        return _displaced(around, event, home)
    return (
        _hash_alone(around, event)
        or _pushed_back(around, event)
        or _pulled_forward(around, event)
        or _changed(around, event)
    )


def _hash_alone(around: Surroundings, event: AuditedEvent) -> Finding | None:
    """Find that everything is as it was, but for the hash itself."""
    previous, following = (
        around.hash_before(event.position),
        around.get(event.position + 1),
    )
    if previous is None or following is None:
        return None
    if not follows(computed(previous, event), following):
        return None
    text = f"position {event.position} was changed: its hash, and nothing else of it"
    return finding(Kind.CHANGED, event.position, text, column="hash")


def _displaced(
    around: Surroundings, event: AuditedEvent, home: AuditedEvent
) -> Finding:
    """Find out whether what belongs here was moved, or others were put before it."""
    here, there = event.position, home.position
    after = around.get(there + 1)
    shifted = after is None or follows(
        home.hash, after, position=here + 1, commits=(after.commit - there + here,)
    )
    if shifted and not _stood_elsewhere(around, event, home):
        text = f"{positions(here, there - 1)} inserted; what was there follows them"
        return finding(Kind.INSERTED, here, text, last=there - 1)
    text = f"the events from position {here} to {there} are not in their order:"
    text += f" what stands at {there} belongs at {here}"
    return finding(Kind.REORDERED, here, text, last=there)


def _stood_elsewhere(
    around: Surroundings, event: AuditedEvent, home: AuditedEvent
) -> bool:
    """Whether an event is one of the log's own, from another position."""
    if follows(home.hash, event, position=event.position + 1, commits=_near(event, 1)):
        return True
    for other in around:
        if other.position <= event.position:
            continue
        commits = (*_near(event, other.position - event.position), other.commit)
        for previous in (other.hash, around.hash_before(other.position)):
            if follows(previous, event, position=other.position, commits=commits):
                return True
    return False


def _near(event: AuditedEvent, shift: int) -> tuple[int]:
    return (event.commit + shift,)


def _pushed_back(around: Surroundings, event: AuditedEvent) -> Finding | None:
    """Find events that were put before this one, with hashes that follow."""
    for shift in range(1, min(NEIGHBOURS, event.position)):
        first = event.position - shift
        previous = around.hash_before(first)
        if follows(previous, event, position=first, commits=_near(event, -shift)):
            last = event.position - 1
            text = f"{positions(first, last)} inserted; what was there follows them"
            return finding(Kind.INSERTED, first, text, last=last)
    return None


def _pulled_forward(around: Surroundings, event: AuditedEvent) -> Finding | None:
    """Find that events before this one are gone, and the later ones renumbered."""
    following = around.get(event.position + 1)
    if following is None or follows(event.hash, following):
        return None
    for shift in range(1, NEIGHBOURS):
        position = following.position + shift
        commits = _near(following, shift)
        if follows(event.hash, following, position=position, commits=commits):
            events = "an event was" if shift == 1 else f"{shift} events were"
            text = f"{events} removed before what stands at position {event.position},"
            text += " and what followed was given the positions"
            return finding(Kind.REMOVED, event.position, text)
    return None


def _changed(around: Surroundings, event: AuditedEvent) -> Finding:
    position = event.position
    exact = _restored(around, event)
    if exact is not None:
        column, value = exact
        text = f"position {position} was changed: its {column}, which was {value}"
        return finding(Kind.CHANGED, position, text, column=column)
    suspect = _suspect(event)
    if suspect is not None:
        text = f"position {position} was changed: its {suspect}"
        return finding(Kind.CHANGED, position, text, column=suspect)
    text = f"position {position} was changed, which column cannot be told"
    if position > 1:
        text += f"; or position {position - 1} was, and its hash made anew"
    if around.get(position + 1) is None:
        text += "; or it was put behind the end"
    return finding(Kind.CHANGED, position, text)


def _restored(around: Surroundings, event: AuditedEvent) -> tuple[str, str] | None:
    """Return the column, and the value with which the hash follows again."""
    previous = around.hash_before(event.position)
    if previous is None:
        return None
    for column, value, fields in _candidates(around, event):
        if computed(previous, msgspec.structs.replace(event, **fields)) == event.hash:
            return column, value
    return None


def _candidates(
    around: Surroundings, event: AuditedEvent
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield values that a column may have had: what its neighbours have."""
    for operation in Operation:
        yield "operation", operation.value, {"operation": operation}
    for version in SCHEMA_VERSIONS:
        yield "schema_version", str(version), {"schema_version": version}
    if event.body_digest is not None:
        yield "body_digest", "null", {"body_digest": None}
    yield "commit", str(event.position), {"commit": event.position}
    for other in around:
        yield "commit", str(other.commit), {"commit": other.commit}
        yield "actor", repr(other.actor), {"actor": other.actor}
        yield "tx", other.tx, {"tx": other.tx}
        moment = to_datetime(other.time).isoformat()
        yield "recorded_at", moment, {"time": other.time}
        columns = _key_columns(event.key, other.key)
        yield columns, other.key, {"key": other.key}


def _key_columns(one: str, other: str) -> str:
    names = ("type", "mesh", "name")
    if one.count("/") != other.count("/"):
        return "type, mesh or name"
    parts = zip(names, one.split("/"), other.split("/"), strict=True)
    return " and ".join(name for name, mine, its in parts if mine != its)


def _suspect(event: AuditedEvent) -> str | None:
    """Return the column whose content evstore would not have stored like this."""
    if not _canonical(event.body, _BODY):
        return "body"
    if not _canonical(event.metadata, None):
        return "metadata"
    sized = event.body_digest is None
    if sized and event.stored_size != len(event.body) + len(event.metadata):
        return "body or metadata"
    return None


def _canonical(text: msgspec.Raw, names: frozenset[str] | None) -> bool:
    try:
        value = orjson.loads(bytes(text))
    except orjson.JSONDecodeError:
        return False
    written = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    if names is not None:
        if not isinstance(value, dict):
            return False
        if not names >= cast("dict[str, Any]", value).keys():
            return False
    return written == bytes(text)


def finding(
    kind: Kind,
    position: int,
    text: str,
    *,
    last: int | None = None,
    column: str | None = None,
) -> Finding:
    """Return a finding; it ends where it begins unless `last` says otherwise."""
    return Finding(
        kind=kind,
        position=position,
        last=position if last is None else last,
        text=text,
        column=column,
    )


def positions(first: int, last: int) -> str:
    """Return the beginning of a sentence about positions."""
    if first == last:
        return f"position {first} was"
    return f"positions {first} to {last} were"
