"""What tests of compaction write, and what they find in the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

import evstore
from evstore.log.kubernetes import compaction, feed, objects

if TYPE_CHECKING:
    import pytest

    from apiserver import ApiServer
    from evstore.config import Config


def make_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every object be old enough, and every look at the log's end be too old."""
    monkeypatch.setattr(compaction, "YOUNG_SECONDS", -1)
    monkeypatch.setattr(feed, "CONFIRMED_SECONDS_MAX", -1)


def quiet(config: Config) -> Config:
    """Return the configuration of a store without heartbeats and snapshots."""
    snapshots = msgspec.structs.replace(config.evstore.snapshots, every_events=0)
    section = msgspec.structs.replace(
        config.evstore, heartbeat_interval=0, snapshots=snapshots
    )
    return msgspec.structs.replace(config, evstore=section)


def compactor_config(apiserver: ApiServer, config: Config) -> Config:
    """Return the configuration of an account that may compact, and no more."""
    namespace = config.kubernetes.system_namespace
    return quiet(apiserver.config(namespace, role="compactor"))


async def written(config: Config) -> None:
    """Write ten changes: `a` in six versions, `b`, `c` and `d`, and `b` deleted."""
    async with evstore.open(config) as store:
        for name in "abcd":
            await store.create("Mesh", name, spec={"n": 0}, request_id=f"make {name}")
        for number in range(1, 6):
            await change(store, "a", number)
        await store.delete("Mesh", "b")


async def change(store: evstore.Store, name: str, number: int) -> int:
    """Change a resource; return its version."""
    spec = {"n": number}
    return (await store.upsert("Mesh", name, change=lambda _: spec)).version


def found(
    apiserver: ApiServer, config: Config, plural: str = "changes"
) -> list[dict[str, Any]]:
    """Return all objects of one of our kinds."""
    path = objects.collection(config.kubernetes.system_namespace, plural)
    _, answer = apiserver.request("GET", path)
    items: list[dict[str, Any]] = answer["items"]
    return items


def names(apiserver: ApiServer, config: Config, plural: str = "changes") -> list[str]:
    """Return the names of all objects of one of our kinds."""
    return [each["metadata"]["name"] for each in found(apiserver, config, plural)]


def remove(apiserver: ApiServer, config: Config, position: int) -> None:
    """Remove a change, as an administrator can."""
    namespace = config.kubernetes.system_namespace
    path = objects.collection(namespace, "changes")
    status, _ = apiserver.request("DELETE", f"{path}/{objects.name_of(position)}")
    assert status == 200


def in_environment(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands in this process, to which all objects are old, use a configuration."""
    for name, value in (
        ("TYPE", "kubernetes"),
        ("KUBERNETES_SYSTEM_NAMESPACE", config.kubernetes.system_namespace),
        ("KUBERNETES_KUBECONFIG", config.kubernetes.kubeconfig),
    ):
        monkeypatch.setenv(f"KUMA_STORE_{name}", value)
