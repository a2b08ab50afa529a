"""Which event should have set what differs, in histories of many chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import evstore
from events import History, create, key
from evstore.folds.projection import Projection
from evstore.log import MemoryLog
from evstore.maintenance.differing import first_difference
from evstore.maintenance.finding import event_that_set
from evstore.maintenance.folding import bring
from evstore.maintenance.programs import Program

if TYPE_CHECKING:
    from evstore.model import Event

EVENTS = 1_300
AT = 700
State = dict[str, Any]


class Newest(Projection[State]):
    """The newest name of each kind, and all names of one."""

    name = "newest"

    def initial(self) -> State:
        return {"kinds": {}, "rare": []}

    def fold(self, state: State, event: Event) -> State:
        kind = event.name.split("-")[0]
        state["kinds"][kind] = event.name
        if kind == "rare":
            state["rare"].append(event.name)
        return state


async def event_for(what: str, **wrong: Any) -> int | None:
    """Return the event that is named for a state that is wrong in some members."""
    log = MemoryLog()
    history = History(log.genesis)
    for position in range(1, EVENTS + 1):
        before = history.head
        kind = "rare" if position in {AT - 1, AT} else "often"
        events = history.transaction(create(key(f"{kind}-{position}")))
        await log.append(events, after=before)
    program = Program(evstore.App(projections=[Newest()]))
    origin = program.begins(log, drops=False)
    right, other = origin.fresh(), origin.fresh()
    for each in (right, other):
        await bring(log, each, until=EVENTS)
    (custom,) = other.custom
    custom.state.update(wrong)
    assert first_difference(right, other, "newest") == what
    return await event_that_set(origin, right, other, "newest", what)


async def test_the_last_event_that_changed_the_member_is_found_in_any_chunk() -> None:
    often = {"often": f"often-{EVENTS}"}
    assert await event_for("/kinds/rare", kinds=often) == AT
    late = {"often": "often-1", "rare": f"rare-{AT}"}
    assert await event_for("/kinds/often", kinds=late) == EVENTS


async def test_of_a_list_it_is_the_last_that_changed_the_list() -> None:
    assert await event_for("/rare/0", rare=[f"rare-{AT}"]) == AT


async def test_what_a_replay_never_has_was_set_by_no_event() -> None:
    assert await event_for("/more/0", more=[1]) is None
