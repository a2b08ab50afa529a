"""Each test of the contract runs on every log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from events import History
from evstore.config import Config
from evstore.log import MemoryLog, open_log
from evstore.log.current import CurrentLog, current_log
from evstore.schemas import Schemas, upcaster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from evstore.log import Log


def _unchanged(body: dict[str, Any]) -> dict[str, Any]:
    return body


# "current": as programs see it that declare upcasters, of types that are not there.
@pytest.fixture(params=["memory", "current", "postgres", "pooled", "kubernetes"])
def config(request: pytest.FixtureRequest) -> Config:
    if request.param in {"memory", "current"}:
        return Config()
    found: Config = request.getfixturevalue(f"{request.param}_config")
    return found


@pytest.fixture
async def log(request: pytest.FixtureRequest, config: Config) -> AsyncIterator[Log]:
    """Return an empty log."""
    async with open_log(config) as opened:
        await opened.connect()
        name: str = request.node.callspec.params["config"]
        if name == "current":
            schemas = Schemas([], [upcaster("Unused", from_version=1)(_unchanged)])
            yield current_log(opened, schemas)
        else:
            yield opened


@pytest.fixture
async def other(config: Config, log: Log) -> AsyncIterator[Log]:
    """Return the same log as another instance has it."""
    if isinstance(log, MemoryLog | CurrentLog):
        yield log
        return
    async with open_log(config) as opened:
        await opened.connect()
        yield opened


@pytest.fixture
def history(log: Log) -> History:
    """Return the maker of the log's events."""
    return History(log.genesis)
