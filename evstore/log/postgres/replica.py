"""The read replica: a second server that may answer what is about the past.

What ends at a position may be asked of it, once it has the event at that position with
the hash that the primary has. Hashes are chained, so that all before it is the same too.
That is looked at each time, on both servers, by key: a replica lags behind, is promoted,
or keeps the end of a log that the primary has lost. What is about the present (the head,
places, time, the state at a start, evidence) is asked of the primary alone.
"""

from __future__ import annotations

import logging
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import msgspec

from evstore.clock import boot_microseconds
from evstore.errors import StoreError
from evstore.model import ANY, Filter, StoredEvent

from . import statements
from .reader import POSITION_MAX, Reader

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from uuid import UUID

    from evstore.config import Config
    from evstore.model import Head

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A replica that lags is waited for so long, by looks that are so far apart.
LAG_SECONDS_MAX: Final = 0.5
LOOK_SECONDS: Final = 0.005
# For so long it is not asked again: after it lagged more than that, and after it failed.
REST_AFTER_LAG_SECONDS: Final = 1.0
REST_AFTER_FAILURE_SECONDS: Final = 15.0


class PastReader:
    """Reads that end at a position: the replica's share goes there, where it can.

    A replica that is down, lags, or has another log costs time once and is then left
    alone for a while; the primary answers in its place.
    """

    def __init__(self, config: Config, identity: UUID, primary: Reader) -> None:
        settings = config.postgres.read_replica
        self._primary = primary
        self._ratio = settings.ratio
        self._replica: Reader | None = None
        if settings.host and settings.ratio:
            self._replica = Reader(
                msgspec.structs.replace(
                    config.postgres, host=settings.host, port=settings.port
                ),
                identity,
                seconds=config.evstore.limits.read_timeout,
                replica=True,
            )
        self._rests_until = 0
        self._well = True

    def become(self, identity: UUID) -> None:
        """Expect another log from now on."""
        if self._replica is not None:
            self._replica.identity = identity

    async def open(self) -> None:
        """Open the pool to the replica."""
        if self._replica is not None:
            await self._replica.open()

    async def run(self) -> None:
        """Look after idle connections until cancelled."""
        if self._replica is not None:
            await self._replica.run()

    async def aclose(self) -> None:
        """Close the pool to the replica."""
        if self._replica is not None:
            await self._replica.aclose()

    async def ask(self, until: int, question: Callable[[Reader], Awaitable[T]]) -> T:
        """Ask what needs the log up to a position and nothing behind it."""
        replica = await self._serving(until)
        if replica is not None:
            try:
                return await question(replica)
            except StoreError as error:
                self._rest(REST_AFTER_FAILURE_SECONDS, error)
        return await question(self._primary)

    async def read(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        where: Filter = ANY,
        reverse: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[list[StoredEvent]]:
        """Yield chunks of events; see the log's contract.

        Where the replica fails in the middle, the primary goes on.
        """
        replica = None if until is None else await self._serving(until)
        if replica is not None:
            chunks = replica.read(
                after=after, until=until, where=where, reverse=reverse, limit=limit
            )
            async with aclosing(chunks):
                while True:
                    try:
                        chunk = await anext(chunks, None)
                    except StoreError as error:
                        self._rest(REST_AFTER_FAILURE_SECONDS, error)
                        break
                    if chunk is None:
                        return
                    yield chunk
                    limit = None if limit is None else limit - len(chunk)
                    if reverse:
                        until = chunk[-1].position - 1
                    else:
                        after = chunk[-1].position
        async for chunk in self._primary.read(
            after=after, until=until, where=where, reverse=reverse, limit=limit
        ):
            yield chunk

    async def _serving(self, until: int) -> Reader | None:
        """Return the replica, if this read is its and it has the log up to there."""
        replica = self._replica
        if replica is None or not 0 < until <= POSITION_MAX:
            return None
        if boot_microseconds() < self._rests_until or not self._drawn():
            return None
        binds = {"position": until}
        place = await self._primary.place(statements.PLACE, binds)
        if place is None:
            return None
        try:
            return replica if await self._reaches(replica, place) else None
        except StoreError as error:
            self._rest(REST_AFTER_FAILURE_SECONDS, error)
            return None

    def _drawn(self) -> bool:
        return random.random() * 100 < self._ratio  # noqa: S311

    async def _reaches(self, replica: Reader, place: Head) -> bool:
        """Wait a little until the replica has a place, and with the same hash."""
        deadline = boot_microseconds() + LAG_SECONDS_MAX * 1e6
        binds = {"position": place.position}
        while True:
            found = await replica.place(statements.PLACE, binds)
            if found is not None and found.hash == place.hash:
                if not self._well:
                    logger.warning("the read replica is used again")
                self._well = True
                return True
            if found is not None:
                reason = f"it has another event at {place.position}"
                self._rest(REST_AFTER_FAILURE_SECONDS, reason)
                return False
            if boot_microseconds() >= deadline:
                self._rest(REST_AFTER_LAG_SECONDS, f"it lacks {place.position}")
                return False
            await anyio.sleep(LOOK_SECONDS)

    def _rest(self, seconds: float, reason: object) -> None:
        self._rests_until = boot_microseconds() + int(seconds * 1e6)
        if self._well:
            logger.warning("the read replica is not used for now: %s", reason)
        self._well = False
