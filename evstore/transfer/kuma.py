"""A log made of what a Kuma database holds, for a team that moves over. Pure.

Kuma keeps the last version of a resource and two times. A resource becomes an event
that creates it at its creation time and, where it was modified since, an event that
changes it at its modification time. What it was in between is not known: both events
have what it is now.
"""

from __future__ import annotations

import os
from datetime import UTC
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from evstore.clock import to_datetime, to_microseconds
from evstore.codec import canonical, decode_json
from evstore.commit.arguments import Arguments
from evstore.commit.commands import Decided, Draft, decide
from evstore.commit.stamp import stamp
from evstore.errors import ConflictError, InvalidError
from evstore.folds.projections import Projections
from evstore.folds.requests import RequestOverlay, request_of
from evstore.keys import Key
from evstore.log import HeadMovedError
from evstore.model import Operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from evstore.commit.changes import Command, Create
    from evstore.log import Log
    from evstore.log.postgres.kuma import KumaResource
    from evstore.model import Head, StoredEvent

REQUEST_PREFIX: Final = "kuma:"
EVENTS_MAX: Final = 1_000_000
_REASON: Final = "taken over from Kuma, where it was at version"
_SHOWN_MAX: Final = 10


class TakenOver(msgspec.Struct, frozen=True, kw_only=True):
    """What taking over did; `events` is 0 where all of it had been done before."""

    resources: int
    events: int
    position: int


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """A row of Kuma's that can be represented; times in microseconds."""

    key: Key
    create: Create
    owner: Key | None
    created: int
    modified: int
    version: int
    request_id: str


async def take_over(log: Log, rows: Sequence[KumaResource], *, actor: str) -> TakenOver:
    """Make an empty log of Kuma's resources, all of them or nothing.

    Owners come first. Creation and modification times are kept; only a resource that is
    older than its owner gets its owner's creation time. The same rows again do nothing.

    Raises:
        InvalidError: some cannot be represented: a line for each, which names it.
        ConflictError: the log holds something else.
    """
    known = _understood(rows, Arguments(actor=actor), until=log.clock())
    head = await log.head()
    if head.position:
        await _expect_same(log, known)
        return TakenOver(resources=len(known), events=0, position=head.position)
    events = list(_events(known, log.genesis, actor))
    if len(events) > EVENTS_MAX:
        message = f"makes {len(events):,} events, at most {EVENTS_MAX:,} are allowed"
        raise InvalidError(message)
    try:
        await log.restore(events, after=log.genesis, identity=log.identity)
    except HeadMovedError:
        message = "somebody else has written to the log; nothing was taken over"
        raise ConflictError(message) from None
    return TakenOver(resources=len(known), events=len(events), position=len(events))


async def _expect_same(log: Log, known: Iterable[_Known]) -> None:
    """Check that a log that is not empty was made of the same resources."""
    wanted = {each.request_id: each.key for each in known}
    found: set[str] = set()
    async for events in log.read():
        for event in events:
            request = request_of(event)
            if request is not None and request[0].startswith(REQUEST_PREFIX):
                found.add(request[0])
    if found == set(wanted):
        return
    message = (
        "the log is not empty; what Kuma holds can only be taken over into a new one"
    )
    if found:
        new = [str(key) for id_, key in wanted.items() if id_ not in found]
        message += (
            f". It was taken over before, but {len(new)} resources of Kuma's are new or"
            f" changed since, and {len(found - set(wanted))} changed or gone"
        )
        if new:
            more = ", ..." if len(new) > _SHOWN_MAX else ""
            message += f": {', '.join(new[:_SHOWN_MAX])}{more}"
    raise ConflictError(message)


def _understood(
    rows: Iterable[KumaResource], arguments: Arguments, *, until: int
) -> list[_Known]:
    """Return the rows as what they are to become.

    Raises:
        InvalidError: a line for each row that cannot be represented.
    """
    known: list[_Known] = []
    mistakes: list[str] = []
    for row in sorted(rows, key=lambda each: (each.type, each.mesh, each.name)):
        try:
            known.append(_row(row, arguments, until))
        except InvalidError as error:
            mistakes.append(f"{row.type} {row.mesh!r} {row.name!r}: {error}")
    if not mistakes:
        mistakes += _owner_mistakes(known)
    if mistakes:
        raise InvalidError("\n".join(mistakes))
    return known


