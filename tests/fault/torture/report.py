"""What a run did, for a person to read."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .run import Run

VIOLATIONS_SHOWN: Final = 20
_COLUMNS: Final = ("asked", "acknowledged", "refused", "unavailable", "unknown")


def report(run: Run) -> str:
    """Return the report: what was done, to whom, and what the checker says."""
    total = (
        f"{run.seconds:.0f} s, seed {run.seed}: {run.events} positions,"
        f" {run.watched} events seen by watchers"
    )
    broken_off = ", ".join(f"{n} {name}" for name, n in run.broken_off.most_common())
    watches = f"watches that broke off and were resumed: {broken_off or 'none'}"
    lines = [*_faults(run), "", *_instances(run), "", total]
    lines += [f"compacted up to position {run.floor}"] if run.floor else []
    lines += [watches, *_verdict(run)]
    return "\n".join(lines)


def _faults(run: Run) -> list[str]:
    counts = Counter(name for _, name, _ in run.faults)
    lines = [
        f"{at:7.1f} s  {name}: {what or 'in vain'}" for at, name, what in run.faults
    ]
    lines += ["", f"{len(run.faults)} faults, {run.in_vain} of them in vain:"]
    lines += [f"{count:5}  {name}" for name, count in sorted(counts.items())]
    lines += [f"    -  {reason}" for reason in run.not_possible]
    return lines


def _instances(run: Run) -> list[str]:
    head = "".join(f"{column:>14}" for column in _COLUMNS)
    lines = [f"{'':12}{'lives':>7}{head}{'longest gap':>14}"]
    for tally in run.tallies:
        calls = "".join(f"{tally.calls[column]:14}" for column in _COLUMNS)
        gap = f"{tally.gap_seconds_max:.2f} s"
        lines.append(f"{tally.name:12}{tally.lives:7}{calls}{gap:>14}")
    return lines


def _verdict(run: Run) -> list[str]:
    if not run.violations:
        return ["the history is right: no lost write, no lost event"]
    shown = [str(each) for each in run.violations[:VIOLATIONS_SHOWN]]
    return [f"THE HISTORY IS WRONG, {len(run.violations)} violations:", *shown]
