"""What is to be said of sessions, locks and tables. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evstore.doctor.checks import Check, fail, ok, warn
from evstore.doctor.words import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .facts import AppendLock, Partitions, Session, Sessions, Table

IDLE_SECONDS_MAX: Final = 60.0
# Who waits for a turn gives up after it, and a holder who says nothing is ended after it.
LOCK_SECONDS_MAX: Final = 5.0
# PostgreSQL cleans up from a fifth of the living rows on: beyond these it does not get to it.
DEAD_ROWS_MAX: Final = 1_000
DEAD_SHARE_MAX: Final = 0.5
# Half a partition is made ahead of time; with less than this left, nobody sees to it.
FREE_SHARE_LEAST: Final = 0.25
SEE_MORE: Final = "GRANT pg_read_all_stats to the role, to see more"


def sessions(sessions: Sessions) -> Check:
    """Judge whether a session keeps the server from cleaning up."""
    stuck = [each for each in sessions.idle if _lasts(each, IDLE_SECONDS_MAX)]
    if stuck:
        found = f"{_named(stuck)}: nothing is cleaned up meanwhile"
        return warn("idle in transaction", found, _ending(stuck[0]))
    found = f"none for {IDLE_SECONDS_MAX:.0f} s or more"
    if sessions.hidden:
        found += f" that can be seen; {sessions.hidden} cannot"
        return ok("idle in transaction", found, SEE_MORE)
    return ok("idle in transaction", found)


def append_lock(lock: AppendLock) -> Check:
    """Judge whether somebody keeps others from appending."""
    if lock.turn is not None and _lasts(lock.turn, LOCK_SECONDS_MAX):
        found = f"held by {_named([lock.turn])}: nobody can append"
        return fail("append lock", found, _ending(lock.turn))
    stuck = [each for each in lock.shared if _lasts(each, LOCK_SECONDS_MAX)]
    if stuck:
        found = f"shared by {_named(stuck)}: nobody gets a turn"
        return warn("append lock", found, _ending(stuck[0]))
    holders = lock.shared if lock.turn is None else (lock.turn, *lock.shared)
    if not holders:
        return ok("append lock", "free")
    return ok("append lock", f"held by {_named(holders)}; {lock.waiting} wait")


def partitions(partitions: Partitions) -> Check:
    """Judge whether there is room for what is appended next."""
    free = partitions.end - partitions.head - 1
    if free > 0 and not partitions.covered:
        found = f"position {partitions.head + 1} has none, though later ones have"
        advice = "attach the partition that was detached: nothing can be appended"
        return fail("partitions", found, advice)
    found = f"there for {free:,} positions after the head"
    if free < partitions.size * FREE_SHARE_LEAST:
        advice = "SELECT evstore.ensure_partition(), as instances that run do"
        return warn("partitions", found, advice)
    return ok("partitions", found)


def tables(tables: Sequence[Table]) -> Check:
    """Judge whether the server cleans up."""
    full = [
        each
        for each in tables
        if each.dead > DEAD_ROWS_MAX + DEAD_SHARE_MAX * each.live
    ]
    if full:
        found = listed([f"{each.dead:,} in {each.name}" for each in full])
        return warn("dead rows", found, f"VACUUM {full[0].name}; is autovacuum on?")
    return ok("dead rows", f"{sum(each.dead for each in tables):,} in all")


def _lasts(session: Session, seconds: float) -> bool:
    return session.seconds is not None and session.seconds >= seconds


def _named(sessions: Sequence[Session]) -> str:
    return listed([_name(each) for each in sessions])


def _name(session: Session) -> str:
    who = " ".join(filter(None, (session.role, session.program)))
    since = "" if session.seconds is None else f", {session.seconds:.0f} s"
    return f"process {session.process} ({who}{since})"


def _ending(session: Session) -> str:
    return f"end what it does, or SELECT pg_terminate_backend({session.process})"
