"""Folds again, beside everything else, what a redaction has tainted.

A projection of one's own that has folded what is announced to go gives no state from
then on. Here it is folded anew from the log, without that, and takes its place in one
step: so what it shows is again what a replay of the log comes to.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import anyio

from evstore.errors import CompactedError, StoreError

if TYPE_CHECKING:
    from evstore.log import Log

    from .live import LiveState

logger = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 1.0
# So many events are folded without letting others in: else a busy store would always
# be ahead.
AT_ONCE_EVENTS_MAX: Final = 2000


class Refolder:
    """Folds projections again from the log, whenever some are tainted."""

    def __init__(self, log: Log, live: LiveState) -> None:
        self._log = log
        self._live = live

    async def run(self) -> None:
        """Work until cancelled, or until what would have to be read was removed."""
        while True:
            await self._live.tainted()
            try:
                done = await self._refold()
            except CompactedError as error:
                logger.warning("cannot fold again while this store is open: %s", error)
                return
            except StoreError as error:
                logger.warning("cannot fold again, will try again: %s", error)
                done = False
            if not done:
                await anyio.sleep(AGAIN_SECONDS)

    async def _refold(self) -> bool:
        """Fold what is tainted up to here; False where the log did not let us.

        Another redaction on the way leaves it tainted, and the next call knows of it.
        """
        projections, tail = self._live.projections, self._live.tail
        fresh = projections.custom.again(self._log.genesis)
        position = 0
        while self._live.projections is projections:
            events = tail.after(position)
            if events is None:
                until = projections.position
                before = position
                async with aclosing(
                    self._log.replay(after=position, until=until)
                ) as chunks:
                    async for chunk in chunks:
                        fresh.apply(chunk)
                        position = chunk[-1].position
                if position == before:
                    return False
            elif events:
                fresh.apply(events)
                position = events[-1].position
                if projections.position - position > AT_ONCE_EVENTS_MAX:
                    await anyio.lowlevel.checkpoint()
            else:
                return projections.custom.accept(fresh, projections.head)
        return True
