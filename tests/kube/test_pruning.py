"""Which snapshots stay in a cluster, whatever the clock says."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from uuid import uuid4

import pytest

from events import History, create, key
from evstore.log import Instance, Stamp

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evstore.log import Log, Snapshot
    from evstore.log.kubernetes import KubernetesLog
    from evstore.model import Head

SECOND = 1_000_000
HOUR = 3600 * SECOND


class Clock:
    """The time that a test sets."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock(log: Log) -> Clock:
    """Have the log's snapshots and heartbeats go by a clock of the test's own."""
    made = Clock(log.clock())
    kubernetes = cast("KubernetesLog", log)
    kubernetes._snapshots._clock = made
    kubernetes._heartbeats._clock = made
    return made


async def heads(log: Log, history: History, count: int) -> list[Head]:
    found: list[Head] = []
    for number in range(count):
        after = history.head
        await log.append(history.transaction(create(key(f"dp-{number}"))), after=after)
        found.append(history.head)
    return found


async def saved(log: Log, place: Head, *, version: int = 1) -> Snapshot:
    async def chunks() -> AsyncGenerator[bytes]:
        yield b"state"

    stamp = Stamp(
        log=log.identity,
        projection="resources",
        version=version,
        fingerprint="",
        head=place,
        digest=bytes(32),
    )
    kept = await log.save_snapshot(stamp, chunks(), code_version="1")
    assert kept is not None
    return kept


async def test_the_new_one_stays_though_the_clock_was_set_back(
    log: Log, history: History, clock: Clock
) -> None:
    first, second, third = await heads(log, history, 3)
    await saved(log, first)
    clock.now += SECOND
    last = await saved(log, second)
    clock.now -= HOUR
    new = await saved(log, third)
    assert [each.id for each in await log.snapshots()] == [new.id, last.id]


async def test_what_other_code_has_stored_goes_when_nobody_has_run_it_for_a_minute(
    log: Log, history: History, clock: Clock
) -> None:
    (place,) = await heads(log, history, 1)
    other = await saved(log, place, version=2)
    clock.now += 25 * HOUR
    running = Instance(
        id=uuid4(),
        position=1,
        digest=bytes(32),
        code_version="1",
        projections=("resources:2:",),
    )
    await log.beat(running)
    own = [await saved(log, place)]
    assert other.id in {each.id for each in await log.snapshots()}
    clock.now += 61 * SECOND
    own.append(await saved(log, place))
    assert {each.id for each in await log.snapshots()} == {each.id for each in own}
