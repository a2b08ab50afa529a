"""The mirror, as a store runs it: wait for one's turn, then keep it, again and again."""

from __future__ import annotations

import logging
import random
import socket
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import anyio

from evstore.errors import StoreError
from evstore.log.kubernetes.client import Client
from evstore.log.kubernetes.leases import Leases

from . import election
from .cluster import MirrorObjects, Warnings
from .keeper import Keeper
from .pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore.config import Config
    from evstore.folds.resources import Resources
    from evstore.watching.tail import Tail

logger = logging.getLogger(__name__)

PAUSE_SECONDS_MIN: Final = 0.5
PAUSE_SECONDS_MAX: Final = 10.0


class Mirror:
    """Shows the current state in the cluster, from whichever instance has its turn.

    It has connections of its own: whatever happens to them, commands do not notice.
    """

    def __init__(
        self, config: Config, *, resources: Callable[[], Resources], tail: Tail
    ) -> None:
        self._resources = resources
        self._tail = tail
        self._client = Client(
            config.kubernetes, seconds=config.evstore.limits.append_timeout
        )
        self._pace = Pace(config.kubernetes.mirror.rate)
        self._holder = f"{socket.gethostname()}_{uuid4()}"

    async def run(self) -> None:
        """Mirror until cancelled; what fails is tried again, whatever it is."""
        said = ""
        pause = PAUSE_SECONDS_MIN
        try:
            while True:
                try:
                    await self._turn()
                except Exception as error:
                    if str(error) != said:
                        said = str(error)
                        fault = None if isinstance(error, StoreError) else error
                        message = "cannot mirror, will try again: %s"
                        logger.warning(message, error, exc_info=fault)
                    pause = min(pause * 2, PAUSE_SECONDS_MAX)
                else:
                    said, pause = "", PAUSE_SECONDS_MIN
                await anyio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
        finally:
            with anyio.CancelScope(shield=True):
                await self._client.aclose()

    async def _turn(self) -> None:
        """Wait until nobody else writes, then write until somebody else may."""
        await election.Election(
            Leases(self._client), holder=self._holder, ttl=election.TTL_SECONDS
        ).run(self._keeper().run)

    def _keeper(self) -> Keeper:
        return Keeper(
            MirrorObjects(self._client),
            Warnings(self._client),
            self._pace,
            resources=self._resources,
            tail=self._tail,
        )
