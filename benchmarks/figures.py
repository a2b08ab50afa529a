"""Figures: medians of rounds, percentiles, gaps, aims. Pure; no I/O."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

INTEGER_FROM = 100  # from here on, a figure's fraction is noise


@dataclass(frozen=True)
class Figure:
    """The median of several rounds, with the lowest and the highest of them."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure:
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1], len(found))

    def __str__(self) -> str:
        if self.rounds == 1:
            return number(self.median)
        return f"{number(self.median)} ({number(self.low)} to {number(self.high)})"


@dataclass(frozen=True)
class Aim:
    """What was asked for, and what was measured in the same run."""

    what: str
    asked: float
    measured: float | None  # None where the other side could not be had
    unit: str = "x"
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        if self.measured is None:
            return None
        if self.at_most:
            return self.measured <= self.asked
        return self.measured >= self.asked


def number(value: float) -> str:
    """Return a figure with as many digits as mean anything."""
    if isinstance(value, int) or abs(value) >= INTEGER_FROM:
        return f"{round(value):,}"
    return f"{value:.3g}"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of the sorted values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def longest_gap(times: Iterable[float], *, began: float, ended: float) -> float:
    """Return the longest time from `began` to `ended` in which nothing happened."""
    points = [began, *sorted(t for t in times if began <= t <= ended), ended]
    return max(after - before for before, after in pairwise(points))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """Return ours over theirs, round by round: drift of the machine hits both alike."""
    return Figure.of(a / b for a, b in zip(ours, theirs, strict=True))


def plain(cell: object) -> Any:
    """Return what JSON can say of a cell of a report."""
    match cell:
        case Figure():
            return {name: plain(value) for name, value in asdict(cell).items()}
        case Aim():
            found = {name: plain(value) for name, value in asdict(cell).items()}
            return {**found, "reached": cell.reached}
        case float():
            return float(f"{cell:.6g}")
    return cell


def text(cell: object) -> str:
    """Return what a table shows of a cell, be it fresh or read from JSON."""
    match cell:
        case None:
            return ""
        case bool() | str():
            return str(cell)
        case int() | float():
            return number(cell)
        case {"median": _}:
            return str(Figure(**cell))
    return str(cell)