def _row(row: KumaResource, arguments: Arguments, until: int) -> _Known:
    created = _time(row.creation_time, "creation_time", until)
    owner = None
    if row.owner_name is not None:
        owner = Key(
            type=row.owner_type or "", mesh=row.owner_mesh or "", name=row.owner_name
        )
    create = arguments.create(
        row.type,
        row.name,
        mesh=row.mesh,
        # Types without content have an empty text in old versions of Kuma.
        spec=decode_json(row.spec, "spec") if row.spec else {},
        status=row.status or None,
        labels={} if row.labels is None else row.labels,
        owner=owner,
    )
    content = canonical(msgspec.to_builtins(row), "row")
    return _Known(
        key=Key(type=row.type, mesh=row.mesh, name=row.name),
        create=create,
        owner=owner,
        created=created,
        modified=max(created, _time(row.modification_time, "modification_time", until)),
        version=row.version,
        request_id=f"{REQUEST_PREFIX}{sha256(content).hexdigest()[:32]}",
    )


def _time(moment: datetime, path: str, until: int) -> int:
    time = to_microseconds(moment.replace(tzinfo=UTC))
    if not 0 <= time <= until:
        message = f"{moment.isoformat()} is before 1970 or in the future"
        raise InvalidError(message, path=path)
    return time


def _owner_mistakes(known: Sequence[_Known]) -> Iterator[str]:
    by_key = {each.key: each for each in known}
    for each in known:
        seen = {each.key}
        owner = each.owner
        while owner is not None:
            if owner not in by_key:
                yield f"{each.key}: owner {owner} is not there"
                break
            if owner in seen:
                yield f"{each.key}: is its own owner, by way of {owner}"
                break
            seen.add(owner)
            owner = by_key[owner].owner


class _Step(msgspec.Struct, frozen=True, order=True):
    """An event to be made; steps sort by time, and owners before what they own."""

    time: int
    update: bool
    depth: int
    key: Key


def _steps(known: Iterable[_Known]) -> list[_Step]:
    by_key = {each.key: each for each in known}
    places: dict[Key, tuple[int, int]] = {}

    def place(key: Key) -> tuple[int, int]:
        """Return when a resource can be created, and how many owners are above it."""
        chain = [key]
        while (owner := by_key[chain[-1]].owner) is not None and owner not in places:
            chain.append(owner)
        for each in reversed(chain):
            above = by_key[each].owner
            time, depth = (0, -1) if above is None else places[above]
            places[each] = (max(time, by_key[each].created), depth + 1)
        return places[key]

    steps: list[_Step] = []
    for key, each in by_key.items():
        time, depth = places.get(key) or place(key)
        steps.append(_Step(time, False, depth, key))  # noqa: FBT003 - a field
        if each.modified > time:
            steps.append(_Step(each.modified, True, depth, key))  # noqa: FBT003
    return sorted(steps)


def _events(known: Sequence[_Known], start: Head, actor: str) -> Iterator[StoredEvent]:
    """Yield the events, each a transaction of its own."""
    by_key = {each.key: each for each in known}
    arguments = Arguments(actor=actor)
    state = Projections(start)
    for step in _steps(known):
        each = by_key[step.key]
        # The last event of a resource bears the id: with it, all of it is there.
        last = step.update or each.modified <= step.time
        command = arguments.command(
            [each.create],
            actor=None,
            reason=f"{_REASON} {each.version}",
            request_id=each.request_id if last else None,
            recorded_at=to_datetime(step.time),
        )
        events = stamp(
            command,
            _drafts(command, step, state),
            state=state.resources,
            after=state.head,
            tx=os.urandom(16).hex(),
            time=step.time,
        )
        state.apply(events)
        yield from events


def _drafts(command: Command, step: _Step, state: Projections) -> list[Draft]:
    if step.update:
        record = state.resources.get(step.key.text)
        assert record is not None, "it was created before"
        return [Draft(Operation.UPDATED, record.key, record.body)]
    decided = decide(command, state.resources, RequestOverlay(state.requests))
    assert isinstance(decided, Decided), "its request id is new"
    return decided.drafts
