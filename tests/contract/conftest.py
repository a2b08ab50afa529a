"""Each test of the contract runs on every log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from events import History
from evstore.config import Config
from evstore.log import MemoryLog, open_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from evstore.log import Log


@pytest.fixture(params=["memory", "postgres", "pooled", "kubernetes"])
def config(request: pytest.FixtureRequest) -> Config:
    if request.param == "memory":
        return Config()
    found: Config = request.getfixturevalue(f"{request.param}_config")
    return found


@pytest.fixture
async def log(config: Config) -> AsyncIterator[Log]:
    """Return an empty log."""
    async with open_log(config) as opened:
        await opened.connect()
        yield opened


@pytest.fixture
async def other(config: Config, log: Log) -> AsyncIterator[Log]:
    """Return the same log as another instance has it."""
    if isinstance(log, MemoryLog):
        yield log
        return
    async with open_log(config) as opened:
        await opened.connect()
        yield opened


@pytest.fixture
def history(log: Log) -> History:
    """Return the maker of the log's events."""
    return History(log.genesis)
