"""What is to be said of replicas. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evstore.doctor.checks import Check, fail, ok, warn
from evstore.doctor.facts import Unknown
from evstore.doctor.words import listed

from .activity import SEE_MORE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .facts import ReadReplica, Server, Standby

LAG_SECONDS_MAX: Final = 30.0
LAG_BYTES_MAX: Final = 64 * 1024 * 1024
_MIB: Final = 1024 * 1024
_SYNCHRONOUS: Final = frozenset({"sync", "quorum"})
_REPLICA: Final = "look at the replica's log, disk and network"


def standbys(standbys: Sequence[Standby], server: Server | Unknown) -> Check:
    """Judge whether the replicas are there and keep up."""
    hidden = any(each.state is None for each in standbys)
    wanted = "" if isinstance(server, Unknown) else server.synchronous_standbys
    serving = any(each.synchrony in _SYNCHRONOUS for each in standbys)
    if wanted and not serving and not hidden:
        found = (
            f"none of synchronous_standby_names ({wanted}) is attached: commits wait"
        )
        return fail("replicas", found, "start that replica, or change the setting")
    if not standbys:
        return ok("replicas", "none attached")
    late = [each for each in standbys if _is_late(each)]
    found = listed([_lag(each) for each in late or standbys])
    if wanted and not serving:
        found += f"; if none is of synchronous_standby_names ({wanted}), commits wait"
        return warn("replicas", found, SEE_MORE)
    if late:
        return warn("replicas", found, _REPLICA)
    return ok("replicas", found, SEE_MORE if hidden else "")


def _is_late(standby: Standby) -> bool:
    bytes_behind, seconds = standby.bytes_behind or 0, standby.seconds_behind or 0
    return bytes_behind >= LAG_BYTES_MAX or seconds >= LAG_SECONDS_MAX


def _lag(standby: Standby) -> str:
    name = standby.name or "one without a name"
    if standby.state is None:
        return f"{name} (hidden)"
    behind = f"{(standby.bytes_behind or 0) / _MIB:.1f} MiB"
    if standby.seconds_behind is not None:
        behind += f" and {standby.seconds_behind:.1f} s"
    return f"{name} ({standby.state}, {standby.synchrony}, {behind} behind)"


def read_replica(replica: ReadReplica | Unknown | None, ratio: int) -> Iterator[Check]:
    """Judge the replica that the settings name, if they do."""
    match replica:
        case None:
            return
        case _ if not ratio:
            yield ok("read replica", "not used: its ratio is 0")
        case Unknown():
            advice = "start it, or correct store.postgres.readReplica"
            yield warn("read replica", replica.reason, advice)
        case _:
            yield _read_replica(replica)


def _read_replica(replica: ReadReplica) -> Check:
    if not replica.same_log:
        found = f"{replica.address} has another log, or another end of this one"
        advice = "correct store.postgres.readReplica, or make the replica anew"
        return fail("read replica", found, advice)
    events = "event" if replica.events_behind == 1 else "events"
    found = f"{replica.address} is {replica.events_behind:,} {events} behind"
    if replica.events_behind and replica.seconds_behind >= LAG_SECONDS_MAX:
        found += f", for {replica.seconds_behind:.0f} s"
        return warn("read replica", found, _REPLICA)
    if not replica.standby:
        found = f"{replica.address} is no replica: it can be written"
        return warn("read replica", found, "name a replica, or none")
    return ok("read replica", found)
