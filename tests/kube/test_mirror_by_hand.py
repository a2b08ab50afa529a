"""What somebody does to a mirror by hand is put back, and recorded as a warning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import evstore
from evstore import Key
from evstore.mirror.content import name_of
from kube.mirroring import Cluster, document, eventually, mirrored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from apiserver import ApiServer
    from evstore import Config, Store

ZONE_A = name_of("Zone//a")
ZONE_B = name_of("Zone//b")


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


def edit_spec(found: dict[str, Any]) -> None:
    found["spec"]["n"] = 2


def edit_spec_a_little(found: dict[str, Any]) -> None:
    found["spec"]["n"] = True


def edit_type(found: dict[str, Any]) -> None:
    found["type"] = "Mesh"


def edit_status(found: dict[str, Any]) -> None:
    found["status"] = {"ready": False}


def edit_label(found: dict[str, Any]) -> None:
    del found["metadata"]["labels"]["evstore.dev/type"]


def edit_source(found: dict[str, Any]) -> None:
    found["metadata"]["annotations"]["evstore.dev/source"] = "0" * 64


def edit_annotations(found: dict[str, Any]) -> None:
    del found["metadata"]["annotations"]


@pytest.mark.parametrize(
    "change",
    [
        *(edit_spec, edit_spec_a_little, edit_type, edit_status),
        *(edit_label, edit_source, edit_annotations),
    ],
)
async def test_an_edit_by_hand_is_put_back_and_recorded(
    store: Store, cluster: Cluster, change: Callable[[dict[str, Any]], object]
) -> None:
    await store.create("Zone", "a", spec={"n": 1})
    await shows(cluster, {"a": 1})
    before = cluster.objects()["a"]
    cluster.edit("a", change)
    expected = [("ChangedByHand", ZONE_A, 1)]
    await eventually(cluster.warnings, lambda found: found == expected)
    wanted = document(store, "Zone", "a")
    after = (
        await eventually(
            cluster.objects,
            lambda found: (
                found["a"]["spec"] == wanted["spec"]
                and _ours(found["a"]) == _ours(before)
            ),
        )
    )["a"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    (message,) = cluster.messages()
    assert message.startswith("changed by hand")
    assert "at version 1" in message


async def test_a_warning_says_with_what_an_object_was_written(
    store: Store, cluster: Cluster
) -> None:
    await store.create("Zone", "a", spec={"n": 1})
    await shows(cluster, {"a": 1})
    cluster.edit("a", edit_spec)
    (message,) = await eventually(cluster.messages, bool)
    assert message.startswith("changed by hand, last written with kubectl-edit; put")


def _ours(document: dict[str, Any]) -> dict[str, Any]:
    """Return an object without what the server and others add to it."""
    metadata = document["metadata"]
    kept = {name: metadata.get(name) for name in ("name", "labels", "annotations")}
    return document | {"metadata": kept}


async def test_an_edit_that_comes_again_is_counted(
    store: Store, cluster: Cluster
) -> None:
    await store.create("Zone", "a", spec={"n": 1})
    await shows(cluster, {"a": 1})
    for count in (1, 2, 3):
        cluster.edit("a", edit_spec)
        expected = [("ChangedByHand", ZONE_A, count)]
        await eventually(cluster.warnings, lambda found: found == expected)  # noqa: B023
        await eventually(cluster.objects, lambda found: found["a"]["spec"] == {"n": 1})


async def test_what_is_deleted_by_hand_comes_back(
    store: Store, cluster: Cluster
) -> None:
    await store.create("Zone", "a", spec={})
    await shows(cluster, {"a": 1})
    cluster.delete("a")
    expected = [("DeletedByHand", ZONE_A, 1)]
    await eventually(cluster.warnings, lambda found: found == expected)
    await shows(cluster, {"a": 1})


async def test_kubectl_apply_and_delete_are_undone(
    store: Store, cluster: Cluster
) -> None:
    await store.create("Zone", "a", spec={"n": 1})
    await shows(cluster, {"a": 1})
    patch = '{"spec": {"n": 5}}'
    cluster.kubectl(
        "patch", "resources.evstore.dev", ZONE_A, "--type=merge", "-p", patch
    )
    await eventually(cluster.objects, lambda found: found["a"]["spec"] == {"n": 1})
    cluster.kubectl("delete", "resources.evstore.dev", "--all")
    await shows(cluster, {"a": 1})
    described = cluster.kubectl("get", "events", "--field-selector=type=Warning")
    assert "ChangedByHand" in described
    assert "DeletedByHand" in described
    assert f"resource/{ZONE_A}" in described


async def test_what_is_made_by_hand_is_taken_away(
    store: Store, cluster: Cluster
) -> None:
    await store.create("Zone", "a", spec={})
    await shows(cluster, {"a": 1})
    copied = cluster.objects()["a"]
    copied["metadata"] = {
        "name": "mine",
        "annotations": copied["metadata"]["annotations"],
    }
    cluster.server.create(cluster.path, copied)
    expected = [("CreatedByHand", "mine", 1)]
    await eventually(cluster.warnings, lambda found: found == expected)
    path = f"{cluster.path}/mine"
    await eventually(
        lambda: cluster.server.request("GET", path)[0], lambda status: status == 404
    )


@pytest.mark.parametrize("depth", [300, 3000])
async def test_one_that_is_nested_too_deeply_to_be_read_is_taken_away(
    config: Config, cluster: Cluster, tmp_path: Path, depth: int
) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    head = '"apiVersion": "evstore.dev/v1", "kind": "Resource", "type": "Zone"'
    for number in (1, 2):
        name = f'"name": "deep-{number}"'
        text = (
            f'{{{head}, {name}, "version": 1, "metadata": {{{name}}}, "spec": {deep}}}'
        )
        file = tmp_path / f"{number}.json"
        file.write_text(text)

    def readable() -> dict[str, int]:
        try:
            return cluster.shown()
        except RecursionError:
            return {}

    # One is there before it starts, the other comes while it runs.
    cluster.kubectl("create", "-f", str(tmp_path / "1.json"))
    async with evstore.open(mirrored(config)) as store:
        await store.create("Zone", "a", spec={})
        expected = [("CreatedByHand", "deep-1", 1)]
        await eventually(cluster.warnings, lambda found: found == expected)
        cluster.kubectl("create", "-f", str(tmp_path / "2.json"))
        expected.append(("CreatedByHand", "deep-2", 1))
        await eventually(cluster.warnings, lambda found: found == expected)
        await eventually(readable, lambda shown: shown == {"a": 1})


async def test_a_copy_of_before_that_is_put_back_is_an_edit(
    store: Store, cluster: Cluster
) -> None:
    await store.create("Zone", "a", spec={"n": 1})
    await shows(cluster, {"a": 1})
    kept = cluster.objects()["a"]
    await store.update(Key(type="Zone", name="a"), spec={"n": 2})
    await shows(cluster, {"a": 2})
    del kept["metadata"]["resourceVersion"]
    kept["metadata"]["resourceVersion"] = cluster.objects()["a"]["metadata"][
        "resourceVersion"
    ]
    cluster.put(kept)
    expected = [("ChangedByHand", ZONE_A, 1)]
    await eventually(cluster.warnings, lambda found: found == expected)
    await shows(cluster, {"a": 2})


async def test_what_others_note_beside_it_is_left_alone(
    store: Store, cluster: Cluster
) -> None:
    await store.create("Zone", "a", spec={})
    await shows(cluster, {"a": 1})

    def note(found: dict[str, Any]) -> None:
        found["metadata"]["annotations"]["example.org/owner"] = "team-a"

    cluster.edit("a", note)
    await store.create("Zone", "b", spec={})
    await shows(cluster, {"a": 1, "b": 2})
    cluster.delete("b")
    # The watch told of the note before it told of that.
    expected = [("DeletedByHand", ZONE_B, 1)]
    await eventually(cluster.warnings, lambda found: found == expected)
    annotations = cluster.objects()["a"]["metadata"]["annotations"]
    assert annotations["example.org/owner"] == "team-a"
