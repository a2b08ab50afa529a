"""Durations are read and written as Go does it."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from evstore.config.durations import SECONDS_MAX, format_duration, parse_duration


@given(st.integers(0, 2**63 - 1).map(lambda nanoseconds: nanoseconds / 10**9))
def test_durations_round_trip(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.floats(0, SECONDS_MAX))
def test_any_duration_is_kept_to_the_nanosecond(seconds: float) -> None:
    found = parse_duration(format_duration(seconds))
    assert found == pytest.approx(seconds, rel=1e-15, abs=5e-10)


@pytest.mark.parametrize(
    ("text", "seconds", "shortest"),
    [
        ("0", 0.0, "0s"),
        ("200ms", 0.2, "200ms"),
        ("1h", 3600.0, "1h"),
        ("1h30m", 5400.0, "1h30m"),
        ("1h0m0s", 3600.0, "1h"),
        (".5s", 0.5, "500ms"),
        ("1.s", 1.0, "1s"),
        ("1.5h", 5400.0, "1h30m"),
        ("100\N{MICRO SIGN}s", 1e-4, "100us"),
        ("1500us", 0.0015, "1.5ms"),
        ("61.25s", 61.25, "1m1.25s"),
        ("1s1s", 2.0, "2s"),
        ("+5s", 5.0, "5s"),
        ("-1m", -60.0, "-1m"),
        ("1.0000000009s", 1.0, "1s"),
        ("2562047h47m16.854775807s", SECONDS_MAX, "2562047h47m16.854775807s"),
    ],
)
def test_durations_are_read_as_go_reads_them(
    text: str, seconds: float, shortest: str
) -> None:
    assert parse_duration(text) == seconds
    assert format_duration(seconds) == shortest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "5",
        "s",
        ".s",
        "1 s",
        "1h 30m",
        "1S",
        "1d",
        "1e3s",
        "--1s",
        "5s ",
        "\u0661s",
        "2562047h47m16.854775808s",
        "9" * 5000 + "s",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # its text is not for users
        parse_duration(text)
