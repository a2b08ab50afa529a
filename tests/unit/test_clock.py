"""Times are whole microseconds since 1970."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from evstore.clock import (
    OffsetClock,
    boot_microseconds,
    to_datetime,
    to_microseconds,
    wall_microseconds,
)

BEGINNING = -62_135_596_800_000_000
END = 253_402_300_799_999_999


@given(st.integers(BEGINNING, END))
def test_a_time_survives_as_a_datetime_to_the_microsecond(time: int) -> None:
    moment = to_datetime(time)
    assert moment.utcoffset() == timedelta(0)
    assert to_microseconds(moment) == time


def test_known_moments() -> None:
    assert to_datetime(0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert to_microseconds(datetime(2001, 9, 9, 1, 46, 40, 1, tzinfo=UTC)) == (
        1_000_000_000_000_001
    )
    assert to_microseconds(datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)) == -1_000_000


def test_the_time_zone_makes_no_difference() -> None:
    here = timezone(timedelta(hours=5, minutes=30))
    moment = datetime(2020, 1, 1, 5, 30, tzinfo=here)
    assert to_microseconds(moment) == to_microseconds(datetime(2020, 1, 1, tzinfo=UTC))


def test_a_datetime_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        to_microseconds(datetime(2020, 1, 1))  # noqa: DTZ001 - that is the point


def test_the_hosts_clocks_go_forward() -> None:
    assert wall_microseconds() > 1_700_000_000_000_000
    first = boot_microseconds()
    assert boot_microseconds() >= first


def test_another_clock_is_taken_to_be_told_in_the_middle() -> None:
    clock = OffsetClock()
    known_before = clock.known
    now = boot_microseconds()
    clock.measure(5_000_000, sent=now - 1_000, received=now + 1_000)
    assert (known_before, clock.known) == (False, True)
    assert 0 <= clock.now() - 5_000_000 < 1_000_000


def test_the_last_measurement_counts() -> None:
    clock = OffsetClock()
    now = boot_microseconds()
    clock.measure(10**15, sent=now, received=now)
    clock.measure(7, sent=now, received=now)
    assert clock.now() < 1_000_000


def test_a_clock_that_was_never_measured_tells_nothing() -> None:
    with pytest.raises(AssertionError):
        OffsetClock().now()
