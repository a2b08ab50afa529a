"""Rebuilding: what is due, in one pass, and gone on from after an interruption."""

from __future__ import annotations

from typing import Any

import pytest

from events import History, create, folded, key
from evstore import UnavailableError
from evstore.folds.custom import CustomProjections
from evstore.folds.projection import Projection
from evstore.folds.projections import Projections
from evstore.log import MemoryLog, Snapshot
from evstore.model import Event
from evstore.snapshots import rebuild
from evstore.snapshots.content import folds_of
from evstore.snapshots.rebuild import Rebuilding, due
from evstore.snapshots.start import Origin
from evstore.snapshots.taking import take

EVENTS = 50


class Counted(Projection[dict[str, int]]):
    name = "counted"

    def initial(self) -> dict[str, int]:
        return {}

    def fold(self, state: dict[str, int], event: Event) -> dict[str, int]:
        state[event.type] = state.get(event.type, 0) + 1
        return state


class CountedTwice(Counted):
    version = 2

    def fold(self, state: dict[str, int], event: Event) -> dict[str, int]:
        return super().fold(super().fold(state, event), event)


class Stopping(Counted):
    def fold(self, state: dict[str, int], event: Event) -> dict[str, int]:
        if event.position == EVENTS // 2:
            raise ValueError(event.position)
        return super().fold(state, event)


async def filled() -> MemoryLog:
    log = MemoryLog()
    history = History(log.genesis)
    for number in range(EVENTS):
        before = history.head
        events = history.transaction(create(key(f"dp-{number}")))
        await log.append(events, after=before)
    return log


def origin_of(log: MemoryLog, *projections: Projection[Any]) -> Origin:
    def fresh() -> Projections:
        custom = CustomProjections(
            projections, lambda stored: Event(stored, log.identity), log.genesis
        )
        return Projections(log.genesis, custom)

    return Origin(log, fresh)


async def stored(log: MemoryLog, origin: Origin) -> None:
    for fold in folds_of(await origin.state()):
        assert await take(log, fold, fingerprint="", code_version="1")


def positions(snapshots: list[Snapshot]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for each in snapshots:
        found.setdefault(each.stamp.label, []).append(each.stamp.head.position)
    return found


async def test_what_other_code_has_stored_is_due() -> None:
    log = await filled()
    await stored(log, origin_of(log, Counted()))
    assert await due(origin_of(log, Counted()), events=0) == []
    (only,) = await due(origin_of(log, CountedTwice()), events=EVENTS)
    assert (only.name, only.version, only.stored) == ("counted", 2, None)
    assert (only.label, only.others) == ("counted:2:", ("counted:1:",))
    assert only.events == EVENTS


async def test_what_is_far_behind_is_due() -> None:
    log = await filled()
    assert await due(origin_of(log), events=EVENTS) == []
    (only,) = await due(origin_of(log), events=EVENTS - 1)
    assert (only.name, only.stored, only.others) == ("resources", None, ())


async def test_a_rebuild_leaves_a_start_without_a_tail_and_the_old_snapshots() -> None:
    log = await filled()
    await stored(log, origin_of(log, Counted()))
    told: list[tuple[int, int]] = []
    origin = origin_of(log, CountedTwice())
    rebuilding = Rebuilding(
        origin,
        code_version="1",
        advance=lambda done, all_: told.append((done, all_)),
    )
    assert await rebuilding.run(events=0) == ["counted"]
    assert told[-1] == (EVENTS, EVENTS)
    assert positions(await log.snapshots()) == {
        "resources:1:": [EVENTS],
        "counted:1:": [EVENTS],
        "counted:2:": [EVENTS],
    }
    begun = await origin.begun()
    assert begun.behind == EVENTS
    assert begun.custom.get(CountedTwice).state == {"Dataplane": 2 * EVENTS}
    assert await rebuilding.run(events=0) == []


async def test_an_interrupted_rebuild_is_gone_on_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rebuild, "STEP_EVENTS", 10)
    monkeypatch.setattr("evstore.log.ledger.CHUNK_EVENTS", 7)
    log = await filled()
    origin = origin_of(log, Counted())

    def interrupt(done: int, total: int) -> None:
        del total
        if done >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await Rebuilding(origin, code_version="1", advance=interrupt).run(events=0)
    assert positions(await log.snapshots()) == {
        "resources:1:": [28, 14],
        "counted:1:": [28, 14],
    }
    seen: list[int] = []
    again = Rebuilding(
        origin, code_version="1", advance=lambda _, total: seen.append(total)
    )
    assert await again.run(events=0) == ["resources", "counted"]
    assert set(seen) == {EVENTS - 28}
    started = await origin.begun()
    assert started.resources.digest() == (await folded(log)).resources.digest()
    assert started.custom.get(Counted).state == {"Dataplane": EVENTS}


async def test_what_stops_does_not_keep_the_others_from_being_rebuilt() -> None:
    log = await filled()
    rebuilding = Rebuilding(origin_of(log, Stopping()), code_version="1")
    assert await rebuilding.run(events=0) == ["resources", "counted"]
    assert positions(await log.snapshots()) == {"resources:1:": [EVENTS]}


async def test_a_rebuild_waits_for_who_is_saving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = await filled()
    monkeypatch.setattr(rebuild, "PAUSE_SECONDS", 0)
    busy = iter([True, True, False])
    save = log.save_snapshot

    async def saved(*args: Any, **more: Any) -> Snapshot | None:
        return None if next(busy) else await save(*args, **more)

    monkeypatch.setattr(log, "save_snapshot", saved)
    rebuilding = Rebuilding(origin_of(log), code_version="1")
    assert await rebuilding.run(events=0) == ["resources"]
    monkeypatch.setattr(log, "save_snapshot", lambda *_, **__: nothing())
    await log.drop_snapshots()
    with pytest.raises(UnavailableError, match="run it again"):
        await rebuilding.run(events=0)


async def nothing() -> None:
    """What a save is while another is under way."""
