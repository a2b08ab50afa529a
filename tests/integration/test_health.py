"""Health: what a store says of itself, and what it asks the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from evstore.errors import UnavailableError
from fault.history import adjusted, until
from fault.proxy import Fault, open_proxy
from integration.conftest import Backend

if TYPE_CHECKING:
    import pytest

    from evstore import Config, Health, Store


async def until_health(store: Store, *, ok: bool) -> Health:
    """Return the health once it is good, or no longer."""
    with anyio.fail_after(20):
        while (health := await store.health()).ok is not ok:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    return health


async def healthy(store: Store) -> Health:
    """Return the health once there was a first heartbeat, which takes a moment."""
    await until(lambda: store._vitals._presence.beaten_at is not None)
    return await until_health(store, ok=True)


async def test_a_store_that_keeps_up_is_well(store: Store) -> None:
    await store.create("Zone", "west", spec={})
    health = await healthy(store)
    assert (health.ok, health.problems) == (True, ())
    assert (health.position, health.head) == (1, 1)
    assert (health.lag_events, health.lag_seconds) == (0, 0.0)
    assert health.digest == store.digest()
    assert health.queue_commands == 0
    assert health.heartbeat_age_seconds is not None
    assert 0 <= health.heartbeat_age_seconds < 10


async def test_connections_are_told_where_there_are_any(backend: Backend) -> None:
    async with backend.open() as store:
        if backend.name == "memory":
            assert (await store.health()).connections is None
            return
        assert store._log.connections() is not None
        await until(lambda: store._log.listening)
        found = (await store.health()).connections
        assert found is not None
        assert (found.writer, found.listener, found.readers_wanted) == (True, True, 0)
        least = 1 if backend.name == "postgres" else 0
        assert least <= found.readers <= found.readers_max
    async with backend.open(notify=False) as store:
        found = (await store.health()).connections
        assert found is not None
        assert found.listener is None


async def stuck(*_: object, **__: object) -> None:
    await anyio.sleep_forever()


async def failing(*_: object, **__: object) -> None:
    raise UnavailableError


async def test_a_stuck_committer_is_noticed(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evstore.instances.health.STALL_SECONDS", 0.2)
    async with backend.open() as store, backend.open() as other:
        monkeypatch.setattr(store._committer, "nudge", lambda: None)
        await other.create("Zone", "west", spec={})
        await other.create("Zone", "east", spec={})
        health = await until_health(store, ok=False)
        assert (health.position, health.head, health.lag_events) == (0, 2, 2)
        assert health.lag_seconds is not None
        assert 0.2 < health.lag_seconds < 10
        (problem,) = health.problems
        assert "none was applied" in problem


async def test_an_append_that_gets_no_answer_is_noticed(
    postgres_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evstore.instances.health.STALL_SECONDS", 0.2)
    async with (
        open_proxy(postgres_config) as proxy,
        Backend("postgres", proxy.config).open() as store,
        anyio.create_task_group() as tasks,
    ):
        await healthy(store)
        struck = proxy.once(Fault.STALL, lambda request: request.is_append)
        tasks.start_soon(lambda: store.create("Zone", "west", spec={}))
        await struck.wait()
        # Nobody else waits, and the log can be read.
        (problem,) = (await until_health(store, ok=False)).problems
        assert "a command has been waiting" in problem
        proxy.release()
        await until_health(store, ok=True)


async def test_a_stuck_follower_is_noticed(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evstore.instances.health.STALL_SECONDS", 0.1)
    async with backend.open(poll_interval=0.05) as store:
        assert (await store.health()).ok
        monkeypatch.setattr(store._log, "wait", stuck)
        health = await until_health(store, ok=False)
        (problem,) = health.problems
        assert "has not been looked at" in problem


async def test_heartbeats_that_fail_are_noticed(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evstore.instances.health.STALL_SECONDS", 0.1)
    async with backend.open(heartbeat_interval=0.05) as store:
        await healthy(store)
        monkeypatch.setattr(store._log, "beat", failing)
        health = await until_health(store, ok=False)
        assert any("no heartbeat" in problem for problem in health.problems)


async def test_a_log_that_is_away_is_told_and_raises_nothing(
    postgres_config: Config,
) -> None:
    config = adjusted(postgres_config, poll_interval=0.05)
    async with (
        open_proxy(config) as proxy,
        Backend("postgres", proxy.config).open() as store,
    ):
        await store.create("Zone", "west", spec={})
        proxy.down = True
        proxy.cut_all()
        with anyio.fail_after(5):
            health = await store.health()
        assert not health.ok
        assert (health.head, health.lag_events, health.lag_seconds) == (None,) * 3
        assert health.position == 1
        assert "the log" in health.problems[0]
        proxy.down = False
        assert (await until_health(store, ok=True)).head == 1


async def test_many_who_ask_at_once_share_one_query(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, asked = store._log.head, 0

    async def counted() -> Any:
        nonlocal asked
        asked += 1
        await anyio.sleep(0.05)
        return await head()

    monkeypatch.setattr(store._log, "head", counted)
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(store.health)
    assert asked == 1


async def test_a_closed_store_says_so(backend: Backend) -> None:
    async with backend.open() as store:
        pass
    health = await store.health()
    assert health.problems == ("the store is closed",)
