"""What facts mean that every store has. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .checks import Check, ok, warn
from .words import ago, count

if TYPE_CHECKING:
    from .facts import Clock, Snapshots

CLOCK_SECONDS_MAX: Final = 1.0
# A start folds some hundred thousand events a second: beyond these, it is felt.
UNFOLDED_EVENTS_MAX: Final = 100_000

_ROUGH_SECONDS: Final = 0.1


def clock(clock: Clock) -> Check:
    """Judge how far the clocks of server and machine are apart."""
    ahead, error = clock.seconds_ahead, clock.seconds_error
    direction = "ahead of" if ahead > 0 else "behind"
    found = f"the server's is {abs(ahead):.3f} s {direction} this machine's"
    if error > _ROUGH_SECONDS:
        # The server tells whole seconds, say: no more is known than this.
        found = f"the server's is {abs(ahead):.1f} s {direction} this machine's"
        found = f"{found}, give or take {error:.1f} s"
    if abs(ahead) - error > CLOCK_SECONDS_MAX:
        advice = "synchronize the clocks (NTP); the log has the server's time"
        return warn("clock", found, advice)
    return ok("clock", found)


def snapshots(snapshots: Snapshots) -> Check:
    """Judge whether a start is quick, and whether there are snapshots for nothing."""
    if snapshots.foreign or snapshots.compacted:
        return warn(
            "snapshots",
            _leading_nowhere(snapshots),
            '"evstore snapshot list" has them, "evstore snapshot drop" drops them',
        )
    since = snapshots.head - (snapshots.position or snapshots.begin)
    if snapshots.position is None or snapshots.seconds is None:
        which = "that fits an instance that runs" if snapshots.own else "of the state"
        found = f"none {which}; a start reads {count(since, 'event')}"
    else:
        newest = f"the newest of position {snapshots.position:,}"
        taken = f"taken {ago(snapshots.seconds)} ago; {count(since, 'event')} since"
        found = f"{snapshots.own:,} of the state, {newest}, {taken}"
    if since > UNFOLDED_EVENTS_MAX:
        return warn("snapshots", found, 'run "evstore snapshot create"')
    return ok("snapshots", found)


def _leading_nowhere(snapshots: Snapshots) -> str:
    words: list[str] = []
    if snapshots.foreign:
        words.append(
            f"{snapshots.foreign:,} of another log, or of an end that was lost"
        )
    if snapshots.compacted:
        words.append(f"{snapshots.compacted:,} below the floor of the log")
    return "; ".join(words)
