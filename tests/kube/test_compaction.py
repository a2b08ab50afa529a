"""Compaction: what goes, what can still be asked, and who may do it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import msgspec
import pytest

import evstore
from events import collected
from evstore import maintenance
from evstore.cli.main import app
from evstore.config import StoreType
from evstore.errors import CompactedError, ConfigError, InvalidError, NotFoundError
from evstore.folds.projections import Projections
from evstore.log import Instance, open_log
from evstore.log.kubernetes import compaction, feed, objects
from evstore.model import ANY
from evstore.snapshots.floor import begin

if TYPE_CHECKING:
    from apiserver import ApiServer
    from evstore.config import Config


@pytest.fixture(autouse=True)
def _aged(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.fixture
def config(apiserver: ApiServer, kubernetes_config: Config) -> Config:
    """Return the configuration of an account that may compact, and no more."""
    namespace = kubernetes_config.kubernetes.system_namespace
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


def names(apiserver: ApiServer, config: Config, plural: str = "changes") -> list[str]:
    namespace = config.kubernetes.system_namespace
    path = f"/apis/evstore.dev/v1/namespaces/{namespace}/{plural}"
    _, found = apiserver.request("GET", path)
    return [each["metadata"]["name"] for each in found["items"]]


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


async def test_every_read_below_the_floor_says_where_the_history_begins(
    config: Config,
) -> None:
    await written(config)
    await maintenance.compact(config, keep_events=4)
    async with open_log(config) as log:
        assert log.floor.position == 6
        assert len(await collected(log.read(after=6))) == 4
        assert len(await collected(log.replay(after=6, until=10))) == 4
        assert len(await collected(log.read(reverse=True, limit=4))) == 4
        assert await log.place(6) == log.floor
        assert await log.place(0) == log.genesis
        assert [e.position for e in await log.pick([3, 8])] == [3, 8]
        latest = await log.latest(where=ANY, until=6)
        assert {event.position for event in latest} == {2, 3, 4, 6}
        (before,) = await log.previous([("Mesh//a", 7)])
        assert before is not None
        assert before.position == 6
        reads = [
            lambda: collected(log.read()),
            lambda: collected(log.read(reverse=True)),
            lambda: collected(log.replay(after=5, until=10)),
            lambda: collected(log.audit(after=0, until=10)),
            lambda: log.read_on(log.genesis),
            lambda: log.place(5),
            lambda: log.commit_of(5),
            lambda: log.pick([5]),
            lambda: log.latest(where=ANY, until=5),
            lambda: log.previous([("Mesh//a", 6)]),
            lambda: log.locate(1),
            lambda: log.activity(after=0, until=10, top=1),
        ]
        for read in reads:
            with pytest.raises(CompactedError) as caught:
                await read()
            assert caught.value.oldest == 6


async def test_a_store_answers_for_the_past_down_to_the_floor(config: Config) -> None:
    await written(config)
    await maintenance.compact(config, keep_events=4)
    async with evstore.open(config) as store:
        assert (await store.get("Mesh", "a", at=6)).spec == {"n": 2}
        assert (await store.get("Mesh", "b", at=6)).spec == {"n": 0}
        with pytest.raises(CompactedError):
            await store.get("Mesh", "a", at=5)
        found = [each async for each in store.history("Mesh", "a", since=7)]
        assert [each.before.position for each in found if each.before] == [6, 7, 8]
        with pytest.raises(CompactedError):
            [each async for each in store.history("Mesh", "a")]
        with pytest.raises(CompactedError):
            await anext(aiter(store.watch(after=2)))
        changes = (await store.diff(6)).changes
        assert {each.key.name for each in changes} == {"a", "b"}
    stats = await maintenance.stats(config)
    assert (stats.first, stats.last) == (7, 10)


async def test_a_request_from_below_the_floor_is_still_known(config: Config) -> None:
    await written(config)
    await maintenance.compact(config, keep_events=1)
    async with evstore.open(config) as store:
        again = await store.create("Mesh", "c", spec={"n": 0}, request_id="make c")
        assert again.version == 3
        assert await store.head() == 10


async def test_a_running_store_goes_on_and_forgets_what_was_removed(
    config: Config,
) -> None:
    await written(config)
    async with evstore.open(config) as store:
        await maintenance.compact(config, keep_events=2)
        await change(store, "a", 9)
        assert (await store.get("Mesh", "a")).version == 11
    async with open_log(config) as log:
        assert log.floor.position == 8


async def test_who_has_seen_an_empty_log_finds_what_was_compacted_since(
    config: Config,
) -> None:
    section = msgspec.structs.replace(config.evstore, notify=False)
    async with open_log(msgspec.structs.replace(config, evstore=section)) as log:
        assert (await log.head()).position == 0
        await written(config)
        await maintenance.compact(config, keep_events=4)
        # The first name is free again, and does not say that the log is empty.
        assert (await log.head()).position == 10
        assert log.floor.position == 6


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


async def test_a_version_below_the_floor_cannot_be_redacted_and_later_ones_can(
    apiserver: ApiServer, config: Config
) -> None:
    await written(config)
    await maintenance.compact(config, keep_events=4)
    owner = apiserver.config(config.kubernetes.system_namespace, role="owner")
    async with evstore.open(quiet(owner)) as store:
        with pytest.raises(CompactedError, match="cannot be redacted"):
            await store.redact("Mesh", "c", version=3, reason="secret")
        assert await store.head() == 10
        await store.redact("Mesh", "a", version=9, reason="secret")
        with pytest.raises(NotFoundError):
            await store.redact("Mesh", "a", version=10, reason="secret")
    proof = await maintenance.verify(config)
    assert proof.ok
    assert not proof.unfinished


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


def remove(apiserver: ApiServer, config: Config, position: int) -> None:
    namespace = config.kubernetes.system_namespace
    path = objects.collection(namespace, "changes")
    status, _ = apiserver.request("DELETE", f"{path}/{objects.name_of(position)}")
    assert status == 200


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


async def test_a_program_with_upcasters_begins_at_the_floor(config: Config) -> None:
    await written(config)
    await maintenance.compact(config, keep_events=4)

    @evstore.upcaster("Mesh", from_version=1)
    def doubled(body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "spec": {"twice": 2 * body["spec"]["n"]}}

    async with evstore.open(config, upcasters=[doubled]) as store:
        assert (await store.get("Mesh", "a")).spec == {"twice": 10}
        assert (await store.get("Mesh", "c")).spec == {"twice": 0}
        assert (await store.get("Mesh", "a", at=6)).spec == {"twice": 4}


class Count(evstore.Projection[int]):
    """How many events there were."""

    name = "count"
    version = 1

    def initial(self) -> int:
        return 0

    def fold(self, state: int, event: evstore.Event) -> int:
        del event
        return state + 1


async def test_a_projection_without_a_snapshot_above_the_floor_fails_at_the_start(
    config: Config,
) -> None:
    await written(config)
    await maintenance.compact(config, keep_events=4)
    with pytest.raises(CompactedError, match="count") as caught:
        async with evstore.open(config, projections=[Count()]):
            pass
    assert caught.value.oldest == 6


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
    kubernetes = config.kubernetes
    for name, value in (
        ("TYPE", "kubernetes"),
        ("KUBERNETES_SYSTEM_NAMESPACE", kubernetes.system_namespace),
        ("KUBERNETES_KUBECONFIG", kubernetes.kubeconfig),
    ):
        monkeypatch.setenv(f"KUMA_STORE_{name}", value)
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


async def test_damage_of_the_certified_state_is_found(
    apiserver: ApiServer, config: Config
) -> None:
    await written(config)
    await maintenance.compact(config, keep_events=4)
    async with open_log(config):
        pass
    (piece,) = names(apiserver, config, "snapshotchunks")
    namespace = config.kubernetes.system_namespace
    path = f"/apis/evstore.dev/v1/namespaces/{namespace}/snapshotchunks/{piece}"
    _, found = apiserver.request("GET", path)
    found["spec"]["payload"] = found["spec"]["payload"][:-8]
    assert apiserver.request("PUT", path, found)[0] == 200
    with pytest.raises(evstore.UnavailableError, match="evstore verify"):
        async with evstore.open(config):
            pass
