"""What a doctor says of facts: each check where all is well, and on both sides of a bound."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from evstore.config import Config, PostgresConfig, ReadReplicaConfig, TlsConfig, TlsMode
from evstore.doctor.checks import Check, Status
from evstore.doctor.facts import Clock, Snapshots, Unknown
from evstore.doctor.postgres import replicas
from evstore.doctor.postgres.facts import (
    AppendLock,
    Facts,
    Partitions,
    ReadReplica,
    Rights,
    Schema,
    Server,
    Session,
    Sessions,
    Standby,
    Table,
    Tls,
)
from evstore.doctor.postgres.judgement import judge, unreachable
from evstore.errors import ConfigError, UnavailableError

SERVER = Server(
    version="18.0",
    version_number=180000,
    tls=Tls(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384"),
    fsync=True,
    full_page_writes=True,
    synchronous_commit="on",
    synchronous_standbys="",
    pooled=False,
)
REPLICA = ReadReplica(
    address="replica:5432",
    standby=True,
    same_log=True,
    events_behind=0,
    seconds_behind=0.0,
)
WELL = Facts(
    server=SERVER,
    clock=Clock(seconds_ahead=0.01, seconds_error=0.001),
    heard=True,
    schema=Schema(version=1, needed=1),
    rights=Rights(role="run", superuser=False, owner=False, missing=(), beyond=()),
    unguarded=(),
    sessions=Sessions(idle=(), hidden=0),
    append_lock=AppendLock(turn=None, shared=(), waiting=0),
    partitions=Partitions(head=10, end=5_000_001, size=5_000_000, covered=True),
    snapshots=Snapshots(head=10, own=0, foreign=0, position=None, seconds=None),
    standbys=(),
    read_replica=None,
    tables=(Table(name="evstore.instances", live=3, dead=5),),
)
CHECKS = [
    "reachable",
    "version",
    "tls",
    "fsync",
    "synchronous_commit",
    "migrations",
    "rights",
    "append-only",
    "clock",
    "listen",
    "idle in transaction",
    "append lock",
    "partitions",
    "snapshots",
    "replicas",
    "dead rows",
]


def config(mode: TlsMode = TlsMode.VERIFY_FULL, **postgres: Any) -> Config:
    """Return the settings of a server elsewhere."""
    ca = "" if mode in (TlsMode.DISABLE, TlsMode.VERIFY_NONE) else "ca.crt"
    tls = TlsConfig(mode=mode, ca_path=ca)
    return Config(postgres=PostgresConfig(**{"host": "db", "tls": tls} | postgres))


def checked(check: str, settings: Config | None = None, **facts: Any) -> Check:
    """Return one check of a server that is well but for these facts."""
    found = judge(msgspec.structs.replace(WELL, **facts), settings or config())
    (one,) = [each for each in found if each.check == check]
    return one


def server(**changed: Any) -> Server:
    return msgspec.structs.replace(SERVER, **changed)


def snapshots(head: int, *, position: int | None = None, foreign: int = 0) -> Snapshots:
    own, seconds = (0, None) if position is None else (1, 0.0)
    return Snapshots(
        head=head, own=own, foreign=foreign, position=position, seconds=seconds
    )


def session(seconds: float | None, process: int = 42) -> Session:
    return Session(process=process, role="kuma", program="psql", seconds=seconds)


def standby(**changed: Any) -> Standby:
    usual = Standby(
        name="b",
        state="streaming",
        synchrony="async",
        bytes_behind=0,
        seconds_behind=None,
    )
    return msgspec.structs.replace(usual, **changed)


def test_of_a_server_that_is_well_every_check_is_ok_and_asks_for_nothing() -> None:
    found = judge(WELL, config())
    assert [each.check for each in found] == CHECKS
    assert {each.status for each in found} == {Status.OK}
    assert not any(each.advice for each in found)


def test_of_an_empty_database_only_the_migrations_fail() -> None:
    empty = msgspec.structs.replace(
        WELL,
        schema=Schema(version=0, needed=1),
        rights=None,
        unguarded=None,
        partitions=None,
        snapshots=None,
        tables=None,
    )
    found = judge(empty, config())
    inside = {"rights", "append-only", "partitions", "snapshots", "dead rows"}
    assert [each.check for each in found] == [n for n in CHECKS if n not in inside]
    (failed,) = [each for each in found if each.status is not Status.OK]
    assert (failed.check, failed.status) == ("migrations", Status.FAIL)
    assert "evstore migrate up" in failed.advice


@pytest.mark.parametrize(
    ("fact", "check"),
    [
        ("server", "version"),
        ("schema", "migrations"),
        ("rights", "rights"),
        ("unguarded", "append-only"),
        ("heard", "listen"),
        ("sessions", "idle in transaction"),
        ("append_lock", "append lock"),
        ("partitions", "partitions"),
        ("snapshots", "snapshots"),
        ("standbys", "replicas"),
        ("read_replica", "read replica"),
        ("tables", "dead rows"),
    ],
)
def test_what_the_server_does_not_tell_is_no_ok(fact: str, check: str) -> None:
    found = checked(check, **{fact: Unknown("permission denied")})
    assert found.status is Status.WARN
    assert "permission denied" in found.found
    assert found.advice


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ConfigError("refuses the connection"), "store.postgres.*"),
        (UnavailableError("cannot be used now"), "start the server"),
    ],
)
def test_a_server_that_cannot_be_reached_is_one_check_that_fails(
    error: ConfigError | UnavailableError, advice: str
) -> None:
    (found,) = unreachable(error)
    assert (found.check, found.status) == ("reachable", Status.FAIL)
    assert found.found == str(error)
    assert advice in found.advice


@pytest.mark.parametrize(
    ("check", "facts", "status", "words"),
    [
        ("version", {"server": server(version_number=150000)}, "ok", ""),
        ("version", {"server": server(version_number=149999)}, "fail", "upgrade"),
        (
            "tls",
            {"server": server(tls=Tls(version="TLSv1.1", cipher="x"))},
            "warn",
            "ssl_min_protocol_version",
        ),
        ("tls", {"server": server(tls=None)}, "warn", "verifyFull"),
        ("fsync", {"server": server(fsync=False)}, "fail", "fsync = on"),
        (
            "fsync",
            {"server": server(full_page_writes=False)},
            "warn",
            "full_page_writes = on",
        ),
        *(
            (
                "synchronous_commit",
                {"server": server(synchronous_commit=setting)},
                "warn",
                'ALTER ROLE "kuma" SET synchronous_commit = on',
            )
            for setting in ("off", "local", "remote_write")
        ),
        (
            "synchronous_commit",
            {"server": server(synchronous_commit="remote_apply")},
            "ok",
            "",
        ),
        (
            "migrations",
            {"schema": Schema(version=1, needed=2, problem="older")},
            "fail",
            "evstore migrate up",
        ),
        ("migrations", {"schema": Schema(version=2, needed=1)}, "ok", ""),
        (
            "migrations",
            {"schema": Schema(version=2, needed=1, problem="newer")},
            "fail",
            "tolerateNewerDBVersions",
        ),
        (
            "migrations",
            {"schema": Schema(version=1, needed=1, problem="is dirty")},
            "fail",
            "start nothing",
        ),
        ("append-only", {"unguarded": ("a of evstore.b",)}, "fail", "evstore verify"),
        (
            "clock",
            {"clock": Clock(seconds_ahead=-1.2, seconds_error=0.1)},
            "warn",
            "NTP",
        ),
        ("clock", {"clock": Clock(seconds_ahead=1.2, seconds_error=0.3)}, "ok", ""),
        ("listen", {"heard": None}, "ok", ""),
        ("listen", {"heard": False}, "warn", "store.evstore.notify"),
        ("listen", {"server": server(pooled=True)}, "ok", ""),
        (
            "idle in transaction",
            {"sessions": Sessions(idle=(), hidden=2)},
            "ok",
            "stats",
        ),
        (
            "idle in transaction",
            {"sessions": Sessions(idle=(session(59.9),), hidden=0)},
            "ok",
            "",
        ),
        (
            "idle in transaction",
            {"sessions": Sessions(idle=(session(60.0),), hidden=0)},
            "warn",
            "pg_terminate_backend(42)",
        ),
        (
            "append lock",
            {"append_lock": AppendLock(turn=session(4.9), shared=(), waiting=2)},
            "ok",
            "",
        ),
        (
            "append lock",
            {"append_lock": AppendLock(turn=session(5.0), shared=(), waiting=2)},
            "fail",
            "pg_terminate_backend(42)",
        ),
        (
            "append lock",
            {
                "append_lock": AppendLock(
                    turn=None, shared=(session(0.1), session(9.0, 43)), waiting=0
                )
            },
            "warn",
            "pg_terminate_backend(43)",
        ),
        (
            "append lock",
            {"append_lock": AppendLock(turn=session(None), shared=(), waiting=0)},
            "ok",
            "",
        ),
        (
            "partitions",
            {"partitions": Partitions(head=74, end=100, size=100, covered=True)},
            "ok",
            "",
        ),
        (
            "partitions",
            {"partitions": Partitions(head=75, end=100, size=100, covered=True)},
            "warn",
            "evstore.ensure_partition()",
        ),
        (
            "partitions",
            {"partitions": Partitions(head=10, end=200, size=100, covered=False)},
            "fail",
            "attach the partition",
        ),
        ("snapshots", {"snapshots": snapshots(100_000)}, "ok", ""),
        ("snapshots", {"snapshots": snapshots(100_001)}, "warn", "snapshot create"),
        ("snapshots", {"snapshots": snapshots(100_001, position=1)}, "ok", ""),
        (
            "snapshots",
            {"snapshots": snapshots(100_002, position=1)},
            "warn",
            "snapshot create",
        ),
        (
            "snapshots",
            {"snapshots": snapshots(9, position=9, foreign=1)},
            "warn",
            "snapshot drop",
        ),
        ("replicas", {"standbys": (standby(),)}, "ok", ""),
        (
            "replicas",
            {"standbys": (standby(bytes_behind=replicas.LAG_BYTES_MAX - 1),)},
            "ok",
            "",
        ),
        (
            "replicas",
            {"standbys": (standby(), standby(bytes_behind=replicas.LAG_BYTES_MAX))},
            "warn",
            "network",
        ),
        ("replicas", {"standbys": (standby(seconds_behind=30.0),)}, "warn", "network"),
        ("replicas", {"standbys": (standby(state=None),)}, "ok", "pg_read_all_stats"),
        (
            "replicas",
            {"server": server(synchronous_standbys="b")},
            "fail",
            "start that replica",
        ),
        (
            "replicas",
            {
                "server": server(synchronous_standbys="b"),
                "standbys": (standby(synchrony="sync"),),
            },
            "ok",
            "",
        ),
        (
            "replicas",
            {
                "server": server(synchronous_standbys="b"),
                "standbys": (standby(state=None, synchrony=None),),
            },
            "warn",
            "pg_read_all_stats",
        ),
        (
            "dead rows",
            {"tables": (Table(name="evstore.a", live=100, dead=1_050),)},
            "ok",
            "",
        ),
        (
            "dead rows",
            {"tables": (Table(name="evstore.a", live=100, dead=1_051),)},
            "warn",
            "VACUUM evstore.a",
        ),
        ("read replica", {"read_replica": REPLICA}, "ok", ""),
        *(
            ("read replica", {"read_replica": replica}, status, advice)
            for replica, status, advice in (
                (
                    msgspec.structs.replace(
                        REPLICA, events_behind=1, seconds_behind=29.9
                    ),
                    "ok",
                    "",
                ),
                (
                    msgspec.structs.replace(
                        REPLICA, events_behind=1, seconds_behind=30.0
                    ),
                    "warn",
                    "network",
                ),
                (
                    msgspec.structs.replace(REPLICA, same_log=False),
                    "fail",
                    "store.postgres.readReplica",
                ),
                (
                    msgspec.structs.replace(REPLICA, standby=False),
                    "warn",
                    "name a replica",
                ),
            )
        ),
    ],
)
def test_a_check_comes_out_as_the_facts_are(
    check: str, facts: dict[str, Any], status: str, words: str
) -> None:
    found = checked(check, **facts)
    assert found.status == status, found
    assert bool(found.advice) == bool(words), found
    assert words in found.advice


@pytest.mark.parametrize(
    ("mode", "host", "tls", "status"),
    [
        (TlsMode.VERIFY_FULL, "db", SERVER.tls, "ok"),
        (TlsMode.VERIFY_CA, "db", SERVER.tls, "ok"),
        (TlsMode.VERIFY_NONE, "db", SERVER.tls, "warn"),
        (TlsMode.DISABLE, "db", None, "warn"),
        (TlsMode.DISABLE, "127.0.0.1,db", None, "warn"),
        (TlsMode.DISABLE, "127.0.0.1", None, "ok"),
        (TlsMode.DISABLE, "/run/postgresql", None, "ok"),
    ],
)
def test_what_crosses_a_network_is_to_be_encrypted_and_checked(
    mode: TlsMode, host: str, tls: Tls | None, status: str
) -> None:
    found = checked("tls", config(mode, host=host), server=server(tls=tls))
    assert found.status == status


@pytest.mark.parametrize(
    ("rights", "status", "words"),
    [
        (
            {"missing": ("INSERT on evstore.events",)},
            "fail",
            "evstore migrate grant run",
        ),
        ({"superuser": True, "owner": True}, "warn", "evstore migrate grant"),
        ({"owner": True, "beyond": ("UPDATE on evstore.events",)}, "warn", "another"),
        ({"beyond": ("UPDATE on evstore.events",)}, "warn", "REVOKE"),
    ],
)
def test_a_role_should_have_what_it_needs_and_no_more(
    rights: dict[str, Any], status: str, words: str
) -> None:
    found = checked("rights", rights=msgspec.structs.replace(WELL.rights, **rights))
    assert found.status == status
    assert words in found.advice


def test_a_replica_that_is_not_used_is_no_matter() -> None:
    settings = config(read_replica=ReadReplicaConfig(host="replica", ratio=0))
    for replica in (Unknown("cannot be reached"), REPLICA):
        assert checked("read replica", settings, read_replica=replica).status == "ok"


def test_a_pooler_in_transaction_mode_is_named() -> None:
    found = checked("listen", heard=False, server=server(pooled=True))
    assert "pooler in transaction mode" in found.found
    assert "pooler" not in checked("listen", heard=False).found


def test_of_many_only_the_first_are_named() -> None:
    names = tuple(f"SELECT on evstore.t{number}" for number in range(5))
    rights = msgspec.structs.replace(WELL.rights, missing=names)
    found = checked("rights", rights=rights).found
    assert found.endswith("evstore.t2 and 2 more")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "taken 0 s ago"),
        (119, "taken 119 s ago"),
        (120, "taken 2 minutes ago"),
        (7_200, "taken 2 hours ago"),
        (3 * 86_400, "taken 3 days ago"),
    ],
)
def test_the_age_of_the_newest_snapshot_is_told(seconds: float, words: str) -> None:
    newest = Snapshots(head=12, own=2, foreign=0, position=10, seconds=seconds)
    found = checked("snapshots", snapshots=newest).found
    assert (
        found == f"2 of the state, the newest of position 10, {words}; 2 events since"
    )


def test_without_a_snapshot_the_doctor_says_what_a_start_reads() -> None:
    found = checked("snapshots", snapshots=snapshots(12)).found
    assert found == "none of the state; a start reads 12 events"
