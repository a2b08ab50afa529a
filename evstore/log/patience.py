"""Starting before the server does: tried again for a while."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from evstore.clock import boot_microseconds
from evstore.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

START_PAUSES: Final = (0.1, 0.2, 0.5, 1.0)

ResultT = TypeVar("ResultT")


async def patiently(
    begin: Callable[[], Awaitable[ResultT]], *, seconds: float
) -> ResultT:
    """Begin as soon as the server can be used, and return what that gives.

    Raises:
        UnavailableError: it could not be used for so many seconds.
    """
    limit = boot_microseconds() + int(seconds * 1e6)
    failures = 0
    while True:
        try:
            return await begin()
        except UnavailableError as error:
            pause = START_PAUSES[min(failures, len(START_PAUSES) - 1)]
            if boot_microseconds() + pause * 1e6 > limit:
                raise
            if not failures:
                logger.warning("trying again for %g s: %s", seconds, error)
            failures += 1
            await anyio.sleep(pause)
