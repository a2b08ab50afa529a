"""So many writes a second, by a clock that the test moves."""

from __future__ import annotations

import pytest

from evstore.mirror.pace import Pace


class Clock:
    """A clock that goes on while somebody sleeps, and how long they did."""

    def __init__(self) -> None:
        self.now = 0
        self.slept: list[float] = []

    def __call__(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += round(seconds * 1e6)


@pytest.mark.parametrize("rate", [1, 3, 20, 1000])
async def test_writes_are_never_nearer_than_the_rate_says(rate: int) -> None:
    clock = Clock()
    pace = Pace(rate, clock=clock, sleep=clock.sleep)
    times = []
    for _ in range(10):
        await pace.ready()
        times.append(clock.now)
        pace.took()
    assert times == [number * (1_000_000 // rate) for number in range(10)]


async def test_the_first_and_what_comes_late_need_not_wait() -> None:
    clock = Clock()
    pace = Pace(20, clock=clock, sleep=clock.sleep)
    await pace.ready()
    pace.took()
    clock.now += 10_000_000
    await pace.ready()
    assert clock.slept == []
    pace.took()
    # What was not used is not saved up.
    await pace.ready()
    assert clock.slept == [0.05]


async def test_what_is_not_written_takes_nothing() -> None:
    clock = Clock()
    pace = Pace(20, clock=clock, sleep=clock.sleep)
    for _ in range(5):
        await pace.ready()
    assert clock.slept == []


async def test_a_sleep_that_ends_early_is_gone_on_with() -> None:
    clock = Clock()

    async def doze(seconds: float) -> None:
        await clock.sleep(seconds / 2 if seconds > 0.001 else seconds)

    pace = Pace(20, clock=clock, sleep=doze)
    pace.took()
    await pace.ready()
    assert clock.now == 50_000
