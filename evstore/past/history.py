"""The past: resources as they were, read from the log and not from the live state."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evstore.clock import to_microseconds
from evstore.errors import InvalidError, NotFoundError
from evstore.folds.resources import record_of
from evstore.model import Filter, Head, Key

if TYPE_CHECKING:
    from evstore.log import Log
    from evstore.model import Record

At = int | datetime


async def resolve(log: Log, at: At) -> Head:
    """Return the place that `at` names: the end of a transaction.

    A position inside a transaction means the whole of it. A time means the last event
    not after it.

    Raises:
        InvalidError: `at` lies beyond the head or in the future, is negative, or is a
            time without a time zone.
    """
    if isinstance(at, datetime):
        time = microseconds(at, "at")
        if time > log.clock():
            message = f"{at.isoformat()} lies in the future"
            raise InvalidError(message, path="at")
        return await log.locate(time)
    if not isinstance(at, int) or isinstance(at, bool) or at < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"{at!r} is neither a position nor an aware datetime"
        raise InvalidError(message, path="at")
    place = await log.commit_of(at)
    if place is None:
        head = await log.head()
        message = f"position {at} lies beyond the head, which is {head.position}"
        raise InvalidError(message, path="at")
    return place


async def resource_at(log: Log, key: Key, position: int) -> Record:
    """Return one resource as it was at a position.

    Raises:
        NotFoundError: it did not exist then.
    """
    where = Filter(type=key.type, mesh=key.mesh, name=key.name)
    for event in await log.latest(where=where, until=position):
        record = record_of(event)
        if record is not None:
            return record
    before = "" if position else ", before the first event"
    message = f"{key} did not exist at position {position}{before}"
    raise NotFoundError(message, key=key)


async def resources_at(log: Log, where: Filter, position: int) -> list[Record]:
    """Return the resources of a filter as they were, by name, then mesh."""
    events = await log.latest(where=where, until=position)
    records = [record for event in events if (record := record_of(event)) is not None]
    records.sort(key=order)
    return records


def order(record: Record) -> tuple[str, str]:
    """Return what listings are sorted by: name, then mesh."""
    _, mesh, name = record.key.split("/")
    return name, mesh


def microseconds(moment: datetime, path: str) -> int:
    """Return an aware datetime as microseconds since 1970.

    Raises:
        InvalidError: it has no time zone.
    """
    try:
        return to_microseconds(moment)
    except (AttributeError, TypeError):
        message = f"must be an aware datetime, not {type(moment).__name__}"
        raise InvalidError(message, path=path) from None
    except ValueError as error:
        raise InvalidError(str(error), path=path) from error
