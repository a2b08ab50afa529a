"""Bugs that a log in a cluster invites, made on purpose: the checker finds each.

As in `test_known_bugs.py`: without the bug nothing is wrong with the history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest

from evstore import maintenance
from evstore.errors import UnavailableError
from evstore.log import AppendError, InDoubtError
from evstore.log.kubernetes import KubernetesLog, compaction, feed
from evstore.log.kubernetes.feed import Feed
from evstore.log.kubernetes.shelf import Shelf
from evstore.log.kubernetes.writer import Writer
from evstore.model import Key
from fault.bugs import (
    FIRST,
    SECOND,
    Changed,
    DoesNothingOnConflict,
    Recorded,
    RetriesBlindly,
    TrustsNotifications,
    broken_or_not,
    deaf,
    introduce,
)
from fault.history import adjusted
from fault.torture.client import Watcher
from fault.torture.evidence import Rule
from kube.interference import Fault, interference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from apiserver import ApiServer
    from evstore import Config
    from evstore.log.kubernetes.client import Client as ApiClient
    from evstore.model import Head, StoredEvent
    from kube.interference import Interference

pytestmark = [pytest.mark.fault, pytest.mark.slow]

CHANGES = "/changes"


@pytest.fixture
def config(apiserver: ApiServer, kubernetes_config: Config) -> Config:
    """Return the configuration of a store that may compact as well."""
    namespace = kubernetes_config.kubernetes.system_namespace
    return adjusted(apiserver.config(namespace, role="compactor"), heartbeat_interval=0)


@pytest.fixture
async def way(apiserver: ApiServer) -> AsyncIterator[Interference]:
    async with interference(apiserver) as opened:
        yield opened


def by(way: Interference, config: Config) -> Config:
    """Return the same configuration, by a way that can fail."""
    return msgspec.structs.replace(config, kubernetes=way.config(config).kubernetes)


@pytest.fixture
def _aged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every object be old, and no look at the log's end count for long."""
    monkeypatch.setattr(compaction, "YOUNG_SECONDS", -1)
    monkeypatch.setattr(feed, "CONFIRMED_SECONDS_MAX", -1)


# A 201 that is believed though the log was compacted meanwhile.


