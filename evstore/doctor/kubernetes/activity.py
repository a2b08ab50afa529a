"""What is to be said of who appends, listens, waits and shows. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from evstore.doctor.checks import Check, fail, ok, warn
from evstore.doctor.facts import Unknown
from evstore.doctor.words import ago, count, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .facts import Heartbeat, Log, Mirror, Turns, Watch

RUNNING_SECONDS_MAX: Final = 60.0
LAG_SECONDS_MAX: Final = 30.0
# Who waits takes it over after 15 s.
MIRROR_SECONDS_MAX: Final = 60.0


def append(refusal: str) -> Check:
    """Judge whether the cluster would take a change."""
    if refusal:
        advice = "see rights and namespace here; else quotas, webhooks and policies"
        return fail("append", f"a change would not be taken: {refusal}", advice)
    return ok("append", "a change would be taken (tried without making one)")


def watch(watch: Watch | None, poll_interval: float) -> Check:
    """Judge whether instances hear of what others append; None: they do not listen."""
    every = f"instances look at the log each {poll_interval:g} s at least"
    if watch is None:
        return ok("watch", f"switched off: {every}")
    if watch.event:
        return ok("watch", "events come")
    if watch.ended:
        return ok("watch", "opens and ends as it should; there was nothing to hear")
    advice = "let proxies on the way pass on watches at once, and keep them open"
    return warn("watch", f"nothing comes through; {every}", advice)


def instances(heartbeats: Sequence[Heartbeat], log: Log | Unknown | None) -> Check:
    """Judge whether the instances that run follow the log."""
    running = [each for each in heartbeats if _runs(each)]
    if not running:
        found = "none runs"
        if heartbeats:
            last = min(each.seconds for each in heartbeats)
            found += f"; one was last seen {ago(last)} ago"
        return ok("instances", found)
    if log is not None and not isinstance(log, Unknown):
        late = [each for each in running if _is_late(each, log)]
        if late:
            behind = [
                f"{each.instance} is {count(log.head - each.position, 'event')} behind"
                for each in late
            ]
            advice = "see what that instance logs: it does not follow"
            return warn("instances", listed(behind), advice)
    versions = Counter(each.code_version for each in running)
    by_version = [f"{number:,} of version {name}" for name, number in versions.items()]
    return ok("instances", f"running: {', '.join(by_version)}")


def any_runs(heartbeats: Sequence[Heartbeat] | Unknown) -> bool:
    """Whether an instance was seen in the last minute, as far as is known."""
    return not isinstance(heartbeats, Unknown) and any(map(_runs, heartbeats))


def _runs(heartbeat: Heartbeat) -> bool:
    return heartbeat.seconds <= RUNNING_SECONDS_MAX


def _is_late(heartbeat: Heartbeat, log: Log) -> bool:
    """Whether an instance had not read the head long after that had been appended."""
    if log.head_seconds is None or heartbeat.position >= log.head:
        return False
    return log.head_seconds - heartbeat.seconds > LAG_SECONDS_MAX


def turns(turns: Turns) -> Check:
    """Judge whether the queue for the turn to append moves."""
    if turns.stalled:
        found = f"{count(turns.waiting, 'ticket')}, and the first does not move"
        advice = "none, if it is gone soon: who waits leaves out who stalls for 2 s"
        return warn("turns", found, advice)
    if turns.waiting:
        return ok("turns", f"{count(turns.waiting, 'ticket')}, and they move")
    return ok("turns", "nobody waits")


def mirror(mirror: Mirror, *, running: bool) -> Check:
    """Judge whether somebody shows the current state."""
    advice = "see what the instances log: perhaps rights, or it is switched off there"
    if not mirror.holder or mirror.seconds is None:
        if not running:
            return ok("mirror", "nobody writes it: no instance runs")
        return warn("mirror", "nobody writes it", advice)
    found = f"{mirror.holder} writes it, renewed {ago(mirror.seconds)} ago"
    if mirror.seconds > MIRROR_SECONDS_MAX:
        found = f"{mirror.holder} wrote it last, {ago(mirror.seconds)} ago"
        if not running:
            return ok("mirror", f"{found}; no instance runs")
        return warn("mirror", found, advice)
    return ok("mirror", found)
