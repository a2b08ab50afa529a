"""Compaction: what goes, what stays, and who may do it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
import pytest

import evstore
from evstore import maintenance
from evstore.cli.main import app
from evstore.config import StoreType
from evstore.errors import CompactedError, ConfigError, InvalidError
from evstore.folds.projections import Projections
from evstore.log import Instance, open_log
from evstore.log.kubernetes import compaction, objects
from evstore.snapshots.floor import begin
from kube.compacting import (
    change,
    compactor_config,
    in_environment,
    make_old,
    names,
    remove,
    written,
)

if TYPE_CHECKING:
    from apiserver import ApiServer
    from evstore.config import Config


@pytest.fixture(autouse=True)
def _aged(monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(monkeypatch)


@pytest.fixture
def config(apiserver: ApiServer, kubernetes_config: Config) -> Config:
    return compactor_config(apiserver, kubernetes_config)


async def test_what_lies_below_the_floor_is_gone_and_the_state_stays(
    apiserver: ApiServer, config: Config
) -> None:
    await written(config)
    async with evstore.open(config) as store:
        digest, head = store.digest(), await store.head()
    done = await maintenance.compact(config, keep_events=4)
    assert (done.before, done.floor, done.head) == (0, 6, 10)
    assert (done.objects, done.removed, done.resources) == (6, 6, 4)
    assert [int(name) for name in names(apiserver, config)] == [7, 8, 9, 10]
    async with evstore.open(config) as store:
        assert (store.digest(), await store.head()) == (digest, head)
        found = await store.list("Mesh")
        assert [each.name for each in found.items] == ["a", "c", "d"]
        assert await change(store, "c", 1) == 11
    proof = await maintenance.verify(config)
    assert proof.ok
    assert proof.head == 11


async def test_compacting_twice_goes_on_from_the_first_floor(
    apiserver: ApiServer, config: Config
) -> None:
    await written(config)
    assert (await maintenance.compact(config, keep_events=6)).floor == 4
    pieces = names(apiserver, config, "snapshotchunks")
    assert (await maintenance.compact(config, keep_events=3)).floor == 7
    assert len(names(apiserver, config, "snapshotchunks")) == len(pieces)
    again = await maintenance.compact(config, keep_events=5)
    assert (again.before, again.floor, again.removed) == (7, 7, 0)
    async with open_log(config) as log:
        base = await log.base()
        assert base is not None
        projections = Projections(log.genesis)
        begin(projections, base)
        assert projections.resources.digest() == base.digest
        async for chunk in log.replay(after=7, until=10):
            projections.apply(chunk)
    async with evstore.open(config) as store:
        assert projections.resources.digest() == store.digest()


async def test_a_dry_run_changes_nothing(apiserver: ApiServer, config: Config) -> None:
    await written(config)
    would = await maintenance.compact(config, keep_events=4, dry_run=True)
    assert (would.floor, would.objects, would.removed) == (6, 6, 0)
    assert would.bytes > 0
    assert len(names(apiserver, config)) == 10
    async with open_log(config) as log:
        assert log.floor == log.genesis


async def test_the_last_object_and_young_ones_stay(
    apiserver: ApiServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(config)
    assert (await maintenance.compact(config, keep_events=0)).floor == 9
    assert len(names(apiserver, config)) == 1
    monkeypatch.setattr(compaction, "YOUNG_SECONDS", 3600)
    async with evstore.open(config) as store:
        await change(store, "a", 10)
    assert (await maintenance.compact(config, keep_events=0)).floor == 9


async def test_what_a_running_instance_has_not_read_stays(config: Config) -> None:
    await written(config)
    async with open_log(config) as log:
        instance = instance_at(position=3)
        await log.beat(instance)
        done = await maintenance.compact(config, keep_events=0)
        assert (done.floor, done.held_by) == (3, str(instance.id))


def instance_at(*, position: int, projections: tuple[str, ...] = ()) -> Instance:
    return Instance(
        id=uuid4(),
        position=position,
        digest=bytes(32),
        code_version="1",
        projections=projections,
    )


async def test_projections_of_ones_own_must_be_given_up_explicitly(
    config: Config,
) -> None:
    await written(config)
    async with open_log(config) as log:
        await log.beat(instance_at(position=10, projections=("mine:1:00",)))
    with pytest.raises(InvalidError, match="mine"):
        await maintenance.compact(config, keep_events=0)
    assert (await maintenance.compact(config, keep_events=0, force=True)).floor == 9


@pytest.mark.parametrize("role", ["runtime", "owner"])
async def test_it_takes_a_role_of_its_own(
    apiserver: ApiServer, config: Config, role: str
) -> None:
    await written(config)
    namespace = config.kubernetes.system_namespace
    with pytest.raises(ConfigError, match="evstore-compactor"):
        await maintenance.compact(apiserver.config(namespace, role=role), keep_events=0)
    assert len(names(apiserver, config)) == 10


async def test_what_a_broken_off_run_has_left_counts_for_nothing_and_goes_with_the_next(
    apiserver: ApiServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(config)

    async def broken_off(_: compaction.Compactor) -> int:
        raise evstore.UnavailableError

    with monkeypatch.context() as patched:
        patched.setattr(compaction.Compactor, "sweep", broken_off)
        with pytest.raises(evstore.UnavailableError):
            await maintenance.compact(config, keep_events=4)
    remove(apiserver, config, 3)  # of all that was to go, this went
    assert len(names(apiserver, config)) == 9
    async with evstore.open(config) as store:
        assert [each.version for each in (await store.list("Mesh")).items] == [9, 3, 4]
        with pytest.raises(CompactedError):
            await store.get("Mesh", "a", at=5)
    assert (await maintenance.verify(config)).ok
    done = await maintenance.compact(config, keep_events=4)
    assert (done.before, done.floor, done.removed) == (6, 6, 5)
    assert len(names(apiserver, config)) == 4


async def test_a_log_that_does_not_verify_is_not_compacted(
    apiserver: ApiServer, config: Config
) -> None:
    await written(config)
    namespace = config.kubernetes.system_namespace
    path = f"{objects.collection(namespace, 'changes')}/{objects.name_of(3)}"
    _, found = apiserver.request("GET", path)
    found["spec"]["payload"] = found["spec"]["payload"].replace('"n":0', '"n":7')
    assert apiserver.request("PUT", path, found)[0] == 200
    with pytest.raises(InvalidError, match="does not verify"):
        await maintenance.compact(config, keep_events=4)
    assert len(names(apiserver, config)) == 10


@pytest.mark.parametrize("kind", ["memory", "postgres"])
async def test_other_store_types_are_not_compacted(kind: str) -> None:
    config = evstore.Config(type=StoreType(kind))
    with pytest.raises(ConfigError, match="nothing is ever removed"):
        await maintenance.compact(config, keep_events=4)


def test_the_command_says_what_would_go_and_then_removes_it(
    apiserver: ApiServer,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    anyio.run(written, config)
    in_environment(config, monkeypatch)
    # In this process, where all objects are old enough.
    asked = ["compact", "--keep-events", "4", "-o", "json"]
    app([*asked, "--dry-run"], standalone_mode=False)
    would = json.loads(capsys.readouterr().out)
    assert (would["floor"], would["objects"], would["dry_run"]) == (6, 6, True)
    assert len(names(apiserver, config)) == 10
    app([*asked, "--yes"], standalone_mode=False)
    done = json.loads(capsys.readouterr().out)
    assert (done["floor"], done["removed"], done["resources"]) == (6, 6, 4)
    assert len(names(apiserver, config)) == 4
