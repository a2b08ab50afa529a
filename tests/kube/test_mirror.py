"""The current state is in the cluster for kubectl to show, whoever edits it there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import evstore
from command import Command
from evstore import Key
from evstore.mirror.content import name_of
from kube.mirroring import Cluster, eventually, mirrored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from apiserver import ApiServer
    from evstore import Config, Store
    from kube.interference import Interference


@pytest.fixture
def cluster(apiserver: ApiServer, config: Config) -> Cluster:
    return Cluster(apiserver, config)


@pytest.fixture
async def store(config: Config) -> AsyncIterator[Store]:
    """Return a store that mirrors."""
    async with evstore.open(mirrored(config)) as opened:
        yield opened


async def shows(cluster: Cluster, wanted: dict[str, int]) -> None:
    await eventually(cluster.shown, lambda shown: shown == wanted)


async def test_kubectl_shows_the_current_state(store: Store, cluster: Cluster) -> None:
    await store.create("Mesh", "default", spec={"mtls": {"enabled": True}})
    await store.create("Zone", "gone", spec={})
    await store.create(
        "Dataplane",
        "web-1",
        mesh="default",
        spec={"port": 80},
        status={"ready": True},
        labels={"kuma.io/service": "web, all of it"},
        owner=Key(type="Mesh", name="default"),
    )
    await store.delete("Zone", "gone")
    await shows(cluster, {"default": 1, "web-1": 3})
    header, *rows = cluster.kubectl("get", "resources.evstore.dev").splitlines()
    assert header.split() == ["NAME", "TYPE", "MESH", "NAME", "VERSION", "AGE"]
    dataplane, mesh = (row.split() for row in rows)
    name = name_of("Dataplane/default/web-1")
    assert name.startswith("dataplane-default-web-1-")
    assert dataplane[:-1] == [name, "Dataplane", "default", "web-1", "3"]
    assert mesh[:-1] == [name_of("Mesh//default"), "Mesh", "default", "1"]
    assert dataplane[-1].endswith("s")
    by_label = ("get", "resources.evstore.dev", "-l", "evstore.dev/type=Mesh")
    assert len(cluster.kubectl(*by_label).splitlines()) == 2
    shown = cluster.objects()["web-1"]
    assert shown["spec"] == {"port": 80}
    assert shown["status"] == {"ready": True}
    assert shown["labels"] == {"kuma.io/service": "web, all of it"}
    assert shown["owner"] == {"type": "Mesh", "name": "default"}


async def test_each_change_reaches_it(store: Store, cluster: Cluster) -> None:
    await store.create("Zone", "a", spec={"n": 1}, status={"up": True})
    await store.create("Zone", "b", spec={})
    await shows(cluster, {"a": 1, "b": 2})
    zone = Key(type="Zone", name="a")
    await store.update(zone, spec={"n": 2}, status=None)
    await store.delete("Zone", "b")
    await shows(cluster, {"a": 3})
    shown = cluster.objects()["a"]
    assert shown["spec"] == {"n": 2}
    assert "status" not in shown
    assert cluster.warnings() == []


async def test_secrets_never_appear(store: Store, cluster: Cluster) -> None:
    await store.create("Secret", "s", mesh="default", spec={"data": "hush-1"})
    await store.create("GlobalSecret", "g", spec={"data": "hush-2"})
    async with store.leadership("task"):
        await store.create("Zone", "a", spec={})
        await shows(cluster, {"a": 4})
    await store.update(Key(type="GlobalSecret", name="g"), spec={"data": "hush-3"})
    zone = await store.create("Zone", "b", spec={})
    # What was marked before it was looked at before it.
    await shows(cluster, {"a": 4, "b": zone.version})
    assert "hush" not in str(cluster.objects())


async def test_a_secret_that_is_put_there_by_hand_is_taken_away(
    store: Store, cluster: Cluster
) -> None:
    await store.create("Zone", "a", spec={})
    await store.create("GlobalSecret", "g", spec={"data": "hush"})
    await shows(cluster, {"a": 1})
    forged = cluster.objects()["a"] | {"type": "GlobalSecret", "name": "g"}
    forged["metadata"] = {"name": name_of("GlobalSecret//g")}
    cluster.server.create(cluster.path, forged)
    await shows(cluster, {"a": 1})
    assert "hush" not in str(cluster.messages())


async def test_what_was_redacted_is_gone_from_it(
    store: Store, cluster: Cluster
) -> None:
    await store.create("Zone", "a", spec={"token": "hush", "n": 1})
    await shows(cluster, {"a": 1})
    await store.redact("Zone", "a", version=1, fields=["/spec/token"], reason="leak")
    found = await eventually(
        cluster.objects, lambda objects: "hush" not in str(objects)
    )
    assert found["a"]["spec"] == {"token": "[redacted]", "n": 1}


async def test_a_body_that_is_too_large_is_left_out(
    store: Store, cluster: Cluster
) -> None:
    await store.create("Zone", "large", spec={"text": "x" * 600_000})
    await store.create("Zone", "a", spec={})
    await shows(cluster, {"large": 1, "a": 2})
    shown = cluster.objects()["large"]
    assert "spec" not in shown
    assert shown["omitted"].startswith("spec and status: 600")


async def test_a_restart_repairs_what_differs(config: Config, cluster: Cluster) -> None:
    async with evstore.open(mirrored(config)) as store:
        for name in ("kept", "edited", "deleted", "updated", "removed"):
            await store.create("Zone", name, spec={"n": 1})
        await eventually(cluster.shown, lambda shown: len(shown) == 5)
    edited = cluster.edit("edited", lambda found: found["spec"].update(n=2))
    cluster.delete("deleted")
    forged = cluster.objects()["kept"] | {"name": "forged"}
    forged["metadata"] = {"name": "forged"}
    cluster.server.create(cluster.path, forged)
    async with evstore.open(config) as store:
        await store.update(Key(type="Zone", name="updated"), spec={"n": 2})
        await store.delete("Zone", "removed")
        await store.create("Zone", "new", spec={})
    kept = cluster.objects()["kept"]
    async with evstore.open(mirrored(config)) as store:
        wanted = {"kept": 1, "edited": 2, "deleted": 3, "updated": 6, "new": 8}
        await eventually(
            cluster.objects,
            lambda found: (
                {name: each["version"] for name, each in found.items()} == wanted
                and found["edited"]["spec"] == {"n": 1}
            ),
        )
        assert cluster.objects()["kept"] == kept
    assert cluster.warnings() == [
        ("ChangedByHand", edited, 1),
        ("CreatedByHand", "forged", 1),
    ]


async def test_a_restart_writes_nothing_where_nothing_differs(
    config: Config, cluster: Cluster, way: Interference
) -> None:
    async with evstore.open(mirrored(config)) as store:
        for name in "abc":
            await store.create("Zone", name, spec={"n": 1.0, "m": 1e30, "l": [None]})
        await shows(cluster, {"a": 1, "b": 2, "c": 3})
    async with evstore.open(mirrored(way.config(config))) as store:
        await store.create("Zone", "d", spec={})
        await shows(cluster, {"a": 1, "b": 2, "c": 3, "d": 4})
    asked = [each for each in way.requests if "/resources" in each]
    assert [each.split()[0] for each in asked if not each.startswith("GET")] == ["POST"]


async def test_it_is_off_by_default(config: Config, cluster: Cluster) -> None:
    async with evstore.open(config) as store:
        await store.create("Zone", "a", spec={})
    assert cluster.shown() == {}
    assert cluster.holder() == ""


async def test_commands_mirror_nothing(
    config: Config, cluster: Cluster, tmp_path: Path
) -> None:
    command = Command(mirrored(config), tmp_path)
    kubernetes = {
        "KUMA_STORE_KUBERNETES_SYSTEM_NAMESPACE": config.kubernetes.system_namespace,
        "KUMA_STORE_KUBERNETES_KUBECONFIG": config.kubernetes.kubeconfig,
        "KUMA_STORE_KUBERNETES_MIRROR_ENABLED": "true",
    }
    command.write("b.yaml", "type: Zone\nname: b\nspec: {}\n")
    change = {"op": "create", "type": "Zone", "mesh": "", "name": "a", "spec": {}}
    line = {"time": 1_600_000_000, "actor": "al", "reason": "", "changes": [change]}
    command.write("a.jsonl", json.dumps(line) + "\n")
    for words in (("import", "a.jsonl"), ("apply", "-f", "b.yaml"), ("list", "Zone")):
        done = command.process(*words, **kubernetes)
        assert done.code == 0, done.err
    assert cluster.shown() == {}
    assert cluster.holder() == ""
    async with evstore.open(mirrored(config)):
        await shows(cluster, {"a": 1, "b": 2})


async def test_without_the_rights_the_store_runs_and_says_what_is_missing(
    apiserver: ApiServer,
    cluster: Cluster,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limited = apiserver.config(cluster.namespace, role="runtime")

    def said() -> str:
        return caplog.text

    async with evstore.open(mirrored(limited)) as store:
        await store.create("Zone", "a", spec={})
        await eventually(said, lambda text: "cannot mirror" in text)
    assert "we may not get" in caplog.text
    assert "migrate manifests" in caplog.text
    assert cluster.shown() == {}


async def test_a_fault_of_its_own_does_not_end_the_store(
    config: Config,
    cluster: Cluster,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(record: object) -> None:
        raise KeyError(record)

    async with evstore.open(mirrored(config)) as store:
        with monkeypatch.context() as broken:
            broken.setattr("evstore.mirror.content.document_of", fail)
            await store.create("Zone", "a", spec={})
            await eventually(lambda: caplog.text, lambda text: "KeyError" in text)
        await store.create("Zone", "b", spec={})
        await shows(cluster, {"a": 1, "b": 2})
