"""Following the log by watches: they wake, and what they tell is never trusted to be all.

A watch may end, come late, begin at a moment that the server has forgotten, or tell of
something that others have not seen yet. What follows the head is asked for by its name.
"""

from __future__ import annotations

import logging
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from evstore.errors import StoreError, UnavailableError
from evstore.log.failures import UnreadableError

from . import objects, watches
from .answers import GoneError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from anyio.abc import TaskStatus

    from .client import Client
    from .copy import Copy
    from .feed import Feed
    from .shelf import Shelf

logger = logging.getLogger(__name__)

PAUSE_SECONDS_MAX: Final = 5.0
_PAUSE_SECONDS_MIN: Final = 0.05


class Follower:
    """Keeps a feed up to date with what others append."""

    def __init__(self, client: Client, shelf: Shelf, feed: Feed) -> None:
        self._client = client
        self._shelf = shelf
        self._feed = feed
        self.watching = False
        self._started: Callable[[], None] | None = None
        # Where the next watch can begin, and of which copy that is known.
        self._version = ""
        self._copy: Copy | None = None
        self._pause = _PAUSE_SECONDS_MIN

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Follow by watches, one after the other, until cancelled.

        It has started when it hears of what is appended, or when it cannot.
        """
        self._started = task_status.started
        told = ""
        while True:
            try:
                await self._follow()
            except (
                GoneError,
                StoreError,
                UnreadableError,
                msgspec.DecodeError,
            ) as error:
                # Whatever it was: asking by name leaves no gap.
                self._version = ""
                logger.debug("the watch ended: %s", error)
                if _is_lasting(error) and str(error) != told:
                    told = str(error)
                    logger.warning("cannot watch the log, will try again: %s", told)
            finally:
                self.watching = False
                self._feed.upset()
                self._begin()
            pause, self._pause = self._pause, min(self._pause * 2, PAUSE_SECONDS_MAX)
            await anyio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter

    async def _follow(self) -> None:
        """Watch once, from where the last watch got to, or else from now on."""
        feed = self._feed
        if not self._version or self._copy is not feed.copy:
            # Where the cluster was set back, versions are lower now.
            self._copy, self._version = None, await self._shelf.moment()
        await feed.refresh()
        if self._copy is None:
            self._copy = feed.copy
        elif self._copy is not feed.copy:
            return
        async with aclosing(self._watch(self._version)) as versions:
            async for version in versions:
                self._version, self._pause = version, _PAUSE_SECONDS_MIN
                if self._copy is not feed.copy:
                    return

    def _begin(self) -> None:
        """Tell, once, that following has started."""
        started, self._started = self._started, None
        if started is not None:
            started()

    async def _watch(self, version: str) -> AsyncGenerator[str]:
        """Watch once; yield the versions from which another watch can go on."""
        path = self._shelf.path(objects.CHANGES)
        async with watches.watching(self._client, path, version) as told:
            self.watching = True
            self._begin()
            async for each in told:
                if self._copy is not self._feed.copy:
                    return  # what it tells may be of what was lost
                yield await self._heed(each)

    async def _heed(self, told: watches.Told) -> str:
        """Take in what a line brings; return the version from which to go on."""
        news = objects.decode_news(told.object)
        position = objects.position_of(news)
        match told.type:
            case watches.ADDED if self._feed.is_new(news):
                if position > self._feed.head.position + 1:
                    await self._feed.catch_up()
                await self._feed.take(objects.decode_change(told.object))
            case watches.DELETED:
                self._feed.upset()  # perhaps it was our last one
                if position > self._feed.ledger.floor.position:
                    await self._feed.learn_floor()
            case watches.MODIFIED:
                await self._feed.renew(objects.decode_change(told.object))
            case _:
                pass  # a bookmark, or what we have
        return news.metadata.resource_version


def _is_lasting(error: Exception) -> bool:
    """Whether somebody has to do something about it."""
    return isinstance(error, StoreError) and not isinstance(error, UnavailableError)
