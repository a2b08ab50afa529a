"""What is stored, unchecked, and the one change of it: bodies that are redacted."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from evstore.clock import to_datetime
from evstore.codec import body_digest, unbroken
from evstore.errors import CompactedError
from evstore.log.contract import CHUNK_EVENTS
from evstore.log.failures import UnreadableError
from evstore.log.shapes import AuditedEvent

from . import objects

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from evstore.model import StoredEvent

    from .feed import Feed
    from .shelf import Shelf


async def audit(
    shelf: Shelf, *, after: int, until: int
) -> AsyncGenerator[list[AuditedEvent]]:
    """Yield what the cluster has in a range, not our copy; see the log's contract."""
    if after >= until:
        return
    await check_floor(shelf, after)
    try:
        async with aclosing(_audit(shelf, after=after, until=until)) as chunks:
            async for found in chunks:
                yield found
    except UnreadableError:
        await check_floor(shelf, after)
        raise
    await check_floor(shelf, after)


async def check_floor(shelf: Shelf, after: int) -> None:
    """Check that nothing that follows a position has been removed, so far.

    Raises:
        CompactedError: some of it has.
    """
    floor = (await shelf.log()).floor
    if after < floor:
        message = f"the log was compacted, meanwhile up to position {floor}"
        raise CompactedError(message, oldest=floor)


async def _audit(
    shelf: Shelf, *, after: int, until: int
) -> AsyncGenerator[list[AuditedEvent]]:
    floor = (await shelf.log()).floor
    previous: StoredEvent | None = None
    async for page in shelf.changes():
        for change in page:
            position = objects.position_of(change)
            if position > until:
                return
            if position > floor:
                events = await shelf.events(change)
                if not _fits(change, events, previous):
                    raise UnreadableError(position)
                previous = events[-1]
                found = [_audited(e) for e in events if after < e.position <= until]
                for start in range(0, len(found), CHUNK_EVENTS):
                    yield found[start : start + CHUNK_EVENTS]


def _fits(
    change: objects.Change,
    events: Sequence[StoredEvent],
    previous: StoredEvent | None,
) -> bool:
    """Whether a change says of itself what its events say.

    The summary aside, which other releases may word in another way.
    """
    spec, last = change.spec, events[-1]
    said = (spec.first, spec.position, spec.events, spec.hash, spec.actor, spec.time)
    if said != (
        *(events[0].position, last.position, len(events)),
        *(last.hash.hex(), last.actor, to_datetime(last.time).isoformat()),
    ):
        return False
    if previous is None or previous.position + 1 != spec.first:
        return True
    # Where the events themselves do not follow, the chain tells more.
    follows = unbroken(previous.hash, events[:1])
    return spec.after == previous.hash.hex() or not follows


def _audited(event: StoredEvent) -> AuditedEvent:
    return AuditedEvent(**msgspec.structs.asdict(event), stored_size=event.size)


async def redact(  # noqa: PLR0913 - what is replaced, where, and by what
    shelf: Shelf,
    feed: Feed,
    position: int,
    *,
    body: bytes,
    salt: bytes,
    before: bytes,
    announced: int,
) -> bool:
    """Write the change that holds an event anew; see the log's contract."""
    await feed.refresh()
    assert announced <= feed.head.position, "it was announced before"
    while True:
        change = await feed.change_with(position)
        if change is None:
            return False
        events = await shelf.events(change)
        index = position - events[0].position
        event = events[index]
        digest = body_digest(event.salt, event.body)
        if digest != before:
            return False
        events[index] = msgspec.structs.replace(
            event,
            body=msgspec.Raw(body),
            salt=salt,
            body_digest=event.body_digest or digest,
        )
        if await shelf.replace(change, events):
            break
    now = await feed.change_with(position)
    if now is not None:
        feed.copy.renew(await shelf.events(now))
    return True