@broken_or_not
@pytest.mark.usefixtures("_aged")
async def test_a_201_that_is_believed_below_the_floor_is_found(
    config: Config, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    recorded = Recorded(config)
    create = Shelf.create
    slept: list[bool] = []

    async with (
        recorded.open("a", config) as quick,
        recorded.open("b", deaf(config)) as late,
    ):
        assert await quick.create(FIRST)
        assert await late.get(FIRST, consistent=True)
        sleeper: ApiClient = late.store._log._stored._client  # type: ignore[attr-defined]

        async def after_a_sleep(shelf: Shelf, *args: Any, **named: Any) -> Any:
            if shelf._client is sleeper and not slept:
                slept.append(True)
                for number in range(3):
                    assert await quick.create(Key(type="Mesh", name=f"m{number}"))
                await recorded.read()
                done = await maintenance.compact(config, keep_events=1)
                assert (done.floor, done.removed) == (3, 3)
            return await create(shelf, *args, **named)

        monkeypatch.setattr(Shelf, "create", after_a_sleep)
        if broken:
            monkeypatch.setattr(Feed, "is_void", _never)
        # It gets the name of position 2, which is free again.
        assert await late.create(SECOND)
        assert slept
    found = await recorded.rules()
    assert Rule.LOST in found if broken else not found


async def _never(*_: object, **__: object) -> bool:
    return False


# A free name that is taken for the end of the log.


@broken_or_not
@pytest.mark.usefixtures("_aged")
async def test_a_free_name_that_is_taken_for_the_end_is_found(
    config: Config,
    way: Interference,
    monkeypatch: pytest.MonkeyPatch,
    *,
    broken: bool,
) -> None:
    recorded = Recorded(config)
    async with (
        recorded.open("a", config) as writes,
        recorded.open("b", by(way, deaf(config))) as sleeps,
    ):
        way.refuse(refusing=True)
        for key in (FIRST, SECOND, Key(type="Mesh", name="third")):
            assert await writes.create(key)
        await recorded.read()
        assert (await maintenance.compact(config, keep_events=1)).removed == 2
        way.refuse(refusing=False)
        if broken:
            monkeypatch.setattr(feed, "_recent", lambda _: True)
        await sleeps.get(FIRST, consistent=True)
    found = await recorded.rules()
    assert found == ({Rule.STALE} if broken else set())


# A create without an answer that is taken for one that failed.


class TakesDoubtForFailure(Changed):
    async def append(self, events: Sequence[StoredEvent], *, after: Head) -> None:
        try:
            await self._log.append(events, after=after)
        except InDoubtError as error:
            raise UnavailableError(str(error)) from error


@broken_or_not
@pytest.mark.parametrize("fault", [Fault.LOSE_ANSWER, Fault.CUT_BEFORE])
async def test_a_create_in_doubt_that_is_taken_for_failed_is_found(
    config: Config,
    way: Interference,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    *,
    broken: bool,
) -> None:
    recorded = Recorded(config)
    if broken:
        introduce(monkeypatch, TakesDoubtForFailure)
    async with recorded.open("a", by(way, deaf(config))) as client:
        struck = way.plan("POST", CHANGES, fault)
        created = await client.create(FIRST, request=False)
        assert struck.is_set()
    found = await recorded.rules()
    # Where the request was lost and not the answer, the bug does no harm.
    harm = broken and fault is Fault.LOSE_ANSWER
    assert created is not harm
    assert found == ({Rule.REFUSED} if harm else set())


@broken_or_not
@pytest.mark.parametrize("fault", [Fault.LOSE_ANSWER, Fault.CUT_BEFORE])
async def test_a_retry_that_does_not_read_back_is_found(
    config: Config,
    way: Interference,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    *,
    broken: bool,
) -> None:
    recorded = Recorded(config)
    if broken:
        introduce(monkeypatch, RetriesBlindly)
    async with recorded.open("a", by(way, deaf(config))) as client:
        assert await client.create(FIRST)
        struck = way.plan("POST", CHANGES, fault)
        assert await client.update(FIRST)
        assert struck.is_set()
    found = await recorded.rules()
    harm = broken and fault is Fault.LOSE_ANSWER
    assert Rule.DOUBLED in found if harm else not found


# A 409 that is taken for success.


@broken_or_not
async def test_a_409_that_is_taken_for_success_is_found(
    config: Config, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    recorded = Recorded(config)
    if broken:
        introduce(monkeypatch, DoesNothingOnConflict)
    async with (
        recorded.open("a", deaf(config)) as quick,
        recorded.open("b", deaf(config)) as stale,
    ):
        assert await quick.create(FIRST)
        assert await stale.create(SECOND)
    found = await recorded.rules()
    assert found == ({Rule.LOST} if broken else set())


# Two creates in flight at once.


class SendsAtOnce(Writer):
    """Sends an append while the one before it is under way; answers come in order."""

    async def _fly(
        self, events: Any, after: Any, before: Any, flight: Any, landed: Any
    ) -> None:
        error: Exception | None = None
        log = self._feed.copy.identity
        try:
            await self._shelf.create(events, after=after.hash, log=log)
        except AppendError as failure:
            error = failure
        if before is not None:
            await before.landed.wait()
        flight.landed.set()
        landed(error)


@broken_or_not
async def test_two_creates_in_flight_are_found(
    config: Config, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    recorded = Recorded(config)
    if broken:
        monkeypatch.setattr(Writer, "_fly", SendsAtOnce._fly)
        monkeypatch.setattr(KubernetesLog, "overlaps", property(lambda _: True))
    short = adjusted(
        config,
        limits=msgspec.structs.replace(
            config.evstore.limits, command_timeout=2.0, append_timeout=1.0
        ),
    )
    async with (
        recorded.open("a", deaf(config)) as quick,
        recorded.open("b", deaf(short)) as stale,
    ):
        assert await stale.create(FIRST)
        assert await quick.create(SECOND)
        with anyio.move_on_after(10):
            async with anyio.create_task_group() as tasks:
                for number in range(60):
                    key = Key(type="Mesh", name=f"m{number}")
                    tasks.start_soon(lambda key=key: stale.create(key, attempts=1))
    found = await recorded.rules()
    assert Rule.CHAIN in found if broken else not found


# A watch that is trusted to be complete.


@broken_or_not
async def test_a_watch_that_is_trusted_to_be_complete_is_found(
    config: Config,
    way: Interference,
    monkeypatch: pytest.MonkeyPatch,
    *,
    broken: bool,
) -> None:
    recorded = Recorded(config)
    async with (
        recorded.open("a", config) as writes,
        recorded.open("b", by(way, adjusted(deaf(config), notify=True))) as hears,
    ):
        assert await writes.create(FIRST)
        await hears.get(FIRST, consistent=True)
        # From now on it is there, and nothing comes.
        silent = way.plan("GET", "watch=1", Fault.STALL, times=100)
        way.cut_all()
        assert await writes.create(SECOND)
        if broken:
            monkeypatch.setattr(Feed, "_reach_end", _trusting)
        await hears.get(SECOND, consistent=True)
        assert not silent.is_set()
    found = await recorded.rules()
    assert found == ({Rule.STALE} if broken else set())


async def _trusting(self: Feed) -> None:
    self._confirm(self.look())


@broken_or_not
async def test_a_watcher_that_waits_for_the_watch_alone_is_found(
    config: Config,
    way: Interference,
    monkeypatch: pytest.MonkeyPatch,
    *,
    broken: bool,
) -> None:
    recorded = Recorded(config)
    if broken:
        introduce(monkeypatch, TrustsNotifications)
    begun = way.plan("GET", "watch=1", Fault.STALL, times=2)
    way.plan("GET", "watch=1", Fault.STALL, times=100)
    async with (
        recorded.open("a", config) as writes,
        recorded.open("b", by(way, adjusted(config, poll_interval=0.05))) as hears,
    ):
        # The start has given up one watch; the next one says nothing for long.
        with anyio.fail_after(60):
            await begun.wait()
        watcher = Watcher(hears.store, hears.record, name="b")
        assert await writes.create(FIRST)
        # Nothing tells that something will not come.
        with anyio.move_on_after(1.0 if broken else 20):
            await watcher.follow(lambda event: event.key == FIRST)
        watcher.end()
    found = await recorded.rules()
    assert found == ({Rule.MISSED} if broken else set())
