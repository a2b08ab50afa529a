"""Picking events by their positions, and looking at connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from events import History, creations
from evstore.log import MemoryLog
from evstore.log.postgres import PostgresLog

if TYPE_CHECKING:
    from evstore.log import Log


async def test_the_events_at_some_positions_come_in_order(
    log: Log, history: History
) -> None:
    await log.append(creations(history, "abcde"), after=log.genesis)
    picked = await log.pick([4, 1, 3])
    assert picked == [history.events[each - 1] for each in (1, 3, 4)]
    assert await log.pick([]) == []


async def test_positions_that_the_log_has_not_got_are_left_out(
    log: Log, history: History
) -> None:
    await log.append(creations(history, "ab"), after=log.genesis)
    assert await log.pick([2, 3, 2**63 - 1, 2**70]) == history.events[1:]


@pytest.mark.parametrize("config", ["memory", "postgres", "kubernetes"], indirect=True)
async def test_connections_are_counted_where_there_is_a_server(
    log: Log, history: History
) -> None:
    await log.append(creations(history, "a"), after=log.genesis)
    assert (await log.head()).position == 1
    found = log.connections()
    if isinstance(log, MemoryLog):
        assert found is None
        assert log.listening
        return
    assert found is not None
    assert found.writer
    # An API server is asked over connections that come and go.
    least = 1 if isinstance(log, PostgresLog) else 0
    assert least <= found.readers <= found.readers_max
    assert found.readers_wanted == 0
    assert found.listener in (True, False)
