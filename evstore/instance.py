"""What a running store does by itself: it follows the log, and tells that it runs."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import anyio

from .errors import StoreError
from .log import Instance

if TYPE_CHECKING:
    from .committer import Committer
    from .log import Log

logger = logging.getLogger(__name__)

CODE_VERSION: Final = version("evstore")
FOLLOW_PAUSE_SECONDS: Final = 0.005
BEAT_SECONDS_MAX: Final = 2.0


async def follow(log: Log, committer: Committer, poll_interval: float) -> None:
    """Have the committer read on whenever other instances may have appended.

    At most one read every 5 ms, and one each `poll_interval` seconds where nothing is
    heard: a lost notification costs latency and never an event.
    """
    while True:
        await log.wait(committer.projections.position, seconds=poll_interval)
        committer.nudge()
        await anyio.sleep(FOLLOW_PAUSE_SECONDS)


async def beat(log: Log, committer: Committer, interval: float) -> None:
    """Tell other instances, and a later replay, where this one stands."""
    identity = uuid4()
    while True:
        instance = Instance(
            id=identity,
            position=committer.projections.position,
            digest=committer.projections.resources.digest(),
            code_version=CODE_VERSION,
        )
        # Not to be cancelled in the middle: that would cost the connection. But a server
        # that does not answer must not hold up the end of the store. A heartbeat that
        # fails is made up for by the next.
        with anyio.move_on_after(BEAT_SECONDS_MAX, shield=True):
            try:
                await log.beat(instance)
            except StoreError as error:
                logger.warning("no heartbeat recorded: %s", error)
        await anyio.sleep(interval)
