"""Moments as people write them: positions of the log, times, and spans before now."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

from evstore.cli.session import UsageError
from evstore.clock import to_datetime, wall_microseconds

_SPAN: Final = re.compile(r"((?:\d+(?:ms|[wdhms]))+)(?: ago)?")
_PART: Final = re.compile(r"(\d+)(ms|[wdhms])")
_UNITS: Final = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_DAY: Final = re.compile(r"(today|yesterday)(?: (\d{1,2}):(\d{2})(?::(\d{2}))?)?")
_POSITION_DIGITS_MAX: Final = 18  # positions are 64-bit integers

_ALLOWED: Final = (
    "a position (42), a time (2026-03-01T14:00, local where no zone is given),"
    " a span before now (2h, 15m, 3d), now, or today or yesterday with a time"
    " (yesterday 14:00)"
)


def local_now() -> datetime:
    """Return the time here and now, in the zone of this machine."""
    return to_datetime(wall_microseconds()).astimezone()


def parse_moment(text: str, *, now: datetime) -> int | datetime:
    """Return the position, or the aware datetime, that `text` means.

    Raises:
        ValueError: it means neither.
    """
    words = " ".join(text.split()).lower()
    found = _parse(text, words, now)
    return _zoned(found, text) if isinstance(found, datetime) else found


def _parse(text: str, words: str, now: datetime) -> int | datetime:
    if words.isascii() and words.isdigit() and len(words) <= _POSITION_DIGITS_MAX:
        return int(words)
    if words == "now":
        return now
    try:
        if span := _SPAN.fullmatch(words):
            parts = _PART.findall(span[1])
            return now - sum(
                (int(count) * _UNITS[unit] for count, unit in parts), timedelta()
            )
        if day := _DAY.fullmatch(words):
            return _on_day(day, now)
        return datetime.fromisoformat(text.strip().upper())
    except (ValueError, OverflowError) as error:
        raise _no_moment(text) from error


def _no_moment(text: str) -> ValueError:
    return ValueError(f"{text!r} is no moment: use {_ALLOWED}")


def moment(text: str | None, option: str) -> int | datetime | None:
    """Return what an option's text means; None where it was not given.

    Raises:
        UsageError: it means nothing.
    """
    if text is None:
        return None
    try:
        return parse_moment(text, now=local_now())
    except ValueError as error:
        message = f"{option}: {error}"
        raise UsageError(message) from error


def past_moment(text: str | None, option: str) -> int | datetime | None:
    """Return what an option's text means; None for the present, `now` included.

    The log's clock may be behind this machine's, so that `now` here lies in its future.
    """
    if text is not None and text.strip().lower() == "now":
        return None
    return moment(text, option)


def _on_day(day: re.Match[str], now: datetime) -> datetime:
    date = now.date() - timedelta(days=day[1] == "yesterday")
    hour, minute, second = (int(part or 0) for part in day.groups()[1:])
    return datetime(date.year, date.month, date.day, hour, minute, second)  # noqa: DTZ001


def _zoned(time: datetime, text: str) -> datetime:
    """Give a time without zone the local one, with the offset as of that day.

    Raises:
        ValueError: where clocks are changed, no or two moments have that time; or it is
            at the end of all times.
    """
    if time.tzinfo:
        return time
    try:
        first, second = (time.replace(fold=fold).astimezone() for fold in (0, 1))
    except (ValueError, OverflowError) as error:  # beyond the years 1 to 9999
        raise _no_moment(text) from error
    if first.utcoffset() == second.utcoffset():
        return first
    there = first.replace(tzinfo=None) == time
    how_often = "comes twice" if there else "is skipped"
    choice = " or ".join(each.isoformat() for each in sorted((first, second)))
    message = f"{text!r} {how_often} here, as clocks are changed: use {choice}"
    raise ValueError(message)
