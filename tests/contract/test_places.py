"""Places: by position, by time, and the ends of transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from events import START, History, create, creations, key
from evstore.clock import wall_microseconds

if TYPE_CHECKING:
    from evstore.log import Log

BEYOND = (2, 1_000, 2**62, 2**63, 2**64, 2**70)


async def test_an_empty_log_has_only_its_genesis(log: Log) -> None:
    assert await log.place(0) == log.genesis
    assert await log.commit_of(0) == log.genesis
    assert await log.place(1) is None
    assert await log.commit_of(1) is None
    assert await log.locate(START) == log.genesis


async def test_each_position_has_its_place_and_the_end_of_its_transaction(
    log: Log, history: History
) -> None:
    creations(history, "a")
    creations(history, "bcd")
    creations(history, "ef")
    await log.append(history.events, after=log.genesis)
    for event in history.events:
        assert await log.place(event.position) == event.head
        end = history.events[event.commit - 1]
        assert await log.commit_of(event.position) == end.head
    assert await log.place(0) == log.genesis
    assert await log.commit_of(0) == log.genesis
    assert await log.head() == history.head


@pytest.mark.parametrize("position", BEYOND)
async def test_past_the_head_there_is_no_place_however_far(
    log: Log, history: History, position: int
) -> None:
    await log.append(creations(history, "a"), after=log.genesis)
    assert await log.place(position) is None
    assert await log.commit_of(position) is None


async def test_a_time_names_the_last_place_that_is_not_after_it(
    log: Log, history: History
) -> None:
    times = [START, START, START + 1, START + 5, START + 5, START + 5, START + 99]
    for number, time in enumerate(times):
        history.transaction(create(key(f"n{number}")), time=time)
    await log.append(history.events, after=log.genesis)
    for time in range(START - 2, START + 102):
        places = [event.head for event in history.events if event.time <= time]
        wanted = places[-1] if places else log.genesis
        assert await log.locate(time) == wanted, time - START


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 9])
async def test_a_log_of_any_length_is_searched_to_both_ends(
    log: Log, history: History, count: int
) -> None:
    for number in range(count):
        history.transaction(create(key(f"n{number}")), time=START + 10 * number)
    await log.append(history.events, after=log.genesis)
    assert await log.locate(START - 1) == log.genesis
    for event in history.events:
        assert await log.locate(event.time) == event.head
        assert await log.locate(event.time + 9) == event.head


async def test_the_end_of_time_names_the_head_and_its_beginning_the_genesis(
    log: Log, history: History
) -> None:
    await log.append(creations(history, "ab"), after=log.genesis)
    # The first and the last microsecond that a datetime can name.
    assert await log.locate(253_402_300_799_999_999) == history.head
    assert await log.locate(-62_135_596_800_000_000) == log.genesis


async def test_the_clock_tells_microseconds_since_1970(log: Log) -> None:
    # The server of the tests runs on this host.
    before = wall_microseconds()
    now = log.clock()
    assert abs(now - before) < 2_000_000
    assert isinstance(now, int)
    assert log.clock() >= now - 1_000_000
