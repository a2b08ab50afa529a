"""What is to be said of the log as it lies in the cluster. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evstore.doctor.checks import Check, fail, ok, warn
from evstore.doctor.words import ago, count, listed

if TYPE_CHECKING:
    from .facts import Floor, Leftovers, Log

# The store is meant for some 100,000 events; this is when to do something about it.
EVENTS_MAX: Final = 80_000
# Of what the machine has, the copy of one instance: the state needs room as well.
MEMORY_SHARE_MAX: Final = 0.5

_MIB: Final = 1024 * 1024
_RESTORE: Final = "restore the log from a backup or an export"
_SMALLER: Final = (
    '"evstore compact" removes history; PostgreSQL is made for larger logs'
)


def log(log: Log) -> Check:
    """Tell how long the log is, and when it last grew."""
    if not log.head:
        return ok("log", "empty")
    found = f"{count(log.events, 'event')} in {count(log.objects, 'change')}"
    found += f", head {log.head:,}"
    if log.head_seconds is not None:
        found += f", appended {ago(log.head_seconds)} ago"
    return ok("log", found)


def order(log: Log, namespace: str) -> Check:
    """Judge whether every change follows the one before it, and can be read."""
    if log.damaged:
        found = f"cannot be read: change {listed(log.damaged)}"
        return fail("order", found, f'run "evstore verify"; {_RESTORE}')
    if not log.behind:
        return ok("order", "no gap, and nothing behind the head")
    found = log.problem or (
        f"no change begins at position {log.gap:,}, and behind it there is "
        + listed(log.behind)
    )
    first, *others = log.behind
    if others:
        # A set-back cluster keeps one at most: here what was there has gone.
        return fail("order", found, f"something was removed or changed: {_RESTORE}")
    deletion = f"kubectl -n {namespace} delete changes.evstore.dev {first}"
    advice = f"if the cluster was set back to a backup: {deletion}; else {_RESTORE}"
    return fail("order", found, advice)


def size(log: Log) -> Check:
    """Judge whether the log is of a size that this kind of store is meant for."""
    found = f"a copy takes {_mib(log.copy_bytes)} in each instance"
    if log.memory_bytes is not None:
        found += f"; there are {_mib(log.memory_bytes)} here"
        if log.copy_bytes > MEMORY_SHARE_MAX * log.memory_bytes:
            return warn("size", found, f"give instances more memory; {_SMALLER}")
    if log.events > EVENTS_MAX:
        found += f"; {log.events:,} events are near the most this store is meant for"
        return warn("size", found, _SMALLER)
    return ok("size", found)


def redactions(log: Log) -> Check:
    """Judge whether what was to be redacted is gone."""
    if log.redactions:
        found = f"announced and not done: position {listed([str(each) for each in log.redactions])}"
        return warn("redactions", found, 'run the same "evstore redact" again')
    return ok("redactions", "all that were announced are done")


def floor(floor: Floor, log: Log | None) -> Check:
    """Judge whether the state at the floor is there, from which every start begins."""
    if floor.problem:
        found = (
            f"the state at position {floor.position:,} cannot be read: {floor.problem}"
        )
        return fail("floor", found, _RESTORE)
    found = (
        f"history begins after position {floor.position:,}, {ago(floor.seconds)} ago"
    )
    if log is not None and log.below:
        found += f"; {count(log.below, 'change')} below it are there still"
        return warn(
            "floor", found, 'a compaction was broken off: run "evstore compact" again'
        )
    return ok("floor", found)


def leftovers(leftovers: Leftovers) -> Check:
    """Tell of chunks that are there for nothing."""
    number = leftovers.chunks + leftovers.snapshot_chunks
    if not number:
        return ok("leftovers", "no chunk that nothing refers to")
    some = count(number, "chunk")
    refers = (
        f"{some} that nothing refers to, {leftovers.snapshot_chunks:,} of snapshots"
    )
    return ok("leftovers", refers, '"evstore compact" removes them')


def _mib(size: int) -> str:
    return f"{size / _MIB:,.0f} MiB" if size >= _MIB else "less than 1 MiB"
