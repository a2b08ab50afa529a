"""Rebuilding: what is due, in one pass, and gone on from after an interruption."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import pytest

from events import History, create, creations, everything, folded, key
from evstore import UnavailableError
from evstore.folds.custom import CustomProjections
from evstore.folds.projection import Projection
from evstore.folds.projections import Projections
from evstore.log import MemoryLog, Snapshot, Stamp
from evstore.model import Event, Head
from evstore.snapshots import rebuild
from evstore.snapshots.content import folds_of
from evstore.snapshots.rebuild import Code, Rebuilding, due, due_of
from evstore.snapshots.start import Origin
from evstore.snapshots.taking import take

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

EVENTS = 50
ALL = ("resources", "counted")


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


def test_what_lies_below_the_floor_is_no_beginning() -> None:
    def stamp(position: int) -> Stamp:
        head = Head(position=position, hash=bytes(32), time=0)
        return Stamp(
            log=uuid4(),
            projection="counted",
            version=1,
            fingerprint="",
            head=head,
            digest=bytes(32),
        )

    codes = [Code("counted", 1, "")]
    assert due_of(codes, [stamp(3)], head=9, events=4, floor=5) == []
    (only,) = due_of(codes, [stamp(3)], head=9, events=3, floor=5)
    assert (only.stored, only.events) == (None, 4)
    assert due_of(codes, [stamp(6)], head=9, events=3, floor=5) == []
    (only,) = due_of(codes, [stamp(3)], head=9, events=5)
    assert (only.stored, only.events) == (3, 6)


async def test_nothing_is_kept_or_due_of_an_empty_log() -> None:
    log = MemoryLog()
    origin = origin_of(log, Counted())
    for fold in folds_of(await origin.state()):
        assert await take(log, fold, fingerprint="", code_version="1") is None
    stamp = Stamp(
        log=log.identity,
        projection="counted",
        version=7,
        fingerprint="",
        head=log.genesis,
        digest=bytes(32),
    )
    await log.save_snapshot(stamp, no_chunks(), code_version="1")
    assert await due(origin, events=0) == []
    assert await Rebuilding(origin, code_version="1").run([]) == []


async def no_chunks() -> AsyncGenerator[bytes]:
    return
    yield b""


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
    (rebuilt,) = await rebuilding.run(["counted"])
    assert (rebuilt.label, rebuilt.position) == ("counted:2:", EVENTS)
    assert rebuilding.complete
    assert told[-1] == (EVENTS, EVENTS)
    assert positions(await log.snapshots()) == {
        "resources:1:": [EVENTS],
        "counted:1:": [EVENTS],
        "counted:2:": [EVENTS],
    }
    begun = await origin.begun()
    assert begun.behind == EVENTS
    assert begun.custom.get(CountedTwice).state == {"Dataplane": 2 * EVENTS}
    assert await due(origin, events=0) == []
    assert await rebuilding.run([]) == []


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
        await Rebuilding(origin, code_version="1", advance=interrupt).run(ALL)
    assert positions(await log.snapshots()) == {
        "resources:1:": [28, 14],
        "counted:1:": [28, 14],
    }
    seen: list[int] = []
    again = Rebuilding(
        origin, code_version="1", advance=lambda _, total: seen.append(total)
    )
    assert [each.position for each in await again.run(ALL)] == [EVENTS, EVENTS]
    assert set(seen) == {EVENTS - 28}
    started = await origin.begun()
    assert started.resources.digest() == (await folded(log)).resources.digest()
    assert started.custom.get(Counted).state == {"Dataplane": EVENTS}


async def test_one_that_is_to_end_stores_what_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evstore.log.ledger.CHUNK_EVENTS", 7)
    log = await filled()
    enough = anyio.Event()

    def advance(done: int, total: int) -> None:
        assert total == EVENTS
        if done >= 20:
            enough.set()

    rebuilding = Rebuilding(
        origin_of(log), code_version="1", advance=advance, enough=enough
    )
    (rebuilt,) = await rebuilding.run(["resources"])
    assert not rebuilding.complete
    assert (rebuilt.position, rebuilding.position, rebuilding.head) == (21, 21, EVENTS)
    assert positions(await log.snapshots()) == {"resources:1:": [21]}


async def test_one_never_ends_inside_a_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evstore.log.ledger.CHUNK_EVENTS", 7)
    log = await filled()
    history = History(log.genesis)
    history.projections.apply(await everything(log))
    before = history.head
    await log.append(creations(history, map(str, range(30))), after=before)
    enough = anyio.Event()

    def advance(done: int, _: int) -> None:
        if done > EVENTS:
            enough.set()

    rebuilding = Rebuilding(
        origin_of(log), code_version="1", advance=advance, enough=enough
    )
    (rebuilt,) = await rebuilding.run(["resources"])
    assert rebuilt.position == EVENTS + 30


async def test_of_a_log_that_loses_its_end_meanwhile_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = await filled()
    await stored(log, origin_of(log))
    before = await log.snapshots()
    place = log.place

    async def lost(position: int) -> Head | None:
        return None if position == EVENTS else await place(position)

    def fail_over(done: int, total: int) -> None:
        del done, total
        monkeypatch.setattr(log, "place", lost)

    rebuilding = Rebuilding(
        origin_of(log, Counted()), code_version="1", advance=fail_over
    )
    with pytest.raises(UnavailableError, match="the log lost its end"):
        await rebuilding.run(["counted"])
    assert await log.snapshots() == before


async def test_what_stops_does_not_keep_the_others_from_being_rebuilt() -> None:
    log = await filled()
    rebuilding = Rebuilding(origin_of(log, Stopping()), code_version="1")
    resources, counted = await rebuilding.run(ALL)
    assert (resources.position, resources.stopped) == (EVENTS, None)
    assert counted.position == EVENTS, "that it has stopped is kept"
    assert counted.stopped is not None
    assert counted.stopped.position == EVENTS // 2
    assert positions(await log.snapshots()) == {
        "resources:1:": [EVENTS],
        "counted:1:": [EVENTS],
    }
    assert await due(origin_of(log, Stopping()), events=0) == [], "it is known"


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
    (rebuilt,) = await rebuilding.run(ALL)
    assert rebuilt.position == EVENTS
    monkeypatch.setattr(log, "save_snapshot", lambda *_, **__: nothing())
    await log.drop_snapshots()
    with pytest.raises(UnavailableError, match="run it again"):
        await rebuilding.run(ALL)


async def nothing() -> None:
    """What a save is while another is under way."""
