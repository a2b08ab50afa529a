"""Following: reading on after a place, and waiting for what comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

from events import History, create, creations, key
from evstore.clock import boot_microseconds
from evstore.errors import DivergedError

if TYPE_CHECKING:
    from evstore.log import Log

LONG_SECONDS = 30
# Nothing is heard through a pooler: there, waiting only ends at its time-out.
HEARING = pytest.mark.parametrize(
    "config", ["memory", "postgres", "kubernetes"], indirect=True
)


async def test_reading_on_gives_what_follows_and_then_nothing(
    log: Log, other: Log, history: History
) -> None:
    assert await log.read_on(log.genesis) == []
    first = creations(history, "ab")
    await other.append(first, after=log.genesis)
    place = history.head
    second = creations(history, "c")
    await other.append(second, after=place)
    assert await log.read_on(log.genesis) == first + second
    assert await log.read_on(place) == second
    assert await log.read_on(history.head) == []


async def test_reading_on_gives_whole_transactions_only(
    log: Log, history: History
) -> None:
    sizes = [1, 700, 2_500, 3, 1_800, 700, 1]
    for number, size in enumerate(sizes):
        creations(history, (f"t{number}-{index}" for index in range(size)))
    await log.append(history.events, after=log.genesis)
    place = log.genesis
    batches = []
    while batch := await log.read_on(place):
        assert batch[-1].position == batch[-1].commit
        assert batch[0].position == place.position + 1
        batches.append(batch)
        place = batch[-1].head
    assert [event for batch in batches for event in batch] == history.events
    assert len(batches) > 1


async def test_reading_on_from_inside_a_transaction_gives_the_rest_of_it(
    log: Log, history: History
) -> None:
    events = creations(history, "abcd")
    await log.append(events, after=log.genesis)
    assert await log.read_on(events[1].head) == events[2:]


async def test_reading_on_after_a_foreign_hash_diverges(
    log: Log, history: History
) -> None:
    await log.append(creations(history, "ab"), after=log.genesis)
    wrong = msgspec.structs.replace(history.events[0].head, hash=bytes(32))
    with pytest.raises(DivergedError):
        await log.read_on(wrong)


async def test_reading_on_after_a_foreign_genesis_diverges(
    log: Log, history: History
) -> None:
    await log.append(creations(history, "ab"), after=log.genesis)
    wrong = msgspec.structs.replace(log.genesis, hash=bytes(32))
    with pytest.raises(DivergedError):
        await log.read_on(wrong)


async def test_reading_on_past_the_head_diverges(log: Log, history: History) -> None:
    await log.append(creations(history, "a"), after=log.genesis)
    creations(history, "b")  # lost
    with pytest.raises(DivergedError):
        await log.read_on(history.head)


async def test_a_log_that_diverged_for_one_reader_is_there_for_the_next(
    log: Log, history: History
) -> None:
    await log.append(creations(history, "a"), after=log.genesis)
    wrong = msgspec.structs.replace(history.head, hash=bytes(32))
    with pytest.raises(DivergedError):
        await log.read_on(wrong)
    assert await log.read_on(log.genesis) == history.events


@pytest.mark.parametrize("config", ["postgres"], indirect=True)
async def test_reading_on_is_bounded_by_bytes_as_well(
    log: Log, history: History
) -> None:
    """A server joins no more than 1 GiB: large events must not add up to that."""
    count = 40
    for number in range(count):
        history.transaction(create(key(f"n{number}"), {"blob": "x" * (1024 * 1024)}))
    await log.append(history.events, after=log.genesis)
    read = await log.read_on(log.genesis)
    assert 0 < len(read) < count
    assert read == history.events[: len(read)]


async def quiet(log: Log, position: int) -> None:
    """Take the wake-ups that are due: for what was appended, and when listening began.

    There is at least one, as there is an event.
    """
    await log.wait(0, seconds=LONG_SECONDS)
    lasted = 0
    while lasted < 100_000:
        began = boot_microseconds()
        await log.wait(position, seconds=0.15)
        lasted = boot_microseconds() - began


@HEARING
async def test_waiting_ends_when_another_instance_appends(
    log: Log, other: Log, history: History
) -> None:
    await other.append(creations(history, "a"), after=log.genesis)
    with anyio.fail_after(LONG_SECONDS / 3):
        await quiet(log, 1)
    place = history.head
    began = anyio.Event()
    ended = anyio.Event()

    async def follow() -> None:
        began.set()
        await log.wait(place.position, seconds=LONG_SECONDS)
        ended.set()

    with anyio.fail_after(LONG_SECONDS / 3):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await began.wait()
            await other.append(creations(history, "b"), after=place)
    assert ended.is_set()
    assert (await log.head()).position > place.position


@HEARING
async def test_what_was_appended_before_the_wait_ends_it_at_once(
    log: Log, other: Log, history: History
) -> None:
    await other.append(creations(history, "a"), after=log.genesis)
    with anyio.fail_after(LONG_SECONDS / 3):
        await quiet(log, 1)
        place = history.head
        await other.append(creations(history, "b"), after=place)
        await log.wait(place.position, seconds=LONG_SECONDS)
    assert await log.read_on(place) == history.events[1:]


@HEARING
async def test_waiting_ends_at_its_timeout(log: Log, history: History) -> None:
    await log.append(creations(history, "a"), after=log.genesis)
    with anyio.fail_after(LONG_SECONDS / 3):
        await quiet(log, 1)
        began = boot_microseconds()
        await log.wait(1, seconds=0.05)
        assert boot_microseconds() - began >= 40_000


@HEARING
async def test_a_wait_can_be_cancelled_and_begun_again(
    log: Log, other: Log, history: History
) -> None:
    await other.append(creations(history, "a"), after=log.genesis)
    with anyio.fail_after(LONG_SECONDS / 3):
        await quiet(log, 1)
        with anyio.move_on_after(0.01) as scope:
            await log.wait(1, seconds=LONG_SECONDS)
        assert scope.cancelled_caught
        place = history.head
        await other.append(creations(history, "b"), after=place)
        await log.wait(place.position, seconds=LONG_SECONDS)
