"""Moments: positions, times, spans before now."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from evstore.cli.input.times import local_now, moment, parse_moment, past_moment
from evstore.cli.session import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 3, 29, 12, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put this machine into a zone that changes its clocks on the day of NOW."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def parse(text: str) -> object:
    return parse_moment(text, now=NOW.astimezone())


@pytest.mark.parametrize(("text", "position"), [("0", 0), ("42", 42), (" 7 ", 7)])
def test_digits_are_a_position(text: str, position: int) -> None:
    assert parse(text) == position


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("2h", timedelta(hours=2)),
        ("15m", timedelta(minutes=15)),
        ("3d", timedelta(days=3)),
        ("1w", timedelta(weeks=1)),
        ("1h30m", timedelta(minutes=90)),
        ("90s ago", timedelta(seconds=90)),
        ("5ms", timedelta(milliseconds=5)),
        ("now", timedelta(0)),
        ("NOW", timedelta(0)),
    ],
)
def test_a_span_is_counted_back_from_now(text: str, before: timedelta) -> None:
    assert parse(text) == NOW - before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T14:00:00Z", datetime(2026, 3, 1, 14, tzinfo=UTC)),
        ("2026-03-01t14:00z", datetime(2026, 3, 1, 14, tzinfo=UTC)),
        ("2026-03-01 14:00+02:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        # Berlin: one hour ahead of UTC in winter, two in summer.
        ("2026-03-01 14:00", datetime(2026, 3, 1, 13, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 2, 28, 23, tzinfo=UTC)),
        ("2026-07-01 14:00:01.5", datetime(2026, 7, 1, 12, 0, 1, 500_000, tzinfo=UTC)),
        ("today 9:00", datetime(2026, 3, 29, 7, tzinfo=UTC)),
        ("today 1:00", datetime(2026, 3, 29, 0, tzinfo=UTC)),
        ("yesterday 14:00", datetime(2026, 3, 28, 13, tzinfo=UTC)),
        ("Yesterday  14:00:05", datetime(2026, 3, 28, 13, 0, 5, tzinfo=UTC)),
        ("yesterday", datetime(2026, 3, 27, 23, tzinfo=UTC)),
        ("today", datetime(2026, 3, 28, 23, tzinfo=UTC)),
    ],
)
def test_a_time_without_zone_is_local(text: str, expected: datetime) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "foo", "-1", "2x", "h", "2h 15", "tomorrow", "yesterday 25:00"),
        *(
            "yesterday 14",
            "2026-13-01",
            "9" * 19,
            "99999999999w",
            "0001-01-01",  # before the year 1 in UTC
            "\N{DEVANAGARI DIGIT ONE}",
        ),
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r"no moment: use a position \(42\)"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "2026-10-25 02:30",
            (
                "comes twice here, as clocks are changed: use"
                " 2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00"
            ),
        ),
        (
            "2026-03-29 02:30",
            (
                "is skipped here, as clocks are changed: use"
                " 2026-03-29T01:30:00+01:00 or 2026-03-29T03:30:00+02:00"
            ),
        ),
        ("today 2:30", "is skipped here"),
    ],
)
def test_a_local_time_that_names_no_or_two_moments_is_refused(
    text: str, why: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        parse(text)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-10-25 01:59:59", "2026-10-24 23:59:59"),
        ("2026-10-25 03:00", "2026-10-25 02:00:00"),
        ("2026-10-25 02:30+01:00", "2026-10-25 01:30:00"),
        ("2026-03-29 01:59:59", "2026-03-29 00:59:59"),
        ("2026-03-29 03:00", "2026-03-29 01:00:00"),
    ],
)
def test_times_around_a_change_of_clocks_are_clear(text: str, utc: str) -> None:
    assert parse(text) == datetime.fromisoformat(utc).replace(tzinfo=UTC)


def test_an_option_that_means_nothing_is_named() -> None:
    with pytest.raises(UsageError, match=r"--since: 'foo'"):
        moment("foo", "--since")


def test_what_was_not_given_is_no_moment() -> None:
    assert moment(None, "--since") is None


def test_now_is_no_time_in_the_past() -> None:
    # The clock of the database may be behind.
    assert past_moment(" Now ", "--at") is None
    assert past_moment("5", "--at") == 5
    assert past_moment(None, "--at") is None


def test_the_present_has_a_zone() -> None:
    assert local_now().tzinfo is not None
