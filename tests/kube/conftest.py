"""A namespace of its own for each test, and a way to it that can fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from events import History
from evstore.log import open_log
from kube.interference import Interference, interference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from apiserver import ApiServer
    from evstore.config import Config
    from evstore.log import Log


@pytest.fixture
def config(kubernetes_config: Config) -> Config:
    return kubernetes_config


@pytest.fixture
async def way(apiserver: ApiServer) -> AsyncIterator[Interference]:
    """Return a way to the API server that fails when it is told to."""
    async with interference(apiserver) as opened:
        yield opened


@pytest.fixture
async def log(config: Config, way: Interference) -> AsyncIterator[Log]:
    """Return an empty log, reached by that way."""
    async with open_log(way.config(config)) as opened:
        await opened.connect()
        yield opened


@pytest.fixture
async def other(config: Config, log: Log) -> AsyncIterator[Log]:
    """Return the same log as another instance has it, on its own way."""
    async with open_log(config) as opened:
        await opened.connect()
        assert opened.identity == log.identity
        yield opened


@pytest.fixture
def history(log: Log) -> History:
    """Return the maker of the log's events."""
    return History(log.genesis)
