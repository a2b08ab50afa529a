"""Compare-and-append: directly after a place that was seen, all of it or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

from events import History, assert_chained, create, creations, everything, key
from evstore.log import HeadMovedError, Log, MemoryLog, open_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore.config import Config
    from evstore.model import Head, StoredEvent


async def test_an_empty_log_has_its_genesis_as_head(log: Log) -> None:
    assert await log.head() == log.genesis
    assert await everything(log) == []
    assert log.genesis.position == 0


async def test_what_is_appended_reads_back_byte_for_byte(
    log: Log, history: History
) -> None:
    events = history.transaction(
        create(
            key("web"), {"b": 1.0, "a": [None, "é"]}, status={"up": True}, labels={}
        ),
        actor="alice",
        reason="why not",
        request_id="r-1",
        request_digest="d",
    )
    await log.append(events, after=log.genesis)
    assert await everything(log) == events
    assert await log.head() == events[-1].head


async def test_several_transactions_go_in_one_append(
    log: Log, history: History
) -> None:
    events = [*creations(history, "ab"), *creations(history, "cde")]
    await log.append(events, after=log.genesis)
    read = await everything(log)
    assert [event.commit for event in read] == [2, 2, 5, 5, 5]
    assert_chained(read, log.genesis)


async def assert_refused(log: Log, events: list[StoredEvent], after: Head) -> None:
    before = await everything(log)
    with pytest.raises(HeadMovedError):
        await log.append(events, after=after)
    assert await everything(log) == before


async def test_an_append_after_a_place_that_has_a_successor_is_refused_whole(
    log: Log, history: History
) -> None:
    await log.append(creations(history, "ab"), after=log.genesis)
    late = History(log.genesis)
    await assert_refused(log, creations(late, "xyz"), log.genesis)


async def test_an_append_that_would_overlap_the_end_is_refused_whole(
    log: Log, history: History
) -> None:
    first = creations(history, "a")
    await log.append(first, after=log.genesis)
    stale = history.head
    late = History(stale)
    await log.append(creations(history, "b"), after=stale)
    await assert_refused(log, creations(late, "xy"), stale)


async def test_an_append_after_another_hash_is_refused_whole(
    log: Log, history: History
) -> None:
    await log.append(creations(history, "a"), after=log.genesis)
    wrong = msgspec.structs.replace(history.head, hash=bytes(32))
    await assert_refused(log, creations(History(wrong), "b"), wrong)


async def test_an_append_after_another_logs_genesis_is_refused_whole(
    log: Log,
) -> None:
    wrong = msgspec.structs.replace(log.genesis, hash=bytes(32))
    await assert_refused(log, creations(History(wrong), "b"), wrong)


async def test_an_append_past_the_head_is_refused_whole(
    log: Log, history: History
) -> None:
    await log.append(creations(history, "a"), after=log.genesis)
    creations(history, "b")  # never appended
    missing = history.head
    await assert_refused(log, creations(history, "c"), missing)


async def test_a_refused_append_leaves_the_log_usable(
    log: Log, history: History
) -> None:
    stale = creations(History(log.genesis), "z")
    first = creations(history, "a")
    await log.append(first, after=log.genesis)
    await assert_refused(log, stale, log.genesis)
    await log.append(creations(history, "b"), after=first[-1].head)
    assert await everything(log) == history.events


async def test_of_two_appends_after_one_place_exactly_one_wins(
    log: Log, other: Log
) -> None:
    for _ in range(20):
        place = await log.head()
        rivals = [creations(History(place), names) for names in ("ab", "cd")]
        won: list[list[StoredEvent]] = []

        async def race(
            mine: Log,
            events: list[StoredEvent],
            place: Head = place,
            won: list[list[StoredEvent]] = won,
        ) -> None:
            try:
                await mine.append(events, after=place)
            except HeadMovedError:
                return
            won.append(events)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(race, log, rivals[0])
            tasks.start_soon(race, other, rivals[1])
        assert len(won) == 1
        assert (await everything(log))[place.position :] == won[0]
    assert_chained(await everything(log), log.genesis)


async def test_an_append_is_seen_by_another_instance_at_once(
    log: Log, other: Log, history: History
) -> None:
    await log.append(creations(history, "a"), after=log.genesis)
    assert await other.head() == history.head
    assert await other.read_on(log.genesis) == history.events


@pytest.mark.slow
async def test_twenty_thousand_events_go_in_one_append(
    log: Log, history: History
) -> None:
    events = creations(history, (f"n{number}" for number in range(20_000)))
    await log.append(events, after=log.genesis)
    assert await everything(log) == events


async def test_a_turn_reads_on_and_appends(
    log: Log, other: Log, history: History
) -> None:
    await other.append(creations(history, "a"), after=log.genesis)
    async with log.turn(log.genesis) as turn:
        assert turn.following == history.events
        assert await turn.read_on(log.genesis) == history.events
        assert await turn.read_on(history.head) == []
        after = history.head
        await turn.append(creations(history, "b"), after=after)
    assert await everything(log) == history.events


async def test_a_turn_without_an_append_changes_nothing_and_frees_the_next(
    log: Log, other: Log, history: History
) -> None:
    async with log.turn(log.genesis):
        pass
    with pytest.raises(ZeroDivisionError):
        async with log.turn(log.genesis):
            raise ZeroDivisionError
    async with other.turn(other.genesis) as turn:
        await turn.append(creations(history, "a"), after=log.genesis)
    assert await everything(log) == history.events


async def test_a_turn_does_not_excuse_an_append_after_the_wrong_place(
    log: Log, history: History
) -> None:
    await log.append(creations(history, "a"), after=log.genesis)
    stale = creations(History(log.genesis), "b")
    with pytest.raises(HeadMovedError):
        async with log.turn(log.genesis) as turn:
            await turn.append(stale, after=log.genesis)
    await log.append(creations(history, "c"), after=history.events[0].head)
    assert await everything(log) == history.events


async def test_turns_exclude_each_other(log: Log, other: Log) -> None:
    inside = 0
    rounds = 0

    async def take(mine: Log, name: str) -> None:
        nonlocal inside, rounds
        for _ in range(5):
            async with mine.turn(mine.genesis) as turn:
                inside += 1
                assert inside == 1
                place = await mine.head() if mine is log else await other.head()
                history = History(place)
                await anyio.lowlevel.checkpoint()
                events = history.transaction(create(key(f"{name}-{place.position}")))
                inside -= 1
                await turn.append(events, after=place)
                rounds += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, log, "a")
        tasks.start_soon(take, other, "b")
    assert rounds == 10
    assert_chained(await everything(log), log.genesis)


class Landings:
    """How appends ended that were sent without waiting, in the order of their ends."""

    def __init__(self, count: int) -> None:
        self.ends: list[tuple[str, Exception | None]] = []
        self._left = count
        self._all = anyio.Event()

    def of(self, name: str) -> Callable[[Exception | None], None]:
        def landed(error: Exception | None) -> None:
            self.ends.append((name, error))
            self._left -= 1
            if not self._left:
                self._all.set()

        return landed

    async def all(self) -> None:
        with anyio.fail_after(10):
            await self._all.wait()


async def test_two_appends_are_in_flight_and_land_in_order(
    log: Log, history: History
) -> None:
    landings = Landings(2)
    first = creations(history, "a")
    second = creations(history, "b")
    assert log.send(first, after=log.genesis, landed=landings.of("first"))
    assert log.send(second, after=first[-1].head, landed=landings.of("second"))
    assert landings.ends == []  # not from the call itself
    await landings.all()
    assert landings.ends == [("first", None), ("second", None)]
    assert await everything(log) == history.events


async def test_the_second_append_in_flight_fails_with_the_first(
    log: Log, other: Log, history: History
) -> None:
    mine = History(log.genesis)
    first, second = creations(mine, "a"), creations(mine, "b")
    await other.append(creations(history, "x"), after=log.genesis)
    landings = Landings(2)
    assert log.send(first, after=log.genesis, landed=landings.of("first"))
    assert log.send(second, after=first[-1].head, landed=landings.of("second"))
    await landings.all()
    assert [name for name, _ in landings.ends] == ["first", "second"]
    assert all(isinstance(error, HeadMovedError) for _, error in landings.ends)
    assert await everything(log) == history.events


async def test_an_append_is_not_begun_without_a_connection(
    config: Config, history: History
) -> None:
    async with open_log(config) as unconnected:
        if isinstance(unconnected, MemoryLog):
            return  # nothing to connect to
        landings = Landings(1)
        events = creations(history, "a")
        assert not unconnected.send(
            events, after=unconnected.genesis, landed=landings.of("a")
        )
        await unconnected.append(events, after=unconnected.genesis)
        assert landings.ends == []
