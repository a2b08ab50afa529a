"""An append without an answer: what it came to, only the log can tell."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from evstore.errors import CompactedError, DivergedError, SchemaError, StoreError
from evstore.log import (
    BusyError,
    ForeignLogError,
    HeadMovedError,
    InDoubtError,
    StampError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from evstore.log import Log

    from .batch import Attempt

logger = logging.getLogger(__name__)


async def resolve(
    log: Log, attempt: Attempt, *, pause: Callable[[int], Awaitable[None]]
) -> bool:
    """Find out whether an append without an answer stands in the log.

    The attempt is frozen meanwhile: the same bytes are sent again until the position
    after `after` is somebody's. The old server process may still be about to commit;
    then the resent bytes wait for it on the key, and meet a unique violation. `pause` is
    awaited after each failure, with their number. Returns whether the events are in the
    log; False means that they never will be.

    Raises:
        DivergedError: the log has lost the event before ours.
        CompactedError: whatever followed that event was removed: nobody will ever know.
    """
    failures = 0
    told = ""
    while True:
        try:
            return await _ask_or_resend(log, attempt)
        except HeadMovedError:
            continue
        except (InDoubtError, BusyError, StampError, StoreError) as error:
            if isinstance(error, DivergedError) and not isinstance(
                error, ForeignLogError
            ):
                # The event before ours is gone: ours cannot be there either.
                raise
            if isinstance(error, CompactedError):
                raise
            # Also a refused login, or another log behind the address: whatever it
            # is, it does not tell the outcome.
            failures += 1
            # Whoever waits behind this is only told that the log is not reached in time.
            if isinstance(error, StoreError) and str(error) != told:
                told = str(error)
                logger.warning("an append without an answer is asked for: %s", told)
            await pause(failures)


async def _ask_or_resend(log: Log, attempt: Attempt) -> bool:
    try:
        following = await log.read_on(attempt.after)
    except SchemaError as error:
        if error.position is None:
            raise
        return False  # what follows is not even of this program
    if not following:
        await log.append(attempt.events, after=attempt.after)
        return True
    if following[0].tx != attempt.events[0].tx:
        return False
    # Found by reading: visible, but perhaps not replicated yet.
    await log.settle()
    return True
