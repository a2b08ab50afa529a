"""The clock that Date headers correct: never more than a second off."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from evstore.log.kubernetes import dates
from evstore.log.kubernetes.dates import DatedClock

SECOND = 1_000_000


class Host:
    """A host whose clocks stand where they are put."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot = 5 * SECOND
        self.wrong = 0
        monkeypatch.setattr(dates, "boot_microseconds", lambda: self.boot)
        monkeypatch.setattr(dates, "wall_microseconds", self.wall)

    def true(self) -> int:
        return 1_700_000_000 * SECOND + self.boot

    def wall(self) -> int:
        return self.true() + self.wrong

    def exchange(self, clock: DatedClock, *, there: int, back: int) -> None:
        """Ask a server that has the right time, and dates its answer in seconds."""
        sent = self.boot
        self.boot += there
        date = self.true() // SECOND * SECOND
        self.boot += back
        clock.measure(date, sent, self.boot)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_a_host_with_the_right_time_is_believed(host: Host) -> None:
    clock = DatedClock()
    assert clock.now() == host.true()
    for _ in range(20):
        host.boot += 370_001
        host.exchange(clock, there=900, back=1_100)
        assert clock.now() == host.true()


@pytest.mark.parametrize("wrong", [-3600, -3, -2, 2, 3, 86_400])
def test_a_host_with_a_wrong_time_is_corrected_to_a_second(
    host: Host, wrong: int
) -> None:
    host.wrong = wrong * SECOND
    clock = DatedClock()
    host.exchange(clock, there=900, back=1_100)
    assert abs(clock.now() - host.true()) <= SECOND + 2_000


def test_more_answers_narrow_what_is_open(host: Host) -> None:
    host.wrong = 3600 * SECOND
    clock = DatedClock()
    for _ in range(50):
        host.boot += 370_001
        host.exchange(clock, there=900, back=1_100)
    assert abs(clock.now() - host.true()) < 100_000


def test_a_clock_that_is_set_is_followed(host: Host) -> None:
    clock = DatedClock()
    host.exchange(clock, there=900, back=1_100)
    host.wrong = -60 * SECOND  # the server, and not we, was set forward by a minute
    host.boot += 60 * SECOND
    host.exchange(clock, there=900, back=1_100)
    assert abs(clock.now() - host.true()) <= SECOND + 2_000


@given(st.lists(st.tuples(*[st.integers(0, 5 * SECOND)] * 3), max_size=30))
def test_the_truth_is_never_ruled_out(steps: list[tuple[int, int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        host = Host(patch)
        clock = DatedClock()
        for pause, there, back in steps:
            host.boot += pause
            host.exchange(clock, there=there, back=back)
            assert clock.now() == host.true()


@pytest.mark.parametrize("wrong", [-3 * SECOND, 0, 2 * SECOND])
def test_how_far_the_server_is_ahead_is_bounded(host: Host, wrong: int) -> None:
    host.wrong = wrong
    clock = DatedClock()
    for _ in range(5):
        host.exchange(clock, there=130_000, back=90_000)
    bounds = clock.ahead()
    assert bounds is not None
    least, most = bounds
    assert least <= -wrong <= most
    assert most - least < 2 * SECOND
