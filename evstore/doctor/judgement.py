"""What facts about a server mean: a line each, and what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evstore.config import TlsMode
from evstore.errors import ConfigError

from .checks import Check, fail, ok, told, untold, warn
from .facts import Unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evstore.config import Config, PostgresConfig
    from evstore.errors import StoreError

    from .facts import (
        AppendLock,
        Clock,
        Facts,
        Partitions,
        ReadReplica,
        Rights,
        Schema,
        Server,
        Session,
        Sessions,
        Snapshots,
        Standby,
        Table,
    )

VERSION_LEAST: Final = 15
CLOCK_SECONDS_MAX: Final = 1.0
IDLE_SECONDS_MAX: Final = 60.0
# Who waits for a turn gives up after it, and a holder who says nothing is ended after it.
LOCK_SECONDS_MAX: Final = 5.0
LAG_SECONDS_MAX: Final = 30.0
LAG_BYTES_MAX: Final = 64 * 1024 * 1024
# PostgreSQL cleans up from a fifth of the living rows on: beyond these it does not get to it.
DEAD_ROWS_MAX: Final = 1_000
DEAD_SHARE_MAX: Final = 0.5
# A start folds some hundred thousand events a second: beyond these, it is felt.
UNFOLDED_EVENTS_MAX: Final = 100_000
# Half a partition is made ahead of time; with less than this left, nobody sees to it.
FREE_SHARE_LEAST: Final = 0.25

_NAMED_MAX: Final = 3
_MIB: Final = 1024 * 1024
_VERSION_STEP: Final = 10_000
_OLD_TLS: Final = frozenset({"SSLv3", "TLSv1", "TLSv1.1"})
_DURABLE: Final = frozenset({"on", "remote_apply"})
_THIS_MACHINE: Final = ("/", "127.", "::1", "localhost")
_SYNCHRONOUS: Final = frozenset({"sync", "quorum"})
_MIGRATE: Final = 'run "evstore migrate up" as the owner'
_OTHER_ROLE: Final = 'run the store as another role, see "evstore migrate grant"'
_SEE_MORE: Final = "GRANT pg_read_all_stats to the role, to see more"
_REPLICA: Final = "look at the replica's log, disk and network"


def unreachable(error: StoreError) -> list[Check]:
    """Return what is to be said of a server that cannot be asked anything."""
    if isinstance(error, ConfigError):
        advice = "correct store.postgres.*, or what the server lets in"
    else:
        advice = "start the server, or correct store.postgres.host and port"
    return [fail("reachable", str(error), advice)]


def judge(facts: Facts, config: Config) -> list[Check]:
    """Return the checks of a server that was reached, always in the same order."""
    server = facts.server
    return [
        _reachable(config.postgres),
        *_server(server, config.postgres),
        *told("migrations", facts.schema, _schema),
        *told("rights", facts.rights, _rights),
        *told("append-only", facts.unguarded, _unguarded),
        _clock(facts.clock),
        _listen(facts, config),
        *told("idle in transaction", facts.sessions, _sessions),
        *told("append lock", facts.append_lock, _append_lock),
        *told("partitions", facts.partitions, _partitions),
        *told("snapshots", facts.snapshots, _snapshots),
        *told("replicas", facts.standbys, lambda each: _standbys(each, server)),
        *_replica(facts.read_replica, config.postgres.read_replica.ratio),
        *told("dead rows", facts.tables, _tables),
    ]


def _reachable(config: PostgresConfig) -> Check:
    where = config.host if config.host[0] == "/" else f"{config.host}:{config.port}"
    return ok("reachable", f"{where}, database {config.db_name}, role {config.user}")


# The server itself.


def _server(server: Server | Unknown, config: PostgresConfig) -> Iterator[Check]:
    if isinstance(server, Unknown):
        yield untold("version", server)
        return
    yield _version(server)
    yield _tls(server, config)
    yield _fsync(server)
    yield _synchronous_commit(server, config.user)


def _version(server: Server) -> Check:
    found = f"PostgreSQL {server.version}"
    if server.version_number < VERSION_LEAST * _VERSION_STEP:
        advice = f"upgrade the server to PostgreSQL {VERSION_LEAST} or newer"
        return fail("version", found, advice)
    return ok("version", found)


def _tls(server: Server, config: PostgresConfig) -> Check:
    mode, tls = config.tls.mode, server.tls
    if tls is None:
        hosts = config.host.split(",")
        if all(host.startswith(_THIS_MACHINE) for host in hosts):
            return ok("tls", "not encrypted, and does not leave this machine")
        found = "not encrypted: passwords and specs cross the network as they are"
        return warn("tls", found, "set store.postgres.tls.mode to verifyFull")
    found = f"{tls.version}, {tls.cipher}, {mode.value}"
    if server.pooled:
        found = f"{mode.value}; behind the pooler: {tls.version or 'not encrypted'}"
    if tls.version in _OLD_TLS:
        advice = "set ssl_min_protocol_version to TLSv1.2 on the server"
        return warn("tls", found, advice)
    if mode is TlsMode.VERIFY_NONE:
        found += ": who is in between can pose as the server"
        advice = "set store.postgres.tls.mode to verifyFull, and caPath"
        return warn("tls", found, advice)
    return ok("tls", found)


def _fsync(server: Server) -> Check:
    if not server.fsync:
        found = "off: a crash of the machine loses what was acknowledged, or all of it"
        return fail("fsync", found, "set fsync = on in postgresql.conf")
    if not server.full_page_writes:
        found = "on, but full_page_writes is off: a crash may tear pages"
        advice = "set full_page_writes = on, unless the file system writes pages whole"
        return warn("fsync", found, advice)
    return ok("fsync", "on")


def _synchronous_commit(server: Server, role: str) -> Check:
    setting = server.synchronous_commit
    if setting in _DURABLE:
        return ok("synchronous_commit", setting)
    found = f"{setting}; appends switch it on for themselves, nothing else does"
    advice = f'ALTER ROLE "{role}" SET synchronous_commit = on'
    return warn("synchronous_commit", found, advice)


def _schema(schema: Schema) -> Check:
    version, needed = schema.version, schema.needed
    if not version:
        found = f"not migrated: this evstore needs version {needed}"
        return fail("migrations", found, _MIGRATE)
    if schema.problem is None:
        newer = f", newer than {needed}, and tolerated" if version > needed else ""
        return ok("migrations", f"version {version}{newer}")
    if version < needed:
        found = f"version {version}, this evstore needs {needed}"
        return fail("migrations", found, _MIGRATE)
    if version > needed:
        found = f"version {version}, newer than {needed} of this evstore"
        advice = "install the newer evstore; see store.postgres.tolerateNewerDBVersions"
        return fail("migrations", found, advice)
    advice = "start nothing before the database is as the migrations have made it"
    return fail("migrations", schema.problem, advice)


def _clock(clock: Clock) -> Check:
    ahead = clock.seconds_ahead
    direction = "ahead of" if ahead > 0 else "behind"
    found = f"the server's is {abs(ahead):.3f} s {direction} this machine's"
    if abs(ahead) - clock.seconds_error > CLOCK_SECONDS_MAX:
        advice = "synchronize the clocks (NTP); the log has the server's time"
        return warn("clock", found, advice)
    return ok("clock", found)


def _listen(facts: Facts, config: Config) -> Check:
    heard, every = facts.heard, f"each {config.evstore.poll_interval:g} s at least"
    pooled = not isinstance(facts.server, Unknown) and facts.server.pooled
    if heard is None:
        return ok("listen", f"switched off: instances look at the log {every}")
    if isinstance(heard, Unknown):
        return untold("listen", heard)
    if heard:
        through = ", through a pooler that keeps sessions" if pooled else ""
        return ok("listen", f"notifications are heard{through}")
    why = ": a pooler in transaction mode is in between" if pooled else ""
    found = f"notifications are not heard{why}; instances look at the log {every}"
    advice = "connect past the pooler, or set store.evstore.notify to false"
    return warn("listen", found, advice)


# The role, and the guards of the log.


def _rights(rights: Rights) -> Check:
    role = f"role {rights.role}"
    if rights.missing:
        found = f"{role} lacks {_listed(rights.missing)}"
        advice = f'run "evstore migrate grant {rights.role} --apply" as the owner'
        return fail("rights", found, advice)
    if rights.superuser:
        found = f"{role} is a superuser: nothing guards the log from it"
        return warn("rights", found, _OTHER_ROLE)
    if rights.owner:
        found = f"{role} owns the log: it could drop the triggers that guard it"
        return warn("rights", found, _OTHER_ROLE)
    if rights.beyond:
        found = f"{role} has more than it needs: {_listed(rights.beyond)}"
        return warn("rights", found, "REVOKE what it does not need")
    return ok("rights", f"{role} has what it needs, and no more")


def _unguarded(triggers: Sequence[str]) -> Check:
    if not triggers:
        return ok("append-only", "all triggers are in place")
    found = f"missing, switched off or changed: trigger {_listed(triggers)}"
    advice = 'make them again as migration 1 does, then run "evstore verify"'
    return fail("append-only", found, advice)


# What goes on at the server.


def _sessions(sessions: Sessions) -> Check:
    stuck = [each for each in sessions.idle if _lasts(each, IDLE_SECONDS_MAX)]
    if stuck:
        found = f"{_named(stuck)}: nothing is cleaned up meanwhile"
        return warn("idle in transaction", found, _ending(stuck[0]))
    found = f"none for {IDLE_SECONDS_MAX:.0f} s or more"
    if sessions.hidden:
        found += f" that can be seen; {sessions.hidden} cannot"
        return ok("idle in transaction", found, _SEE_MORE)
    return ok("idle in transaction", found)


def _append_lock(lock: AppendLock) -> Check:
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


def _partitions(partitions: Partitions) -> Check:
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


def _snapshots(snapshots: Snapshots) -> Check:
    if snapshots.foreign:
        found = f"{snapshots.foreign:,} of another log, or of an end that was lost"
        advice = '"evstore snapshot list" has them, "evstore snapshot drop" drops them'
        return warn("snapshots", found, advice)
    since = snapshots.head - (snapshots.position or 0)
    if snapshots.position is None or snapshots.seconds is None:
        found = f"none of the state; a start reads {since:,} events"
    else:
        newest = f"the newest of position {snapshots.position:,}"
        events = "event" if since == 1 else "events"
        ago = f"taken {_ago(snapshots.seconds)} ago; {since:,} {events} since"
        found = f"{snapshots.own:,} of the state, {newest}, {ago}"
    if since > UNFOLDED_EVENTS_MAX:
        return warn("snapshots", found, 'run "evstore snapshot create"')
    return ok("snapshots", found)


def _tables(tables: Sequence[Table]) -> Check:
    full = [
        each
        for each in tables
        if each.dead > DEAD_ROWS_MAX + DEAD_SHARE_MAX * each.live
    ]
    if full:
        found = _listed([f"{each.dead:,} in {each.name}" for each in full])
        return warn("dead rows", found, f"VACUUM {full[0].name}; is autovacuum on?")
    return ok("dead rows", f"{sum(each.dead for each in tables):,} in all")


# Replicas.


def _standbys(standbys: Sequence[Standby], server: Server | Unknown) -> Check:
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
    found = _listed([_lag(each) for each in late or standbys])
    if wanted and not serving:
        found += f"; if none is of synchronous_standby_names ({wanted}), commits wait"
        return warn("replicas", found, _SEE_MORE)
    if late:
        return warn("replicas", found, _REPLICA)
    return ok("replicas", found, _SEE_MORE if hidden else "")


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


def _replica(replica: ReadReplica | Unknown | None, ratio: int) -> Iterator[Check]:
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


# Words.


def _lasts(session: Session, seconds: float) -> bool:
    return session.seconds is not None and session.seconds >= seconds


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _listed(words: Sequence[str]) -> str:
    more = len(words) - _NAMED_MAX
    shown = ", ".join(words[:_NAMED_MAX])
    return f"{shown} and {more} more" if more > 0 else shown


def _named(sessions: Sequence[Session]) -> str:
    return _listed([_name(each) for each in sessions])


def _name(session: Session) -> str:
    who = " ".join(filter(None, (session.role, session.program)))
    since = "" if session.seconds is None else f", {session.seconds:.0f} s"
    return f"process {session.process} ({who}{since})"


def _ending(session: Session) -> str:
    return f"end what it does, or SELECT pg_terminate_backend({session.process})"
