"""The floor of a log that was compacted: where folds begin that have no snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstore.errors import CompactedError, UnavailableError
from evstore.folds.requests import Request
from evstore.folds.resources import digest_of, record_of
from evstore.log import UnreadableError

if TYPE_CHECKING:
    from evstore.folds.projections import Projections
    from evstore.log import Base, Log


async def begin_at_floor(log: Log, projections: Projections) -> None:
    """Have the built-in folds begin at the floor, if they have not got there.

    Raises:
        CompactedError: a projection of one's own has not got there: it cannot be folded
            from events that were removed.
        SchemaError: this program cannot read all of the state there.
        UnavailableError: the state there cannot be read.
    """
    floor = log.floor.position
    for custom in projections.custom:
        if custom.seen.position < floor:
            message = (
                f"the projection {custom.name} has no snapshot at or above position "
                f"{floor}, below which the log was compacted, and cannot be folded "
                "without what was there: run the program that has one, or open the "
                "store without this projection"
            )
            raise CompactedError(message, oldest=floor)
    if projections.position >= floor:
        return
    try:
        base = await log.base()
    except UnreadableError as error:
        message = f"the state at position {floor}, where the log begins, is damaged"
        raise UnavailableError(f'{message}; "evstore verify" tells more') from error
    assert base is not None, "there is one where there is a floor"
    begin(projections, base)


def begin(projections: Projections, base: Base) -> None:
    """Have the built-in folds, which have folded nothing, begin from a base."""
    records = [record for each in base.events if (record := record_of(each))]
    projections.resources.restore(records, digest=digest_of(records))
    projections.resources.newest_schemas = dict(base.newest_schemas)
    projections.requests.restore(
        (name, Request(digest, commit, time))
        for name, digest, commit, time in base.requests
    )
    projections.head = base.head
