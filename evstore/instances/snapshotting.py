"""Takes snapshots while a store runs, and when it ends."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Final

import anyio

from evstore.errors import StoreError
from evstore.snapshots.content import folds_of
from evstore.snapshots.taking import take

from .instance import CODE_VERSION

if TYPE_CHECKING:
    from evstore.commit.committer import Committer
    from evstore.log import Log
    from evstore.snapshots.content import Fold
    from evstore.snapshots.start import Origin

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
# Between two rounds: a store that takes thousands of changes a second does other things.
PAUSE_SECONDS: Final = 30.0
PART_ON_CLOSE: Final = 10


class Snapshotter:
    """Has snapshots taken by whichever instance gets to it, off the commit path.

    Each `every` events, 0 for never, at most one round in 30 s; and at the end of the
    store, if a tenth of them have come since. What another instance has stored counts
    as well. One that fails costs a warning, and the next is tried as if it had not.
    """

    def __init__(
        self, log: Log, committer: Committer, origin: Origin, *, every: int
    ) -> None:
        self._log = log
        self._committer = committer
        self._origin = origin
        self._every = every
        # By name of the projection: the highest position that is known to be stored.
        self._stored: dict[str, int] = {}
        self._closing = False
        self._taking = anyio.Lock()

    async def run(self) -> None:
        """Take snapshots until cancelled."""
        if not self._every:
            return
        while not self._closing:
            # Instances see the same events: not all of them need to get to it at once.
            await anyio.sleep(LOOK_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311
            if self._due(self._every) and await self._round(self._every):
                await anyio.sleep(PAUSE_SECONDS)

    async def aclose(self, *, seconds: float) -> None:
        """Take what is due at the end, in so many seconds at most.

        A round under way is waited for: to cancel it would cost its connection.
        """
        self._closing = True
        least = max(1, self._every // PART_ON_CLOSE)
        if self._every and (self._due(least) or self._taking.locked()):
            with anyio.move_on_after(seconds):
                await self._round(least)

    def _due(self, events: int) -> list[Fold]:
        """Return the folds that have got so far beyond what is stored of them."""
        return [
            fold
            for fold in folds_of(self._committer.projections)
            if fold.head.position - self._stored.get(fold.name, 0) >= events
        ]

    async def _round(self, events: int) -> bool:
        """Take what is due, also by what others have stored; return whether any was."""
        tried = False
        async with self._taking:
            try:
                await self._look()
                for fold in self._due(events):
                    tried = True
                    # Kept, or being kept by another: the next is as far away.
                    self._stored[fold.name] = fold.head.position
                    await take(
                        self._log,
                        fold,
                        fingerprint=self._origin.fingerprint,
                        code_version=CODE_VERSION,
                    )
            except StoreError as error:
                logger.warning("no snapshot was taken: %s", error)
        return tried

    async def _look(self) -> None:
        """Learn what is stored of this log, by whomever."""
        found = await self._log.snapshots()
        stored: dict[str, int] = {}
        for fold in folds_of(self._committer.projections):
            label = self._origin.label(fold)
            positions = [
                snapshot.stamp.head.position
                for snapshot in found
                if snapshot.stamp.label == label
                and snapshot.stamp.log == self._log.identity
            ]
            stored[fold.name] = max(positions, default=0)
        self._stored = stored
