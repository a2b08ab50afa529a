"""A log that was compacted: what can still be asked, and what it says of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import evstore
from events import collected
from evstore import maintenance
from evstore.errors import CompactedError, NotFoundError
from evstore.log import open_log
from evstore.log.kubernetes import base
from evstore.model import ANY
from kube.compacting import change, compactor_config, make_old, names, quiet, written

if TYPE_CHECKING:
    from apiserver import ApiServer
    from evstore.config import Config


@pytest.fixture(autouse=True)
def _aged(monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(monkeypatch)


@pytest.fixture
def config(apiserver: ApiServer, kubernetes_config: Config) -> Config:
    return compactor_config(apiserver, kubernetes_config)


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


@pytest.mark.parametrize("whole", [False, True], ids=["broken", "well made"])
async def test_damage_of_the_certified_state_is_found(
    apiserver: ApiServer, config: Config, *, whole: bool
) -> None:
    await written(config)
    await maintenance.compact(config, keep_events=4)
    async with open_log(config) as log:
        certified = await log.base()
    assert certified is not None
    (piece,) = names(apiserver, config, "snapshotchunks")
    namespace = config.kubernetes.system_namespace
    path = f"/apis/evstore.dev/v1/namespaces/{namespace}/snapshotchunks/{piece}"
    _, found = apiserver.request("GET", path)
    if whole:
        less = msgspec.structs.replace(certified, events=certified.events[1:])
        (found["spec"]["payload"],) = base.pack(less)
    else:
        found["spec"]["payload"] = found["spec"]["payload"][:-8]
    assert apiserver.request("PUT", path, found)[0] == 200
    with pytest.raises(evstore.UnavailableError, match="evstore verify"):
        async with evstore.open(config):
            pass
