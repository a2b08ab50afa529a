"""Words that every check is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMED_MAX: Final = 3


def ago(seconds: float) -> str:
    """Return for how long, in the largest unit of which there are two."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def listed(words: Sequence[str]) -> str:
    """Return the first few words, and how many more there are."""
    more = len(words) - _NAMED_MAX
    shown = ", ".join(words[:_NAMED_MAX])
    return f"{shown} and {more} more" if more > 0 else shown


def count(number: int, noun: str) -> str:
    """Return how many there are: `1 event`, `2,000 events`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
