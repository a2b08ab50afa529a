"""What `evstore doctor` says of a real API server, by account and by what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest

import evstore
from apiserver import ApiServer, running_apiserver
from command import Command
from evstore import maintenance
from evstore.config import MirrorConfig, SnapshotsConfig
from evstore.doctor.checks import Check, Status
from evstore.errors import StoreError
from evstore.log.kubernetes import (
    KubernetesLog,
    compaction,
    manifests,
    migrations,
    probes,
)
from evstore.log.kubernetes.probes import contents
from evstore.maintenance import doctor
from fault.history import adjusted
from kube.interference import Fault, Reply
from servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore.config import Config
    from kube.interference import Interference

USUAL = [
    "reachable",
    "version",
    "ready",
    "tls",
    "account",
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
    "snapshots",
    "instances",
]


def quiet(config: Config) -> Config:
    """Return the settings of a store that leaves nothing but what it is told to."""
    snapshots = SnapshotsConfig(every_events=0)
    return adjusted(config, heartbeat_interval=0, snapshots=snapshots)


@pytest.fixture
def config(apiserver: ApiServer, kubernetes_config: Config) -> Config:
    return quiet(as_role(apiserver, kubernetes_config, "runtime"))


def as_role(server: ApiServer, config: Config, role: str) -> Config:
    return quiet(server.config(config.kubernetes.system_namespace, role=role))


def by(way: Interference, config: Config) -> Config:
    """Return the same settings, by a way that fails when it is told to."""
    return reached(config, server=f"https://127.0.0.1:{way.port}")


def mirrored(config: Config) -> Config:
    kubernetes = msgspec.structs.replace(
        config.kubernetes, mirror=MirrorConfig(enabled=True)
    )
    return msgspec.structs.replace(config, kubernetes=kubernetes)


def reached(config: Config, *, user: Any = None, **cluster: Any) -> Config:
    """Return the same settings with a kubeconfig that differs."""
    path = Path(config.kubernetes.kubeconfig)
    document = json.loads(path.read_text())
    known = document["clusters"][0]["cluster"]
    document["clusters"][0]["cluster"] = {
        key: value for key, value in {**known, **cluster}.items() if value is not None
    }
    document["users"][0]["user"].update(user or {})
    other = path.with_name(f"{path.name}-{free_port()}")
    other.write_text(json.dumps(document))
    kubernetes = msgspec.structs.replace(config.kubernetes, kubeconfig=str(other))
    return msgspec.structs.replace(config, kubernetes=kubernetes)


async def checks(config: Config) -> dict[str, Check]:
    """Return what the doctor says, by the name of the check."""
    found = await doctor(config)
    assert len({each.check for each in found}) == len(found)
    return {each.check: each for each in found}


async def written(config: Config, count: int = 3) -> None:
    async with evstore.open(config) as store:
        for number in range(count):
            await store.upsert("Zone", "a", change=lambda _, n=number: {"n": n})


def path_of(config: Config, plural: str, name: str = "") -> str:
    namespace = config.kubernetes.system_namespace
    path = f"/apis/evstore.dev/v1/namespaces/{namespace}/{plural}"
    return f"{path}/{name}" if name else path


def edited(server: ApiServer, path: str, **spec: Any) -> None:
    """Change an object by hand."""
    _, found = server.request("GET", path)
    found["spec"].update(spec)
    assert server.request("PUT", path, found)[0] == 200


def bad(found: dict[str, Check]) -> dict[str, Status]:
    return {e.check: e.status for e in found.values() if e.status is not Status.OK}


async def test_all_is_well_where_an_instance_runs(config: Config) -> None:
    running = adjusted(config, heartbeat_interval=30.0)
    async with evstore.open(running) as store:
        await store.create("Zone", "a", spec={})
        await maintenance.create_snapshots(config)
        with anyio.fail_after(30):
            while "running" not in (found := await checks(running))["instances"].found:
                pass  # it tells of itself in a moment
    assert bad(found) == {}, found
    assert [name for name in found if name != "turns"] == USUAL
    assert not any(each.advice for each in found.values())
    assert found["account"].found == "runtime, as the server says"
    assert found["watch"].found == "events come"
    assert found["log"].found.startswith("1 event in 1 change, head 1, appended ")
    assert found["snapshots"].found.startswith("1 of the state, the newest of posi")
    assert found["instances"].found.startswith("running: 1 of version ")


async def test_the_doctor_makes_nothing(apiserver: ApiServer, config: Config) -> None:
    found = await checks(mirrored(as_role(apiserver, config, "owner")))
    assert found["log"].found == "empty"
    namespace = config.kubernetes.system_namespace
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    paths = [path_of(config, plural) for plural in ("logs", "changes", "chunks")]
    for path in (*paths, leases):
        assert apiserver.request("GET", path)[1]["items"] == []


async def test_an_account_without_rights_is_told_each_and_the_rest_is_still_said(
    apiserver: ApiServer, config: Config
) -> None:
    await written(config)
    found = await checks(as_role(apiserver, config, "nobody"))
    rights = found["rights"]
    assert rights.status is Status.FAIL
    lacks = "may not create, get, list, watch changes.evstore.dev; create, get logs"
    assert lacks in rights.found
    assert "list, update, delete leases.coordination.k8s.io" in rights.found
    assert rights.found.count("customresourcedefinitions") == 1
    assert "evstore migrate manifests" in rights.advice
    unknown = ("namespace", "kinds", "watch", "log", "floor", "instances", "turns")
    assert bad(found) == {
        "rights": Status.FAIL,
        "append": Status.FAIL,
        **dict.fromkeys(unknown, Status.WARN),
    }
    assert 'User "nobody" cannot list resource "leases"' in found["instances"].found
    assert found["clock"].status is found["version"].status is Status.OK


@pytest.mark.parametrize(
    ("role", "right"),
    [
        ("owner", "update changes.evstore.dev"),
        ("compactor", "delete changes.evstore.dev"),
        ("admin", "whatever there is"),
    ],
)
async def test_who_can_change_the_log_should_not_run_it(
    apiserver: ApiServer, config: Config, role: str, right: str
) -> None:
    found = await checks(as_role(apiserver, config, role))
    assert bad(found) == {"append-only": Status.WARN}
    assert right in found["append-only"].found
    assert "evstore-runtime" in found["append-only"].advice


async def test_the_mirror_takes_rights_of_its_own_and_somebody_who_writes(
    apiserver: ApiServer, config: Config
) -> None:
    lacking = (await checks(mirrored(config)))["rights"]
    assert lacking.status is Status.WARN
    assert "delete resources.evstore.dev; create, update events" in lacking.found
    owner = mirrored(as_role(apiserver, config, "owner"))
    found = await checks(owner)
    assert found["rights"].status is Status.OK
    assert "no instance runs" in found["mirror"].found
    running = adjusted(owner, heartbeat_interval=30.0)
    async with evstore.open(running) as store:
        await store.create("Zone", "a", spec={})
        with anyio.fail_after(30):
            while " writes it" not in (await checks(running))["mirror"].found:
                pass


async def test_a_server_that_cannot_be_reached_is_the_only_line(config: Config) -> None:
    (found,) = await doctor(reached(config, server=f"https://127.0.0.1:{free_port()}"))
    assert (found.check, found.status) == ("reachable", Status.FAIL)
    assert "cannot be reached" in found.found


async def test_a_wrong_token_is_the_only_line_and_stays_secret(config: Config) -> None:
    (found,) = await doctor(reached(config, user={"token": "not-this-one"}))
    assert (found.check, found.status) == ("reachable", Status.FAIL)
    assert "does not accept who we are" in found.found
    assert "not-this-one" not in str(found)
    nowhere = msgspec.structs.replace(config.kubernetes, kubeconfig="/nowhere")
    (found,) = await doctor(msgspec.structs.replace(config, kubernetes=nowhere))
    assert "there is no file /nowhere" in found.found


async def test_a_certificate_that_is_not_checked_is_told(config: Config) -> None:
    insecure = {"insecure-skip-tls-verify": True, "certificate-authority": None}
    found = await checks(reached(config, **insecure))
    assert bad(found) == {"tls": Status.WARN}


async def test_one_request_that_fails_hides_no_other(
    config: Config, way: Interference
) -> None:
    await written(config)
    for path in ("/leases", "/snapshots?"):
        way.plan("GET", path, Reply(500), times=100)
    found = await checks(by(way, config))
    unknown = {"instances", "turns", "snapshots"}
    assert bad(found) == dict.fromkeys(unknown, Status.WARN)
    assert all("cannot be told" in found[name].found for name in unknown)
    assert found["order"].status is Status.OK


async def test_a_namespace_that_is_not_there_is_told_to_who_may_not_look(
    apiserver: ApiServer,
) -> None:
    for role in ("admin", "runtime"):
        found = await checks(apiserver.config("nowhere", role=role))
        assert found["namespace"].status is Status.FAIL
        assert found["namespace"].found == "there is no namespace nowhere"
        assert 'namespaces "nowhere" not found' in found["append"].found


async def test_a_namespace_that_goes_away_is_told_to_who_may_not_look(
    apiserver: ApiServer, namespaces: Callable[[], Config]
) -> None:
    name = namespaces().kubernetes.system_namespace
    # Nobody finishes what was begun: there is no controller here.
    apiserver.request("DELETE", f"/api/v1/namespaces/{name}")
    for role in ("admin", "runtime"):
        found = await checks(apiserver.config(name, role=role))
        assert found["namespace"].status is Status.FAIL
        assert "being deleted" in found["namespace"].found
        assert found["append"].status is Status.FAIL


async def test_kinds_of_another_version_are_told(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "SCHEMA_VERSION", 2)
    older = (await checks(config))["kinds"]
    assert (older.status, older.advice) == (Status.FAIL, 'run "evstore migrate up"')
    assert "changes.evstore.dev at version 1" in older.found
    monkeypatch.setattr(manifests, "SCHEMA_VERSION", 0)
    newer = (await checks(config))["kinds"]
    assert (newer.status, newer.advice) == (Status.FAIL, "install the newer evstore")


async def test_a_change_that_was_removed_is_a_gap(
    apiserver: ApiServer, config: Config
) -> None:
    await written(config, 4)
    apiserver.request("DELETE", path_of(config, "changes", f"{3:020}"))
    found = await checks(config)
    assert bad(found) == {"order": Status.FAIL}
    assert "no change begins at position 3" in found["order"].found
    assert f"delete changes.evstore.dev {4:020}" in found["order"].advice
    assert "head 2" in found["log"].found
    apiserver.request("DELETE", path_of(config, "changes", f"{2:020}"))
    order = (await checks(config))["order"]
    assert f"{3:020}" not in order.found
    assert f"{4:020}" in order.found


async def test_a_change_of_another_log_or_place_is_told(
    apiserver: ApiServer, config: Config
) -> None:
    await written(config, 3)
    last = path_of(config, "changes", f"{3:020}")
    _, found = apiserver.request("GET", last)
    right = found["spec"]
    edited(apiserver, last, after="0" * 64)
    assert "does not follow event 2" in (await checks(config))["order"].found
    edited(apiserver, last, after=right["after"], log="0" * 36)
    order = (await checks(config))["order"]
    assert (order.status, order.found) == (
        Status.FAIL,
        f"change {3:020} is of another log",
    )


async def test_a_change_that_cannot_be_read_is_told_and_those_behind_it_are_read(
    apiserver: ApiServer, config: Config
) -> None:
    await written(config, 3)
    edited(apiserver, path_of(config, "changes", f"{2:020}"), payload="no events")
    found = await checks(config)
    assert bad(found) == {"order": Status.FAIL}
    assert found["order"].found == f"cannot be read: change {2:020}"
    assert found["log"].found.startswith("3 events in 3 changes, head 3")


async def test_a_redaction_that_was_not_done_is_told(
    apiserver: ApiServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(config, 3)
    owner = as_role(apiserver, config, "owner")

    async def broken_off(*_: object, **__: object) -> bool:
        message = "broken off"
        raise evstore.UnavailableError(message)

    with monkeypatch.context() as patch:
        patch.setattr(KubernetesLog, "redact", broken_off)
        async with evstore.open(owner) as store:
            with pytest.raises(StoreError):
                await store.redact("Zone", "a", version=2, reason="secret")
    found = await checks(config)
    assert bad(found) == {"redactions": Status.WARN}
    assert found["redactions"].found == "announced and not done: position 2"
    async with evstore.open(owner) as store:
        await store.redact("Zone", "a", version=2, reason="secret")
    assert bad(await checks(config)) == {}


async def test_a_floor_and_what_lies_below_it_are_told(
    apiserver: ApiServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "YOUNG_SECONDS", -1)
    await written(config, 6)
    await maintenance.create_snapshots(config)
    compactor = as_role(apiserver, config, "compactor")
    await written(config, 4)
    with monkeypatch.context() as patch:
        patch.setattr(compaction.Compactor, "sweep", nothing_removed)
        await maintenance.compact(compactor, keep_events=2)
    found = await checks(config)
    assert bad(found) == {"floor": Status.WARN, "snapshots": Status.WARN}
    assert "history begins after position 8" in found["floor"].found
    assert "8 changes below it" in found["floor"].found
    assert found["snapshots"].found == "1 below the floor of the log"
    assert found["log"].found.startswith("2 events in 2 changes, head 10")
    await maintenance.compact(compactor, keep_events=2)
    await maintenance.drop_snapshots(config)
    found = await checks(config)
    assert bad(found) == {}
    assert found["snapshots"].found == "none of the state; a start reads 2 events"
    _, log = apiserver.request("GET", path_of(config, "logs", "evstore"))
    piece = log["spec"]["floor"]["pieces"][0]
    apiserver.request("DELETE", path_of(config, "snapshotchunks", piece))
    found = await checks(config)
    assert bad(found) == {"floor": Status.FAIL}
    assert "1 of 1 pieces are missing" in found["floor"].found


async def nothing_removed(_: compaction.Compactor) -> int:
    return 0


async def test_snapshots_of_another_log_are_told(
    apiserver: ApiServer, config: Config, namespaces: Callable[[], Config]
) -> None:
    await written(config)
    await maintenance.create_snapshots(config)
    _, found = apiserver.request("GET", path_of(config, "snapshots"))
    elsewhere = as_role(apiserver, namespaces(), "runtime")
    await written(elsewhere)
    for each in found["items"]:
        each["metadata"] = {"name": each["metadata"]["name"]}
        apiserver.create(path_of(elsewhere, "snapshots"), each)
    snapshots = (await checks(elsewhere))["snapshots"]
    assert snapshots.status is Status.WARN
    assert snapshots.found == "1 of another log, or of an end that was lost"


async def test_chunks_that_nothing_refers_to_are_counted_by_who_may_look(
    apiserver: ApiServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = "x" * 600_000
    async with evstore.open(config) as store:
        await store.create("Zone", "a", spec={"text": large})
    await maintenance.create_snapshots(config)
    admin = as_role(apiserver, config, "admin")
    for plural in ("chunks", "snapshotchunks"):
        body = {
            "apiVersion": "evstore.dev/v1",
            "kind": "Chunk" if plural == "chunks" else "SnapshotChunk",
            "metadata": {"name": "left-over"},
            "spec": {"payload": "x"},
        }
        apiserver.create(path_of(config, plural), body)
    assert (await checks(admin))["leftovers"].found == "no chunk that nothing refers to"
    monkeypatch.setattr(compaction, "YOUNG_SECONDS", -1)
    leftovers = (await checks(admin))["leftovers"]
    assert leftovers.found == "2 chunks that nothing refers to, 1 of snapshots"
    assert "leftovers" not in await checks(config)


async def test_a_queue_whose_first_does_not_move_is_told(
    apiserver: ApiServer, config: Config
) -> None:
    namespace = config.kubernetes.system_namespace
    lease = {"name": "evstore-turns", "annotations": {"evstore.dev/queue": "one two"}}
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    apiserver.create(path, {"metadata": lease})
    found = await checks(config)
    assert bad(found) == {"turns": Status.WARN}
    assert found["turns"].found == "2 tickets, and the first does not move"


async def test_a_watch_through_which_nothing_comes_is_told(
    config: Config, way: Interference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "WATCH_SECONDS_MAX", 0.5)
    await written(config)
    way.plan("GET", "watch=1", Fault.STALL)
    found = await checks(by(way, config))
    assert bad(found) == {"watch": Status.WARN}
    assert "nothing comes through" in found["watch"].found
    deaf = adjusted(config, notify=False)
    assert "switched off" in (await checks(deaf))["watch"].found


async def test_a_token_that_tells_its_end_and_whose_it_is(
    apiserver: ApiServer, config: Config
) -> None:
    namespace = config.kubernetes.system_namespace
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    apiserver.create(accounts, {"metadata": {"name": "plane"}})
    request = {"spec": {"expirationSeconds": 3600}}
    made = apiserver.create(f"{accounts}/plane/token", request)
    token = made["status"]["token"]
    found = await checks(reached(config, user={"token": token}))
    name = f"system:serviceaccount:{namespace}:plane"
    assert found["account"].found == f"{name}, as its token says"
    assert found["token"].status is Status.OK
    assert found["token"].found.startswith("expires in ")
    assert "--account plane" in found["rights"].advice
    assert token not in str(found)


async def test_a_server_may_tell_who_we_are(config: Config, way: Interference) -> None:
    review = {"status": {"userInfo": {"username": "alice", "groups": ["people"]}}}
    way.plan("POST", "selfsubjectreviews", Reply(201, body=review))
    found = await checks(by(way, config))
    assert found["account"].found == "alice, as the server says"


async def test_why_a_change_would_not_be_taken_is_told(
    config: Config, way: Interference
) -> None:
    for status in (500, 403):
        message = "admission webhook denied it"
        way.plan("POST", "/changes?dryRun", Reply(status, body={"message": message}))
        append = (await checks(by(way, config)))["append"]
        assert append.status is Status.FAIL
        assert message in append.found


def test_the_command_ends_with_exit_code_1_if_anything_fails(
    apiserver: ApiServer, config: Config, tmp_path: Path
) -> None:
    done = Command(config, tmp_path)("doctor")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0].split() == ["STATUS", "CHECK", "FOUND"]
    nobody = as_role(apiserver, config, "nobody")
    done = Command(nobody, tmp_path)("doctor", "-o", "json")
    assert done.code == 1
    documents = {each["check"]: each for each in done.documents}
    assert documents["rights"].keys() == {"check", "status", "found", "advice"}
    assert documents["rights"]["status"] == "fail"
    memory = Command(None, tmp_path)("doctor")
    assert memory.code == 2
    assert "set it to postgres or kubernetes" in memory.err


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_kinds_that_are_missing_or_go_away_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running_apiserver() as bare:
        config = bare.config("default", role="admin")
        found = await checks(config)
        assert bad(found) == {"kinds": Status.FAIL, "append-only": Status.WARN}
        assert found["kinds"].found.startswith("missing: changes.evstore.dev, ")
        assert found["kinds"].advice == 'run "evstore migrate up"'
        assert not {"log", "append", "watch", "snapshots"} & found.keys()
        await migrations.migrate(config)
        assert bad(await checks(config)) == {"append-only": Status.WARN}
        # What has a finalizer goes when somebody says so, and with it its kind.
        held = {"name": "held", "finalizers": ["evstore.test/held"]}
        body = {
            "apiVersion": "evstore.dev/v1",
            "kind": "Chunk",
            "metadata": held,
            "spec": {"payload": "x"},
        }
        bare.create(path_of(config, "chunks"), body)
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        bare.request("DELETE", f"{definitions}/chunks.evstore.dev")
        kinds = (await checks(config))["kinds"]
        assert kinds.status is Status.FAIL
        assert kinds.found.endswith("with all their objects: chunks.evstore.dev")
        monkeypatch.setattr(probes, "_REQUEST_SECONDS_MAX", 5.0)
        bare.kill_etcd()
        stuck = await checks(config)
        assert (stuck["ready"].status, stuck["kinds"].status) == ("fail", "warn")
        assert "not ready: etcd" in stuck["ready"].found
        assert stuck["version"].status is Status.OK
        bare.kill_server()
        (lost,) = await doctor(config)
        assert (lost.check, lost.status) == ("reachable", Status.FAIL)
