"""The state that this process keeps up with the log, and hands on to its watchers.

Only the committer changes it: after an append of its own, or with what it reads on.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio

from evstore.clock import boot_microseconds
from evstore.errors import CompactedError, DivergedError, SchemaError, StoreError
from evstore.schemas import AS_STORED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore.folds.projections import Projections
    from evstore.log import Log
    from evstore.model import StoredEvent
    from evstore.schemas import Schemas
    from evstore.snapshots.start import Origin
    from evstore.watching.tail import Tail

    from .batch import Attempt

logger = logging.getLogger(__name__)

FOREIGN_MICROSECONDS: Final = 20_000


class LiveState:
    """The projections at the place that this process has reached, and the tail."""

    def __init__(
        self,
        log: Log,
        origin: Origin,
        projections: Projections,
        tail: Tail,
        schemas: Schemas = AS_STORED,
    ) -> None:
        self.projections = projections
        self.tail = tail
        self.schemas = schemas
        self._log = log
        self._origin = origin
        self._foreign_at = -FOREIGN_MICROSECONDS
        self._out_of_touch = False
        self._taint = anyio.Event()

    @property
    def contended(self) -> bool:
        """Whether another instance has appended within the last 20 ms."""
        return boot_microseconds() - self._foreign_at < FOREIGN_MICROSECONDS

    def settle(self, attempt: Attempt) -> None:
        """The attempt's events stand in the log: fold them, then tell the callers."""
        if attempt.events:
            self.projections.adopt(attempt.events, attempt.resources, attempt.requests)
            self._publish(attempt.events)
        attempt.answer()

    def follow(self, events: Sequence[StoredEvent]) -> None:
        """Take in the next events, which another instance has appended."""
        if events:
            self._foreign_at = boot_microseconds()
            self.projections.apply(events)
            self._publish(events)

    def _publish(self, events: Sequence[StoredEvent]) -> None:
        self.tail.publish(events)
        if self.projections.custom.tainted:
            self._taint.set()

    async def tainted(self) -> None:
        """Return when a redaction has tainted a projection of one's own."""
        while not self.projections.custom.tainted:
            self._taint = anyio.Event()
            await self._taint.wait()

    async def read_on(self) -> bool:
        """Take in all that follows in the log; return whether there was anything.

        Raises:
            DivergedError: the log has lost the place that we have reached.
            CompactedError: what follows that place was removed.
            UnavailableError: the log cannot be reached.
            SchemaError: we cannot read what follows; all before it was taken in.
        """
        found = False
        while events := await self._log.read_on(self.projections.head):
            found = True
            self.follow(events)
        return found

    async def catch_up(self) -> None:
        """Take in all that follows; rebuild the state where the log is not the same.

        Where the log cannot be reached, the next call tries again: nobody waits for
        this one's answer. Where this program cannot read what follows, the state stays
        at the last place that it can, and the tail is blocked.
        """
        blocked: SchemaError | None = None
        try:
            try:
                await self.read_on()
            except DivergedError:
                await self._rebuild()
            except CompactedError as error:
                await self._rebuild(compacted=error)
        except StoreError as error:
            if isinstance(error, SchemaError) and error.position is not None:
                blocked = error
            if not (self._out_of_touch or self.tail.closed):
                logger.warning("cannot follow the log, will try again: %s", error)
            self._out_of_touch = True
        else:
            if self._out_of_touch:
                position = self.projections.position
                logger.warning("follows the log again, at %s", position)
            self._out_of_touch = False
        self.tail.block(blocked)

    async def _rebuild(self, *, compacted: CompactedError | None = None) -> None:
        """Begin anew: the log is not the one that was followed, or lost its end.

        Or, as `compacted` says, it was compacted beyond the place that we have reached.

        Raises:
            DivergedError: another log is behind the address; the old state stays, and
                whoever watches is told.
            SchemaError: this program cannot read all of it; the state is the last that
                it can.
        """
        try:
            await self._log.connect()
            try:
                self.projections = await self._origin.state()
            except SchemaError:
                self.projections = await self._readable()
                raise
            finally:
                self._taint.set()
        except DivergedError:
            compacted = None
            raise
        finally:
            if compacted is None:
                self.tail.diverge(self.projections.position)
            else:
                self.tail.compact(self.projections.position, compacted)

    async def _readable(self) -> Projections:
        """Fold the log up to the first transaction that this program cannot read."""
        projections = self._origin.fresh()
        if self._log.floor != self._log.genesis:
            projections = await self._origin.begun()
        with suppress(SchemaError):
            while events := await self._log.read_on(projections.head):
                projections.apply(events)
        return projections
