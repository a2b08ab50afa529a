"""An instance that meets an event newer than its program: it stops there, and says so."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import evstore
from evstore import Key
from evstore.errors import SchemaError, UnavailableError
from fault.history import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from evstore import Event, Store
    from integration.conftest import Backend

WEB = Key(type="Dataplane", name="web")
NEWER = r"position \d+ is in schema version 2 of Dataplane, .* reads Dataplane up to 1"


@evstore.upcaster("Dataplane", from_version=1)
def to_2(body: dict[str, Any]) -> dict[str, Any]:
    return body


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    """Return a store of the program of before, with a short poll."""
    async with backend.open(poll_interval=0.05) as opened:
        await opened.create("Dataplane", "web", spec={"n": 1})
        yield opened


@pytest.fixture
async def newer(backend: Backend, store: Store) -> AsyncIterator[Store]:
    """Return a store of the next program on the same log."""
    async with backend.open(upcasters=[to_2]) as opened:
        assert opened.identity == store.identity
        yield opened


async def meet(store: Store, newer: Store) -> int:
    """Let the store meet an event of the newer program; return the place before it."""
    mesh = await newer.create("Mesh", "readable", spec={})
    await newer.update(WEB, spec={"n": 2})
    await until(lambda: store._committer.blocked is not None)
    return mesh.version


async def test_the_state_stays_at_the_last_place_that_can_be_read(
    store: Store, newer: Store
) -> None:
    last = await meet(store, newer)
    await newer.create("Mesh", "later", spec={})
    assert store.position == last
    assert (await store.get("Dataplane", "web")).spec == {"n": 1}
    assert (await store.get("Mesh", "readable")).version == last
    assert (await store.list("Mesh")).total == 1
    assert (await store.get("Dataplane", "web", at=last)).spec == {"n": 1}
    assert await store.head() == last + 2


async def test_what_must_be_up_to_date_fails(store: Store, newer: Store) -> None:
    await meet(store, newer)
    with anyio.fail_after(5):
        for call in (
            store.get("Dataplane", "web", consistent=True),
            store.list("Mesh", consistent=True),
            store.get("Dataplane", "web", min_version=await newer.head()),
            store.get("Dataplane", "web", at=await newer.head()),
        ):
            with pytest.raises(SchemaError, match=NEWER):
                await call


async def test_commands_fail_and_append_nothing(store: Store, newer: Store) -> None:
    await meet(store, newer)
    head = await newer.head()
    with anyio.fail_after(10):
        for call in (
            store.create("Mesh", "mine", spec={}),
            store.update(WEB, spec={"n": 3}),
            store.update(WEB, spec={"n": 1}),  # of which it thinks that it is so
            store.delete("Dataplane", "web"),
            store.create("Mesh", "readable", spec={}),
        ):
            with pytest.raises(SchemaError, match=NEWER):
                await call
    assert await newer.head() == head
    assert (await newer.get("Dataplane", "web")).spec == {"n": 2}


async def test_commands_that_meet_it_first_fail_as_well(
    backend: Backend, newer: Store
) -> None:
    async with backend.open(poll_interval=60) as store:
        await newer.update(WEB, spec={"n": 2})

        async def create(name: str) -> None:
            with pytest.raises(SchemaError, match=NEWER):
                await store.create("Mesh", name, spec={})

        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(create, f"m{number}")
    assert (await newer.list("Mesh")).total == 0


async def test_a_watch_gets_all_that_can_be_read_and_ends(
    store: Store, newer: Store
) -> None:
    found: list[Event] = []

    async def collect() -> None:
        async for event in store.watch(after=0):
            found.append(event)  # noqa: PERF401 - until it fails

    async def watch() -> None:
        with pytest.raises(SchemaError, match=NEWER):
            await collect()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        last = await meet(store, newer)
    assert [event.position for event in found] == list(range(1, last + 1))
    found.clear()
    with anyio.fail_after(5):
        await watch()
    assert len(found) == last


async def test_health_tells(store: Store, newer: Store) -> None:
    assert (await store.health()).ok
    last = await meet(store, newer)
    health = await store.health()
    assert not health.ok
    assert any("schema version 2 of Dataplane" in each for each in health.problems)
    assert (health.position, health.lag_events) == (last, 1)


async def test_it_waits_and_says_so_once(
    store: Store,
    newer: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    interval = store._config.evstore.poll_interval
    looks: list[float] = []
    read_on = store._stored.read_on

    async def counted(*args: Any) -> Any:
        looks.append(anyio.current_time())
        return await read_on(*args)

    with caplog.at_level(logging.WARNING, logger="evstore"):
        await meet(store, newer)
        monkeypatch.setattr(store._stored, "read_on", counted)
        await until(lambda: len(looks) == 5)
    pauses = [after - before for before, after in pairwise(looks)]
    assert min(pauses) >= interval * 0.9
    said = [each for each in caplog.messages if "cannot follow the log" in each]
    assert len(said) == 1


async def test_a_store_that_is_stuck_closes(backend: Backend, newer: Store) -> None:
    async with backend.open(poll_interval=0.05) as store:
        await meet(store, newer)
    with pytest.raises(UnavailableError, match="closed"):
        await store.create("Mesh", "x", spec={})


async def test_a_leader_that_cannot_read_on_gives_way(
    store: Store, newer: Store
) -> None:
    ended = anyio.Event()

    async def stay() -> None:
        async with store.leadership("task", ttl=0.5):
            led.set()
            await anyio.sleep_forever()

    async def lead() -> None:
        with pytest.raises(UnavailableError, match="cannot be read"):
            await stay()
        ended.set()

    led = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lead)
        await led.wait()
        await meet(store, newer)
        with anyio.fail_after(10):
            await ended.wait()
            async with newer.leadership("task", ttl=5) as lease:
                lease.check()
    with pytest.raises(SchemaError, match=NEWER):
        async with store.leadership("task", ttl=0.5):
            pass


async def test_an_upcaster_that_fails_for_what_others_write_is_the_same(
    backend: Backend, store: Store
) -> None:
    @evstore.upcaster("Dataplane", from_version=1)
    def picky(body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "spec": {"n": body["spec"]["n"]}}

    async with backend.open(upcasters=[picky], poll_interval=0.05) as strict:
        await store.create("Dataplane", "bad", spec={"password": "secret"})
        await until(lambda: strict._committer.blocked is not None)
        with pytest.raises(SchemaError, match="raised KeyError") as caught:
            await strict.create("Mesh", "x", spec={})
        assert "secret" not in str(caught.value)
        assert strict.position == 1
