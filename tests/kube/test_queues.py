"""Turns that a lease gives, batches that wait for nobody, and looks at what is old."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

import evstore
from events import History, creations, everything
from evstore.errors import UnavailableError
from evstore.log.kubernetes import turns
from fault.history import checked_history

if TYPE_CHECKING:
    from apiserver import ApiServer
    from evstore.config import Config
    from evstore.log import Log
    from kube.interference import Interference


def leases_of(config: Config) -> str:
    namespace = config.kubernetes.system_namespace
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


async def test_who_stands_first_and_does_nothing_is_passed_over(
    apiserver: ApiServer,
    config: Config,
    log: Log,
    history: History,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with log.turn(log.genesis):
        pass
    path = f"{leases_of(config)}/evstore-turns"
    _, lease = apiserver.request("GET", path)
    lease["metadata"]["annotations"]["evstore.dev/queue"] = "dead-one dead-two"
    assert apiserver.request("PUT", path, lease)[0] == 200
    monkeypatch.setattr(turns, "STALLED_SECONDS", 0.1)
    with anyio.fail_after(5):
        async with log.turn(log.genesis) as turn:
            await turn.append(creations(history, "a"), after=log.genesis)
    _, lease = apiserver.request("GET", path)
    assert lease["metadata"]["annotations"]["evstore.dev/queue"] == ""


async def test_a_turn_that_does_not_come_is_unavailable(
    log: Log, other: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(log._queue, "_seconds", 0.1)  # type: ignore[attr-defined]
        async with other.turn(other.genesis):
            with pytest.raises(UnavailableError, match=r"the turn did not come in 0"):
                async with log.turn(log.genesis):
                    pass
    async with log.turn(log.genesis):
        pass


async def test_what_waits_goes_in_one_append(config: Config, way: Interference) -> None:
    """The server has no order between two: a second one would only wait."""
    async with evstore.open(way.config(config)) as store:
        await store.create("Zone", "first", spec={})
        asked = len(way.requests)
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(create, store, f"z{number}")
    appends = [each for each in way.requests[asked:] if "POST" in each]
    appends = [each for each in appends if each.endswith("/changes")]
    # Whoever came first, and all others; or all of them, where none came early.
    assert len(appends) in {1, 2}
    assert len(await checked_history(config)) == 101


async def create(store: evstore.Store, name: str) -> Any:
    await store.create("Zone", name, spec={})


@pytest.mark.parametrize("age_seconds", [1, 1799, 1801])
async def test_after_half_an_hour_a_writer_looks_before_it_appends(
    log: Log, way: Interference, history: History, age_seconds: int
) -> None:
    await log.append(creations(history, "a"), after=log.genesis)
    feed: Any = log._feed  # type: ignore[attr-defined]
    feed._confirmed_at -= age_seconds * 1_000_000
    asked = len(way.requests)
    after = history.head
    await log.append(creations(history, "b"), after=after)
    looks = [each for each in way.requests[asked:] if each.startswith("GET")]
    # At the head, at the name after it, and at the floor, which may lie beyond both.
    assert len(looks) == (3 if age_seconds > 1800 else 0)
    assert await everything(log) == history.events
