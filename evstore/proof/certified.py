"""Proof of the state at the floor of a log that was compacted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstore.errors import CompactedError
from evstore.folds.resources import digest_of, record_of
from evstore.log import UnreadableError

from .diagnosis import Finding, Kind, finding

if TYPE_CHECKING:
    from evstore.log import Verifiable
    from evstore.model import Head, StoredEvent


async def certified(
    log: Verifiable, floor: Head
) -> tuple[dict[int, StoredEvent], Finding | None]:
    """Return the events that the state at the floor is made of, or what is wrong.

    Raises:
        CompactedError: the floor was raised meanwhile.
        UnavailableError: the log cannot be reached.
    """
    position = floor.position
    text = f"the state at position {position}, where the log was compacted, was changed"
    damaged = finding(Kind.CHANGED, position, text)
    try:
        base = await log.base()
    except UnreadableError:
        return {}, damaged
    if base is not None and base.head.position > position:
        message = f"the log was compacted, meanwhile up to {base.head.position}"
        raise CompactedError(message, oldest=base.head.position)
    if base is None or base.head != floor:
        return {}, damaged
    records = [record for each in base.events if (record := record_of(each))]
    if digest_of(records) != base.digest:
        return {}, damaged
    return {event.position: event for event in base.events}, None
