"""A cluster that is set back to a backup, at each moment of an append.

Restored etcds count on from far ahead, so that versions tell nothing; what is appended
behind a lost end must not be acknowledged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from events import History, creations, everything
from evstore.errors import DivergedError
from evstore.log import HeadMovedError, InDoubtError, open_log
from evstore.log.kubernetes import follower, objects
from fault.history import adjusted
from kube.interference import Held, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from apiserver import ApiServer
    from evstore.config import Config
    from evstore.log import Log
    from evstore.model import StoredEvent
    from kube.interference import Interference

WATCH = "watch=1"
SECONDS = 10


def path_of(config: Config, position: int) -> str:
    path = objects.collection(config.kubernetes.system_namespace, objects.CHANGES)
    return f"{path}/{objects.name_of(position)}"


def delete(server: ApiServer, config: Config, position: int) -> None:
    assert server.request("DELETE", path_of(config, position))[0] == 200


async def until(seen: Callable[[], bool]) -> None:
    with anyio.fail_after(SECONDS):
        while not seen():  # noqa: ASYNC110 - of tasks that tell nobody
            await anyio.sleep(0.01)


async def two_changes(log: Log, history: History) -> None:
    for name in "ab":
        after = history.head
        await log.append(creations(history, name), after=after)


@pytest.fixture
async def watchless(config: Config) -> AsyncIterator[Log]:
    """Return a log that hears of nothing."""
    async with open_log(adjusted(config, notify=False)) as opened:
        await opened.connect()
        yield opened


async def doubted(log: Log, events: list[StoredEvent], history: History) -> None:
    with pytest.raises(InDoubtError):
        await log.append(events, after=history.events[1].head)


async def test_what_is_created_behind_an_end_that_went_meanwhile_is_in_doubt(
    apiserver: ApiServer,
    config: Config,
    log: Log,
    history: History,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await two_changes(log, history)
    lost = history.head
    held = Held(log, monkeypatch)
    third = creations(history, "c")
    feed: Any = log._feed  # type: ignore[attr-defined]
    upsets = feed._upsets
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(doubted, log, third, history)
        await held.there.wait()
        delete(apiserver, config, 2)
        await until(lambda: feed._upsets > upsets)
        held.let.set()
    # It stands there, behind the gap; the log tells that it is no part of it.
    assert apiserver.request("GET", path_of(config, 3))[0] == 200
    with pytest.raises(DivergedError):
        await log.read_on(lost)
    assert await everything(log) == history.events[:1]


async def test_a_copy_that_was_read_anew_meanwhile_acknowledges_nothing_that_it_lacks(
    apiserver: ApiServer,
    config: Config,
    watchless: Log,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = History(watchless.genesis)
    await two_changes(watchless, history)
    held = Held(watchless, monkeypatch)
    third = creations(history, "c")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(doubted, watchless, third, history)
        await held.there.wait()
        delete(apiserver, config, 2)
        assert await watchless.head() == history.events[0].head
        held.let.set()
    assert await everything(watchless) == history.events[:1]


async def test_after_each_watch_a_writer_looks_where_the_log_ends(
    apiserver: ApiServer,
    config: Config,
    log: Log,
    way: Interference,
    history: History,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that stops for a restore ends its watches, and nothing else fails."""
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "1"}}}
    way.plan("GET", WATCH, Reply(200, body=bookmark, late=True))
    asked = len(way.requests)
    way.cut_all()
    await until(lambda: any(WATCH in each for each in way.requests[asked:]))
    await two_changes(log, history)
    lost = history.head
    # It ends as servers end them, and the next one is long in coming.
    monkeypatch.setattr(follower, "_PAUSE_SECONDS_MIN", 60.0)
    feed: Any = log._feed  # type: ignore[attr-defined]
    upsets = feed._upsets
    way.let.set()
    await until(lambda: feed._upsets > upsets)
    delete(apiserver, config, 2)
    with pytest.raises(HeadMovedError):
        await log.append(creations(history, "c"), after=lost)
    assert apiserver.request("GET", path_of(config, 3))[0] == 404


async def test_what_fails_during_a_look_makes_for_another_one(
    watchless: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may have been set back between the two requests of the first."""
    history = History(watchless.genesis)
    await two_changes(watchless, history)
    log: Any = watchless
    looks = 0
    uid = log._shelf.uid

    async def failing(position: int) -> str | None:
        nonlocal looks
        looks += 1
        found: str | None = await uid(position)
        if looks == 1:
            log._client.failures += 1  # another request's, just now
        return found

    monkeypatch.setattr(log._shelf, "uid", failing)
    assert await log.head() == history.head
    after = history.head
    await log.append(creations(history, "c"), after=after)
    assert looks == 2


async def test_many_that_find_the_end_lost_read_the_log_once(
    apiserver: ApiServer,
    config: Config,
    log: Log,
    way: Interference,
    history: History,
) -> None:
    await two_changes(log, history)
    asked = len(way.requests)
    delete(apiserver, config, 2)
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(log.head)
    lists = [each for each in way.requests[asked:] if "limit=" in each]
    assert len([each for each in lists if not each.endswith("limit=1")]) == 1
    assert await everything(log) == history.events[:1]


async def test_a_watch_begins_anew_where_the_log_was_read_anew(
    apiserver: ApiServer,
    config: Config,
    log: Log,
    other: Log,
    way: Interference,
    history: History,
) -> None:
    """Versions may be lower in a cluster that was set back: it would stay silent."""
    await two_changes(log, history)
    asked = len(way.requests)
    delete(apiserver, config, 2)
    for each in (log, other):
        assert await each.head() == history.events[0].head
    fresh = History(history.events[0].head)
    with anyio.fail_after(SECONDS):
        for number in range(1000):
            after = fresh.head
            await other.append(creations(fresh, [f"n{number}"]), after=after)
            requests = way.requests[asked:]
            if any(each.endswith("limit=1") for each in requests):
                break
    await log.wait(fresh.head.position - 1, seconds=SECONDS)
    assert await log.head() == fresh.head


async def test_what_others_create_behind_the_gap_is_not_taken_in(
    apiserver: ApiServer,
    config: Config,
    log: Log,
    other: Log,
    history: History,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A version that is lower than one before makes for a look at what it follows."""
    await two_changes(log, history)
    feed: Any = log._feed  # type: ignore[attr-defined]
    feed.copy.version += 10**9
    assert await other.head() == history.head
    held = Held(other, monkeypatch)
    third = creations(history, "c")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(doubted, other, third, history)
        await held.there.wait()
        delete(apiserver, config, 2)
        held.let.set()
    assert apiserver.request("GET", path_of(config, 3))[0] == 200
    await until(lambda: feed.head == history.events[0].head)
    assert await log.head() == history.events[0].head
