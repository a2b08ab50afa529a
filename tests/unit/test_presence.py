"""What an instance tells of itself, and how long others leave it what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import anyio

from evstore import UnavailableError
from evstore.clock import boot_microseconds
from evstore.commit.committer import Committer
from evstore.commit.live import LiveState
from evstore.config import Limits
from evstore.folds.projections import Projections
from evstore.instances import instance
from evstore.instances.instance import Presence
from evstore.log import MemoryLog
from evstore.snapshots.start import Origin
from evstore.watching.tail import Tail

if TYPE_CHECKING:
    from uuid import UUID

    import pytest

    from evstore.log import Instance, Log


def presence_on(log: Log, fingerprint: str = "") -> Presence:
    origin = Origin(log, lambda: Projections(log.genesis))
    live = LiveState(log, origin, Projections(log.genesis), Tail(0, events_max=100))
    return Presence(log, Committer(log, live, Limits()), fingerprint)


async def test_an_id_is_given_up_while_a_thread_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    presence = presence_on(MemoryLog())
    presence._shortest = 60
    given_up = presence.id
    presence.beaten_at = boot_microseconds()
    assert 50 < presence.seconds_left(given_up) <= 54

    def meanwhile() -> int:
        presence.id = uuid4()
        presence.beaten_at = None
        return boot_microseconds()

    monkeypatch.setattr(instance, "boot_microseconds", meanwhile)
    assert presence.seconds_left(given_up) > 50, "it was its own when it was asked"
    assert presence.seconds_left(given_up) == 0


async def test_a_heartbeat_tells_the_projections_with_their_fingerprint() -> None:
    log = MemoryLog()
    presence = presence_on(log, "ab")
    await presence._record(boot_microseconds())
    (seen,) = await log.instances()
    assert (seen.id, seen.projections) == (presence.id, ("resources:1:ab",))
    assert seen.knows == 0, "there is no database"


async def test_who_was_closed_is_forgotten_and_never_comes_back() -> None:
    log = MemoryLog()
    presence = presence_on(log)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(presence.run, 0.001)
        await presence._tried.wait()
        assert await log.instances()
        await presence.aclose()
        assert presence.seconds_left(presence.id) == 0
        assert await log.instances() == []
        with anyio.fail_after(5):
            await presence._tried.wait()  # the end of its task
    assert await log.instances() == []


async def test_a_heartbeat_under_way_is_waited_for_before_it_is_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = MemoryLog()
    presence = presence_on(log)
    begun, release = anyio.Event(), anyio.Event()
    beat = log.beat

    async def held(seen: Instance, *, renewal: bool = False) -> bool:
        begun.set()
        await release.wait()
        return await beat(seen, renewal=renewal)

    monkeypatch.setattr(log, "beat", held)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(presence.run, 60)
        await begun.wait()
        tasks.start_soon(presence.aclose)
        await anyio.wait_all_tasks_blocked()
        release.set()
    assert await log.instances() == []
    assert presence.beaten_at is None


async def test_closing_neither_fails_nor_waits_for_a_log_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = MemoryLog()
    presence = presence_on(log)
    await presence._beat()

    async def fail(identity: UUID, *, seconds: float) -> float:
        raise UnavailableError(str((identity, seconds)))

    async def hang(identity: UUID, *, seconds: float) -> float:
        await anyio.sleep_forever()
        return seconds + identity.int

    monkeypatch.setattr(log, "expire", fail)
    await presence.aclose()
    assert "the last heartbeat stays" in caplog.text
    monkeypatch.setattr(log, "expire", hang)
    monkeypatch.setattr(instance, "BEAT_SECONDS_MAX", 0.01)
    with anyio.fail_after(5):
        await presence.aclose()


async def test_what_is_held_still_keeps_its_heartbeat() -> None:
    log = MemoryLog()
    presence = presence_on(log)
    await presence._beat()
    presence._standing[uuid4()] = 60
    await presence.aclose()
    assert [each.id for each in await log.instances()] == [presence.id]
    assert presence.seconds_left(presence.id) > 0


async def test_who_never_was_seen_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log = MemoryLog()
    monkeypatch.setattr(log, "expire", None)
    await presence_on(log).aclose()
