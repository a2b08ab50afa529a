"""Durations as Go writes them (`200ms`, `1h30m`), held as floats in seconds.

They are read by Go's rules, because that is what the files that we take over were
written for: signs, fractions and several units in a row are allowed, a fraction of a
nanosecond is cut off, and the range is that of 64 bits of nanoseconds.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

_SECOND: Final = 10**9
_UNITS: Final = {
    "h": 3600 * _SECOND,
    "m": 60 * _SECOND,
    "s": _SECOND,
    "ms": 10**6,
    "us": 10**3,
    "\N{MICRO SIGN}s": 10**3,
    "\N{GREEK SMALL LETTER MU}s": 10**3,
    "ns": 1,
}
_PART: Final = re.compile(
    r"(?P<whole>[0-9]*)(?:\.(?P<fraction>[0-9]*))?(?P<unit>[mun\u00b5\u03bc]s|[hms])"
)
_NANOSECONDS_MAX: Final = 2**63 - 1
SECONDS_MAX: Final = _NANOSECONDS_MAX / _SECOND


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `1h30m`; only `0` may have no unit.

    Raises:
        ValueError: `text` is no duration, or does not fit into 64 bits of nanoseconds.
    """
    unsigned = text[1:] if text[:1] in {"+", "-"} else text
    if unsigned == "0":
        return 0.0
    if not unsigned:
        raise ValueError("a duration is not empty")
    nanoseconds = 0
    end = 0
    while end < len(unsigned):
        part = _PART.match(unsigned, end)
        if part is None or not (part["whole"] or part["fraction"]):
            raise ValueError("a duration is numbers with units")
        unit, fraction = _UNITS[part["unit"]], part["fraction"] or "0"
        nanoseconds += int(part["whole"] or "0") * unit
        nanoseconds += int(fraction) * unit // 10 ** len(fraction)
        end = part.end()
    if nanoseconds > _NANOSECONDS_MAX:
        raise ValueError("a duration has 64 bits of nanoseconds")
    return (-nanoseconds if text.startswith("-") else nanoseconds) / _SECOND


def format_duration(seconds: float) -> str:
    """Return the shortest text that `parse_duration` reads as these seconds.

    Anything finer than a nanosecond is rounded. The greatest duration is not quite a
    float, and the nearest float is beyond it: that is brought back.
    """
    exact = round(Fraction(seconds) * _SECOND)
    nanoseconds = max(-_NANOSECONDS_MAX, min(exact, _NANOSECONDS_MAX))
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if left == 0:
        return "0s"
    if left < _SECOND:
        unit = next(unit for unit in ("ms", "us", "ns") if left >= _UNITS[unit])
        return f"{sign}{_decimal(left, _UNITS[unit])}{unit}"
    hours, left = divmod(left, _UNITS["h"])
    minutes, left = divmod(left, _UNITS["m"])
    parts = (
        f"{hours}h" if hours else "",
        f"{minutes}m" if minutes else "",
        f"{_decimal(left, _SECOND)}s" if left else "",
    )
    return sign + "".join(parts)


def _decimal(count: int, unit: int) -> str:
    whole, rest = divmod(count, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
