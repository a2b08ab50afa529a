"""Charts of block characters, for terminals. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_RISING: Final = " ▁▂▃▄▅▆▇█"
_GROWING: Final = " ▏▎▍▌▋▊▉█"
_EIGHTHS: Final = 8
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_THOUSAND: Final = 1000
_SMALL: Final = 10


def bar(value: float, largest: float, width: int) -> str:
    """Return a bar from the left; something can be seen of all that is not 0."""
    if value <= 0 or largest <= 0:
        return ""
    eighths = max(1, round(width * _EIGHTHS * value / largest))
    whole, part = divmod(eighths, _EIGHTHS)
    return "█" * whole + (_GROWING[part] if part else "")


def columns(values: Sequence[float], *, height: int, cell: int) -> list[str]:
    """Return the lines of a chart of columns, each `cell` characters wide."""
    largest = max(values, default=0)
    lines: list[str] = []
    for row in reversed(range(height)):
        line = ""
        for value in values:
            eighths = round(height * _EIGHTHS * value / largest) if largest else 0
            if value > 0:
                eighths = max(1, eighths)
            line += _RISING[max(0, min(_EIGHTHS, eighths - row * _EIGHTHS))] * cell
        lines.append(line.rstrip())
    return lines


def fewer(values: Sequence[float], count: int) -> list[float]:
    """Return at most `count` values: neighbours are added up, equally many each."""
    if len(values) <= count:
        return list(values)
    size = -(-len(values) // count)
    return [sum(values[start : start + size]) for start in range(0, len(values), size)]


def size(count: float) -> str:
    """Return a number of bytes for people."""
    unit = 0
    while count >= _THOUSAND and unit < len(_UNITS) - 1:
        count /= _THOUSAND
        unit += 1
    digits = 1 if unit and count < _SMALL * _SMALL else 0
    return f"{count:,.{digits}f} {_UNITS[unit]}"
