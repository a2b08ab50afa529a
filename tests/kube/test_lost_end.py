"""Logs that lose their end, as a cluster does that is set back to a backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from events import History, creations, everything
from evstore.errors import DivergedError
from evstore.log import ForeignLogError, HeadMovedError, InDoubtError, open_log
from evstore.log.kubernetes import objects

if TYPE_CHECKING:
    from apiserver import ApiServer
    from evstore.config import Config
    from evstore.log import Log
    from kube.interference import Interference


def path_of(config: Config, position: int | None = None) -> str:
    path = objects.collection(config.kubernetes.system_namespace, objects.CHANGES)
    return path if position is None else f"{path}/{objects.name_of(position)}"


def delete(server: ApiServer, config: Config, position: int) -> None:
    assert server.request("DELETE", path_of(config, position))[0] == 200


async def two_changes(log: Log, history: History) -> None:
    for name in "ab":
        after = history.head
        await log.append(creations(history, name), after=after)


async def test_a_reader_at_the_lost_end_diverges(
    apiserver: ApiServer, config: Config, log: Log, history: History
) -> None:
    await two_changes(log, history)
    delete(apiserver, config, 2)
    with pytest.raises(DivergedError):
        await log.read_on(history.head)
    assert await log.head() == history.events[0].head
    assert await everything(log) == history.events[:1]


async def test_what_was_issued_again_is_another_place(
    apiserver: ApiServer, config: Config, log: Log, other: Log, history: History
) -> None:
    await two_changes(log, history)
    lost = history.head
    assert await other.head() == lost
    delete(apiserver, config, 2)
    assert await other.head() == history.events[0].head
    again = creations(History(history.events[0].head), "c")
    await other.append(again, after=history.events[0].head)
    with pytest.raises(DivergedError):
        await log.read_on(lost)
    assert await everything(log) == [history.events[0], *again]


async def test_a_writer_makes_no_gap_behind_a_lost_end(
    apiserver: ApiServer,
    config: Config,
    log: Log,
    way: Interference,
    history: History,
) -> None:
    await two_changes(log, history)
    lost = history.head
    way.refuse(refusing=True)  # what is set back is stopped for that
    delete(apiserver, config, 2)
    third = creations(history, "c")
    with pytest.raises(Exception, match=r"reached|answer|broke"):
        await log.append(third, after=lost)
    way.refuse(refusing=False)
    with pytest.raises(HeadMovedError):
        await log.append(third, after=lost)
    assert apiserver.request("GET", path_of(config, 3))[0] == 404


async def test_an_object_that_is_older_than_the_one_before_it_is_noticed(
    log: Log, history: History
) -> None:
    """Where nothing failed in between, the answer itself tells."""
    await two_changes(log, history)
    after = history.head
    log._feed.copy.version += 10**9  # type: ignore[attr-defined]
    with pytest.raises(InDoubtError, match="set back"):
        await log.append(creations(history, "c"), after=after)


async def test_an_object_behind_the_gap_is_named_until_it_is_gone(
    apiserver: ApiServer, config: Config, log: Log, history: History
) -> None:
    """It was created in the moment in which the cluster was set back."""
    await two_changes(log, history)
    _, stray = apiserver.request("GET", path_of(config, 2))
    delete(apiserver, config, 2)
    metadata = {"name": objects.name_of(3)}
    apiserver.create(path_of(config), stray | {"metadata": metadata})
    assert await log.head() == history.events[0].head
    fresh = History(history.events[0].head)
    await log.append(creations(fresh, "c"), after=history.events[0].head)
    fourth = creations(fresh, "d")
    with pytest.raises(HeadMovedError):
        await log.append(fourth, after=fresh.events[0].head)
    with pytest.raises(DivergedError, match=f"{3:020} does not follow event 2"):
        await log.head()
    with pytest.raises(DivergedError, match="it has to be deleted"):
        async with open_log(config):
            pass
    delete(apiserver, config, 3)
    await log.append(fourth, after=fresh.events[0].head)
    assert await everything(log) == [history.events[0], *fresh.events]


async def test_another_log_in_the_namespace_is_told(
    apiserver: ApiServer, config: Config, log: Log, history: History
) -> None:
    foreign = "6f0c1a52-1f5e-4c58-8f34-2a3f6f5d1a77"
    path = objects.collection(config.kubernetes.system_namespace, objects.LOGS)
    _, found = apiserver.request("GET", f"{path}/evstore")
    found["spec"]["identity"] = foreign
    assert apiserver.request("PUT", f"{path}/evstore", found)[0] == 200
    with pytest.raises(ForeignLogError):
        await log.connect()
    async with open_log(config) as new:
        assert str(new.identity) == foreign
        await new.append(creations(History(new.genesis), "a"), after=new.genesis)
    with pytest.raises(ForeignLogError):
        await log.read_on(history.head)
