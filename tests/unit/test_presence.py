"""What an instance tells of itself, and how long others leave it what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

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
    import pytest


async def test_an_id_is_given_up_while_a_thread_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = MemoryLog()
    origin = Origin(log, lambda: Projections(log.genesis))
    live = LiveState(log, origin, Projections(log.genesis), Tail(0, events_max=100))
    presence = Presence(log, Committer(log, live, Limits()))
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
    origin = Origin(log, lambda: Projections(log.genesis))
    live = LiveState(log, origin, Projections(log.genesis), Tail(0, events_max=100))
    presence = Presence(log, Committer(log, live, Limits()), "ab")
    await presence._record(boot_microseconds())
    (seen,) = await log.instances()
    assert (seen.id, seen.projections) == (presence.id, ("resources:1:ab",))
    assert seen.knows == 0, "there is no database"
