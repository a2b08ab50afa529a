"""What a doctor says of a cluster: each check where all is well, and on both sides."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from evstore.config import Config, EvstoreConfig, StoreType
from evstore.doctor.checks import Check, Status
from evstore.doctor.facts import Clock, Snapshots, Unknown
from evstore.doctor.kubernetes import activity, judge, log, unreachable, way
from evstore.doctor.kubernetes.facts import (
    Account,
    Facts,
    Floor,
    Heartbeat,
    Kind,
    Leftovers,
    Log,
    Mirror,
    Namespace,
    Rights,
    Token,
    Turns,
    Watch,
    Way,
)
from evstore.errors import ConfigError, UnavailableError

MIB = 1024 * 1024
DAY = 86_400.0
LOG = Log(
    objects=20,
    events=60,
    head=60,
    head_seconds=90.0,
    copy_bytes=3 * MIB,
    memory_bytes=512 * MIB,
)
RIGHTS = Rights(missing=(), mirror=(), beyond=(), everything=False)
KIND = Kind(name="changes.evstore.dev", version=1, served=True)
BEAT = Heartbeat(instance="one", code_version="1.0", position=60, seconds=3.0)
WELL = Facts(
    way=Way(address="https://10.0.0.1:6443", verified=True),
    version="v1.30.2",
    ready="",
    account=Account(name="system:serviceaccount:kuma-system:cp", told_by="the server"),
    token=Token(seconds_left=3000.0, seconds_whole=3607.0),
    namespace=Namespace(name="kuma-system", there=True),
    kinds=(KIND,),
    kinds_needed=1,
    rights=RIGHTS,
    clock=Clock(seconds_ahead=0.2, seconds_error=0.5),
    writable="",
    watch=Watch(event=True, ended=False),
    log=LOG,
    floor=Floor(position=10, seconds=DAY),
    snapshots=Snapshots(
        head=60, own=2, foreign=0, position=50, seconds=30.0, compacted=0, begin=10
    ),
    instances=(BEAT,),
    turns=Turns(waiting=0, stalled=False),
    mirror=Mirror(holder="one", seconds=4.0),
    leftovers=Leftovers(chunks=0, snapshot_chunks=0),
)
CHECKS = [
    "reachable",
    "version",
    "ready",
    "tls",
    "account",
    "token",
    "namespace",
    "kinds",
    "rights",
    "append-only",
    "clock",
    "append",
    "watch",
    "log",
    "order",
    "size",
    "redactions",
    "floor",
    "snapshots",
    "instances",
    "turns",
    "mirror",
    "leftovers",
]


def config(*, notify: bool = True) -> Config:
    return Config(type=StoreType.KUBERNETES, evstore=EvstoreConfig(notify=notify))


def checked(check: str, settings: Config | None = None, **facts: Any) -> Check:
    """Return one check of a cluster that is well but for these facts."""
    found = judge(msgspec.structs.replace(WELL, **facts), settings or config())
    (one,) = [each for each in found if each.check == check]
    return one


def changed(fact: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(fact, **fields)


def test_of_a_cluster_that_is_well_every_check_is_ok_and_asks_for_nothing() -> None:
    found = judge(WELL, config())
    assert [each.check for each in found] == CHECKS
    assert {each.status for each in found} == {Status.OK}, found
    assert not any(each.advice for each in found)


def test_of_a_cluster_without_kinds_only_those_fail() -> None:
    bare = msgspec.structs.replace(
        WELL,
        kinds=(Kind(name="changes.evstore.dev", version=0, served=False),),
        writable=None,
        watch=None,
        log=None,
        floor=None,
        snapshots=None,
        leftovers=None,
        mirror=None,
        token=None,
        turns=None,
        instances=(),
    )
    found = judge(bare, config())
    (failed,) = [each for each in found if each.status is not Status.OK]
    assert (failed.check, failed.status) == ("kinds", Status.FAIL)
    assert "evstore migrate up" in failed.advice
    inside = {"append", "watch", "log", "order", "size", "redactions", "floor"}
    inside |= {"snapshots", "leftovers", "mirror", "token", "turns"}
    assert [each.check for each in found] == [n for n in CHECKS if n not in inside]


def test_of_an_empty_log_there_is_no_more_to_say_than_that_it_is() -> None:
    empty = changed(LOG, objects=0, events=0, head=0, head_seconds=None)
    found = [each.check for each in judge(changed(WELL, log=empty), config())]
    assert {"log", "order", "size", "redactions"} & set(found) == {"log"}
    assert checked("log", log=empty).found == "empty"


@pytest.mark.parametrize(
    ("fact", "check"),
    [
        ("version", "version"),
        ("ready", "ready"),
        ("account", "account"),
        ("namespace", "namespace"),
        ("kinds", "kinds"),
        ("rights", "rights"),
        ("rights", "append-only"),
        ("clock", "clock"),
        ("writable", "append"),
        ("watch", "watch"),
        ("log", "log"),
        ("floor", "floor"),
        ("snapshots", "snapshots"),
        ("instances", "instances"),
        ("turns", "turns"),
        ("mirror", "mirror"),
        ("leftovers", "leftovers"),
    ],
)
def test_what_the_server_does_not_tell_is_no_ok_and_hides_no_other(
    fact: str, check: str
) -> None:
    unknown = {fact: Unknown('User "cp" cannot list resource "changes"')}
    found = checked(check, **unknown)
    assert found.status is Status.WARN
    assert 'User "cp" cannot list' in found.found
    assert found.advice
    others = [
        each
        for each in judge(msgspec.structs.replace(WELL, **unknown), config())
        if fact != "rights" or each.check not in {"rights", "append-only"}
    ]
    assert {e.status for e in others if e.check != check} == {Status.OK}


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ConfigError("does not accept who we are"), "store.kubernetes.kubeconfig"),
        (UnavailableError("cannot be reached"), "start the server"),
    ],
)
def test_a_cluster_that_cannot_be_asked_is_one_check_that_fails(
    error: ConfigError | UnavailableError, advice: str
) -> None:
    (found,) = unreachable(error)
    assert (found.check, found.status) == ("reachable", Status.FAIL)
    assert found.found == str(error)
    assert advice in found.advice


def test_where_the_server_is_and_by_what_proxy_is_told() -> None:
    assert checked("reachable").found == "https://10.0.0.1:6443, namespace kuma-system"
    proxied = changed(WELL.way, proxy="http://proxy:3128")
    assert "by the proxy http://proxy:3128" in checked("reachable", way=proxied).found
    assert "does not tell" in checked("account", account=None).found


@pytest.mark.parametrize(
    ("check", "facts", "status", "words"),
    [
        ("version", {"version": "v1.20.0+k3s1"}, "ok", ""),
        ("version", {"version": "v1.19.16"}, "warn", "1.20"),
        ("version", {"version": "v0.0.0-master+faecb"}, "ok", ""),
        ("version", {"version": "strange"}, "ok", ""),
        ("ready", {"ready": "etcd"}, "fail", "etcd"),
        ("tls", {"way": Way(address="https://a", verified=False)}, "warn", "authority"),
        ("tls", {"way": Way(address="http://a:80", verified=None)}, "warn", "https"),
        ("tls", {"way": Way(address="http://127.0.0.1:8001", verified=None)}, "ok", ""),
        ("tls", {"way": Way(address="http://[::1]:8001", verified=None)}, "ok", ""),
        (
            "namespace",
            {"namespace": Namespace(name="kuma-system", there=False)},
            "fail",
            "kubectl create namespace kuma-system",
        ),
        (
            "namespace",
            {"namespace": Namespace(name="x", there=True, terminating=True)},
            "fail",
            "evstore export",
        ),
        ("kinds", {"kinds": (changed(KIND, version=2),)}, "fail", "newer evstore"),
        ("kinds", {"kinds": (changed(KIND, version=0),)}, "fail", "migrate up"),
        ("kinds", {"kinds": (changed(KIND, served=False),)}, "fail", "describe crd"),
        ("kinds", {"kinds": (changed(KIND, terminating=True),)}, "fail", "export"),
        (
            "rights",
            {"rights": changed(RIGHTS, missing=("create a", "get a", "get b"))},
            "fail",
            "evstore migrate manifests --account cp",
        ),
        (
            "rights",
            {"rights": changed(RIGHTS, mirror=("create resources.evstore.dev",))},
            "warn",
            "mirror",
        ),
        (
            "append-only",
            {"rights": changed(RIGHTS, beyond=("delete changes.evstore.dev",))},
            "warn",
            "evstore-runtime",
        ),
        (
            "append-only",
            {"rights": changed(RIGHTS, everything=True)},
            "warn",
            "evstore-runtime",
        ),
        (
            "clock",
            {"clock": Clock(seconds_ahead=1.6, seconds_error=0.5)},
            "warn",
            "NTP",
        ),
        ("clock", {"clock": Clock(seconds_ahead=1.4, seconds_error=0.5)}, "ok", ""),
        ("append", {"writable": "exceeded quota"}, "fail", "quotas"),
        ("watch", {"watch": Watch(event=False, ended=True)}, "ok", ""),
        ("watch", {"watch": Watch(event=False, ended=False)}, "warn", "proxies"),
        ("order", {"log": changed(LOG, damaged=("0007",))}, "fail", "evstore verify"),
        (
            "order",
            {"log": changed(LOG, gap=61, behind=("0063",))},
            "fail",
            "kubectl -n kuma-system delete changes.evstore.dev 0063",
        ),
        (
            "order",
            {"log": changed(LOG, behind=("0061",), problem="is of another log")},
            "fail",
            "delete changes.evstore.dev 0061",
        ),
        ("size", {"log": changed(LOG, events=log.EVENTS_MAX)}, "ok", ""),
        ("size", {"log": changed(LOG, events=log.EVENTS_MAX + 1)}, "warn", "compact"),
        ("size", {"log": changed(LOG, copy_bytes=256 * MIB)}, "ok", ""),
        ("size", {"log": changed(LOG, copy_bytes=256 * MIB + 1)}, "warn", "memory"),
        (
            "size",
            {"log": changed(LOG, copy_bytes=2**40, memory_bytes=None)},
            "ok",
            "",
        ),
        ("redactions", {"log": changed(LOG, redactions=(7,))}, "warn", "redact"),
        ("floor", {"log": changed(LOG, below=3)}, "warn", "evstore compact"),
        (
            "floor",
            {"floor": Floor(position=1, seconds=1.0, problem="gone")},
            "fail",
            "restore",
        ),
        (
            "snapshots",
            {"snapshots": changed(WELL.snapshots, compacted=2)},
            "warn",
            "snapshot drop",
        ),
        (
            "snapshots",
            {"snapshots": changed(WELL.snapshots, foreign=1)},
            "warn",
            "snapshot drop",
        ),
        (
            "snapshots",
            {
                "snapshots": Snapshots(
                    head=150_000,
                    own=0,
                    foreign=0,
                    position=None,
                    seconds=None,
                    begin=50_000,
                )
            },
            "ok",
            "",
        ),
        (
            "snapshots",
            {
                "snapshots": Snapshots(
                    head=150_001,
                    own=0,
                    foreign=0,
                    position=None,
                    seconds=None,
                    begin=50_000,
                )
            },
            "warn",
            "snapshot create",
        ),
        ("instances", {"instances": ()}, "ok", ""),
        ("instances", {"instances": (changed(BEAT, seconds=60.1),)}, "ok", ""),
        ("turns", {"turns": Turns(waiting=3, stalled=False)}, "ok", ""),
        ("turns", {"turns": Turns(waiting=1, stalled=True)}, "warn", "2 s"),
        ("mirror", {"mirror": Mirror(holder="", seconds=None)}, "warn", "rights"),
        ("mirror", {"mirror": Mirror(holder="one", seconds=60.0)}, "ok", ""),
        ("mirror", {"mirror": Mirror(holder="one", seconds=60.1)}, "warn", "rights"),
        (
            "mirror",
            {"mirror": Mirror(holder="", seconds=None), "instances": ()},
            "ok",
            "",
        ),
        (
            "mirror",
            {"mirror": Mirror(holder="one", seconds=DAY), "instances": ()},
            "ok",
            "",
        ),
        (
            "leftovers",
            {"leftovers": Leftovers(chunks=1, snapshot_chunks=0)},
            "ok",
            "evstore compact",
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
    ("left", "whole", "status"),
    [
        (way.TOKEN_SHARE_LEAST * 3600.0, 3600.0, "ok"),
        (way.TOKEN_SHARE_LEAST * 3600.0 - 1, 3600.0, "warn"),
        (7 * DAY, 365 * DAY, "ok"),
        (7 * DAY - 1, 365 * DAY, "warn"),
        (600.0, None, "ok"),
        (599.0, None, "warn"),
        (-5.0, 3600.0, "warn"),
    ],
)
def test_a_token_that_nobody_renews_is_told_before_its_end(
    left: float, whole: float | None, status: str
) -> None:
    found = checked("token", token=Token(seconds_left=left, seconds_whole=whole))
    assert found.status == status
    assert ("expired" in found.found) == (left < 0)


@pytest.mark.parametrize(
    ("position", "head_seconds", "status"),
    [
        (60, 1000.0, "ok"),
        (59, activity.LAG_SECONDS_MAX + 3.0, "ok"),
        (59, activity.LAG_SECONDS_MAX + 3.1, "warn"),
    ],
)
def test_an_instance_follows_if_it_knows_what_was_appended_long_before_its_beat(
    position: int, head_seconds: float, status: str
) -> None:
    instances = (changed(BEAT, position=position), BEAT)
    found = checked(
        "instances", instances=instances, log=changed(LOG, head_seconds=head_seconds)
    )
    assert found.status == status
    assert ("one is 1 event behind" in found.found) == (status == "warn")


def test_running_instances_are_counted_by_version() -> None:
    old = changed(BEAT, code_version="0.9")
    gone = changed(BEAT, code_version="0.8", seconds=DAY)
    found = checked("instances", instances=(BEAT, old, BEAT, gone)).found
    assert found == "running: 2 of version 1.0, 1 of version 0.9"
    assert checked("instances", instances=(gone,)).found.endswith("seen 24 hours ago")


def test_a_gap_before_several_changes_is_no_matter_of_deleting_them() -> None:
    found = checked("order", log=changed(LOG, gap=61, behind=("0062", "0063")))
    assert found.status is Status.FAIL
    assert "no change begins at position 61" in found.found
    assert "0062, 0063" in found.found
    assert "delete" not in found.advice
    assert "restore" in found.advice


def test_what_is_missing_is_told_by_verb_and_resource() -> None:
    rights = changed(RIGHTS, missing=("create a", "get a", "get b"))
    found = checked("rights", rights=rights)
    assert found.found.endswith("cp may not create, get a; get b")
    person = Account(name="alice", told_by="the server")
    advice = checked("rights", rights=rights, account=person).advice
    assert "--account NAME" in advice, "alice is no service account"


def test_instances_that_do_not_listen_need_no_watch() -> None:
    found = checked("watch", config(notify=False), watch=None)
    assert found.status is Status.OK
    assert "switched off" in found.found
