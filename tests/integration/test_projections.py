"""Projections of one's own: what a view shows, live, followed and after a start."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import msgspec
import pytest

import evstore
import evstore.blocking
from evstore.log import Instance, MemoryLog
from fault.history import until

if TYPE_CHECKING:
    from evstore import Event, Store
    from integration.conftest import Backend


class ByTag(evstore.Projection[dict[str, dict[str, int]]]):
    """The ports of data planes by tag; changed in place."""

    name = "by-tag"

    def initial(self) -> dict[str, dict[str, int]]:
        return {}

    def fold(
        self, state: dict[str, dict[str, int]], event: Event
    ) -> dict[str, dict[str, int]]:
        if event.operation == "redacted":
            return state
        for ports in state.values():
            ports.pop(event.name, None)
        if event.spec is not None:
            state.setdefault(event.spec["tag"], {})[event.name] = event.spec["port"]
        return state


class Missing(evstore.Projection[int]):
    """How many events of the last transaction have not been folded: always 0."""

    name = "missing"

    def initial(self) -> int:
        return 0

    def fold(self, state: int, event: Event) -> int:  # noqa: ARG002
        return event.commit - event.position


class Touchy(evstore.Projection[list[str]]):
    """Changes its state, and then stumbles over one name."""

    name = "touchy"
    version = 2

    def initial(self) -> list[str]:
        return []

    def fold(self, state: list[str], event: Event) -> list[str]:
        state.append(event.name)
        if event.name == "bad":
            message = "not this one"
            raise ValueError(message)
        return state


async def create(store: Store, name: str, tag: str = "web", port: int = 80) -> Any:
    spec = {"tag": tag, "port": port}
    return await store.create("Dataplane", name, mesh="default", spec=spec)


def folded(projection: evstore.Projection[Any], events: list[Event]) -> Any:
    state = projection.initial()
    for event in events:
        state = projection.fold(state, event)
    return state


async def all_events(store: Store) -> list[Event]:
    return [event async for event in store.events()]


async def until_applied(store: Store, position: int) -> None:
    await until(lambda: store.position >= position)


async def test_a_view_has_what_a_command_did_when_it_is_answered(
    backend: Backend,
) -> None:
    async with backend.open(projections=[ByTag()]) as store:
        assert store.view(ByTag) == {}
        web = await create(store, "one")
        assert store.view(ByTag) == {"web": {"one": 80}}
        await store.update(web, spec={"tag": "db", "port": 5432})
        assert store.view(ByTag) == {"web": {}, "db": {"one": 5432}}
        await store.delete("Dataplane", "one", mesh="default")
        assert store.view(ByTag) == {"web": {}, "db": {}}


async def test_own_writes_followed_ones_and_a_start_come_to_the_same(
    backend: Backend,
) -> None:
    async with (
        backend.open(projections=[ByTag(), Missing()]) as one,
        backend.open(projections=[Missing(), ByTag()]) as two,
    ):
        for index in range(20):
            writer = two if index % 3 else one
            await create(writer, f"dp-{index}", tag=f"tag-{index % 4}", port=index)
        await until_applied(one, 20)
        await until_applied(two, 20)
        expected = folded(ByTag(), await all_events(one))
        async with backend.open(projections=[ByTag()]) as late:
            assert late.view(ByTag) == expected
        assert one.view(ByTag) == two.view(ByTag) == expected
        assert one.view(Missing) == two.view(Missing) == 0


async def test_a_view_never_shows_half_a_transaction(backend: Backend) -> None:
    async with (
        backend.open(projections=[Missing()]) as writer,
        backend.open(projections=[Missing()]) as reader,
    ):
        seen: list[int] = []

        async def look() -> None:
            while reader.position < 600:
                seen.extend((reader.view(Missing), writer.view(Missing)))
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            for turn in range(4):
                async with writer.transaction() as tx:
                    for index in range(150):
                        tx.create("Zone", f"z-{turn}-{index}", spec={})
        assert set(seen) == {0}


async def test_what_was_not_given_cannot_be_viewed(backend: Backend) -> None:
    async with backend.open(projections=[ByTag()]) as store:
        with pytest.raises(evstore.InvalidError, match="the store has no Touchy"):
            store.view(Touchy)
    with pytest.raises(evstore.UnavailableError, match="closed"):
        store.view(ByTag)


async def test_open_refuses_what_cannot_be_used() -> None:
    with pytest.raises(evstore.InvalidError, match="ByTag is a class"):
        async with evstore.open(projections=[ByTag]):  # type: ignore[list-item]
            pass


async def test_specs_have_their_type() -> None:
    class Dataplane(msgspec.Struct):
        tag: str
        port: int

    class Ports(evstore.Projection[list[int]]):
        name = "ports"

        def initial(self) -> list[int]:
            return []

        def fold(self, state: list[int], event: Event) -> list[int]:
            assert isinstance(event.spec, Dataplane)
            return [*state, event.spec.port]

    async with evstore.open(types=[Dataplane], projections=[Ports()]) as store:
        await create(store, "one", port=8080)
        assert store.view(Ports) == [8080]


# One that stops.


async def test_one_that_stops_hurts_nobody_and_stops_alike_everywhere(
    backend: Backend,
) -> None:
    given = [Touchy(), ByTag()]
    async with (
        backend.open(projections=given) as own,
        backend.open(projections=given) as follower,
    ):
        await create(own, "good")
        answered = await create(own, "bad")
        await create(own, "later")
        assert answered.version == 2
        await until_applied(follower, 3)
        async with backend.open(projections=given) as late:
            for store in (own, follower, late):
                await assert_stopped_at_the_bad_one(store)


async def assert_stopped_at_the_bad_one(store: Store) -> None:
    message = "projection touchy stopped at position 2: ValueError: not this one"
    with pytest.raises(evstore.SchemaError, match=message):
        store.view(Touchy)
    assert store.view(ByTag)["web"].keys() == {"good", "bad", "later"}
    cause = evstore.Stopped(position=2, cause="ValueError: not this one")
    assert (await store.health()).projections == (
        evstore.ProjectionStatus(name="touchy", version=2, position=1, stopped=cause),
        evstore.ProjectionStatus(name="by-tag", version=1, position=3),
    )


async def test_a_corrected_one_runs_after_the_next_start(backend: Backend) -> None:
    class Corrected(Touchy):
        version = 3

        def fold(self, state: list[str], event: Event) -> list[str]:
            state.append(event.name)
            return state

    async with backend.open(projections=[Touchy()]) as store:
        await create(store, "bad")
    async with backend.open(projections=[Corrected()]) as store:
        assert store.view(Corrected) == ["bad"]


async def test_a_transaction_that_stops_one_is_whole(backend: Backend) -> None:
    async with backend.open(projections=[Touchy(), Missing()]) as store:
        async with store.transaction() as tx:
            for name in ("good", "bad", "late"):
                tx.create("Zone", name, spec={})
        assert [each and each.version for each in tx.results] == [1, 2, 3]
        assert store.view(Missing) == 0
        with pytest.raises(evstore.SchemaError, match="at position 2"):
            store.view(Touchy)


# Threads.


def test_a_thread_gets_a_copy_that_stays_as_it_is() -> None:
    with evstore.blocking.open(projections=[ByTag()]) as store:
        spec = {"tag": "web", "port": 80}
        store.create("Dataplane", "one", mesh="default", spec=spec)
        before = store.view(ByTag)
        store.create("Dataplane", "two", mesh="default", spec=spec)
        assert before == {"web": {"one": 80}}
        before["web"].clear()
        assert store.view(ByTag) == {"web": {"one": 80, "two": 80}}
        with pytest.raises(evstore.InvalidError, match="the store has no Touchy"):
            store.view(Touchy)


def test_threads_that_read_while_others_write_see_whole_transactions() -> None:
    class Pairs(evstore.Projection[list[str]]):
        name = "pairs"

        def initial(self) -> list[str]:
            return []

        def fold(self, state: list[str], event: Event) -> list[str]:
            state.append(event.name)
            return state

    lengths: list[int] = []
    done = threading.Event()
    with evstore.blocking.open(projections=[Pairs()]) as store:

        def read() -> None:
            while not done.is_set():
                lengths.append(len(store.view(Pairs)))

        reader = threading.Thread(target=read)
        reader.start()
        for turn in range(100):
            with store.transaction() as tx:
                tx.create("Zone", f"a-{turn}", spec={})
                tx.create("Zone", f"b-{turn}", spec={})
        done.set()
        reader.join()
        assert len(store.view(Pairs)) == 200
    assert lengths
    assert lengths == sorted(lengths)
    assert not any(length % 2 for length in lengths)


# Health.


async def test_heartbeats_tell_the_projections(backend: Backend) -> None:
    async with backend.open(projections=[Touchy(), ByTag()]) as store:
        await until(lambda: store._vitals._presence.beaten_at is not None)
        (instance,) = await store.instances()
        assert instance.projections == ("resources:1:", "touchy:2:", "by-tag:1:")


async def test_drift_is_who_had_another_digest_at_the_same_position(
    backend: Backend,
) -> None:
    async with backend.open() as store:
        await create(store, "one")
        digest = (await store.health()).digest
        await create(store, "two")

        def forged(position: int, digest: bytes) -> Instance:
            return Instance(
                id=uuid4(), position=position, digest=digest, code_version="0"
            )

        same, wrong = forged(1, digest), forged(1, b"x" * 32)
        unknown = forged(99, b"x" * 32)
        for instance in (same, unknown):
            await store._log.beat(instance)
        assert (await store.health()).drift == ()
        await store._log.beat(wrong)
        health = await store.health()
        assert health.drift == (wrong.id,)
        assert health.ok


async def test_an_instance_that_was_not_seen_for_long_is_no_drift() -> None:
    async with evstore.open() as store:
        log = store._stored
        assert isinstance(log, MemoryLog)
        await create(store, "one")
        forged = Instance(id=uuid4(), position=1, digest=b"x" * 32, code_version="0")
        await log.beat(forged)
        assert (await store.health()).drift == (forged.id,)
        found = log._instances[forged.id]
        assert found.seen_at is not None
        log._instances[forged.id] = msgspec.structs.replace(
            found, seen_at=found.seen_at - timedelta(hours=1)
        )
        assert (await store.health()).drift == ()
