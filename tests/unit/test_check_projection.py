"""The check for projections of one's own: it passes good ones and finds each fault."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import pytest

import evstore
from events import History, create, delete, genesis, key, update
from evstore.model import Event
from evstore.testing import check_projection

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = uuid4()


def history() -> list[Event]:
    """Return a log of some resources that come, change, and go."""
    made = History(genesis(LOG))
    names = ["a", "b", "c", "d", "e", "f"]
    for name in names:
        made.transaction(create(key(name), {"tags": [name, "all"], "port": 80}))
    for name in names[::2]:
        made.transaction(update(key(name), {"tags": ["all"], "port": 81}))
    made.transaction(delete(key("b")), delete(key("c")))
    return [Event(stored, LOG) for stored in made.events]


class Tags(evstore.Projection[dict[str, set[str]]]):
    """Which resources have a tag."""

    name = "tags"

    def initial(self) -> dict[str, set[str]]:
        return {}

    def fold(self, state: dict[str, set[str]], event: Event) -> dict[str, set[str]]:
        if event.operation == "redacted":
            return state
        for names in state.values():
            names.discard(event.name)
        for tag in event.spec["tags"] if event.spec else ():
            state.setdefault(tag, set()).add(event.name)
        return state


class Ports(msgspec.Struct, frozen=True):
    by_name: tuple[tuple[str, int], ...] = ()
    kinds: frozenset[int] = frozenset()


class FrozenPorts(evstore.Projection[Ports]):
    """A state that is never changed in place."""

    name = "ports"

    def initial(self) -> Ports:
        return Ports()

    def fold(self, state: Ports, event: Event) -> Ports:
        if not event.spec:
            return state
        port = event.spec["port"]
        return Ports((*state.by_name, (event.name, port)), state.kinds | {port})


@pytest.mark.parametrize("samples", [1, 3, 200])
@pytest.mark.parametrize("good", [Tags(), FrozenPorts()], ids=["in place", "frozen"])
def test_a_sound_projection_passes(good: Any, samples: int) -> None:
    check_projection(good, history(), samples=samples)


def bad(
    fold: Callable[[Any, Event], Any],
    initial: Callable[[], Any] = dict,
    state: Any = dict[str, Any],
) -> evstore.Projection[Any]:
    class Bad(evstore.Projection[state]):
        name = "bad"

        def initial(self) -> Any:
            return initial()

        def fold(self, state: Any, event: Event) -> Any:
            return fold(state, event)

    return Bad()


def put(state: dict[str, Any], event: Event, value: object) -> dict[str, Any]:
    state[event.name] = value
    return state


def by_order_of_dict(state: dict[str, Any], event: Event) -> dict[str, Any]:
    state["last"] = next(iter(state), "")
    return put(state, event, event.position)


def by_order_of_set(state: dict[str, Any], event: Event) -> dict[str, Any]:
    names: set[str] = state.setdefault("names", set())
    state["first"] = next(iter(names), "")
    names.add(event.name)
    return state


class Sets(msgspec.Struct):
    names: set[str] = msgspec.field(default_factory=set)
    first: str = ""


def sets_by_order(state: Sets, event: Event) -> Sets:
    state.first = next(iter(state.names), "")
    state.names.add(event.name)
    return state


def change_the_event(state: dict[str, Any], event: Event) -> dict[str, Any]:
    if event.spec:
        event.spec["port"] += 1
    return state


def change_the_labels(state: dict[str, Any], event: Event) -> dict[str, Any]:
    event.labels["seen"] = "yes"
    return state


def stumble(state: dict[str, Any], event: Event) -> dict[str, Any]:
    return put(state, event, event.spec["port"])


def forget_to_return(state: dict[str, Any], event: Event) -> None:
    put(state, event, 1)


def tuple_for_set(state: Any, event: Event) -> Any:
    return (*state, event.name, event.name)


def no_redaction(state: dict[str, Any], event: Event) -> dict[str, Any]:
    if event.operation == "deleted":
        return state
    return put(state, event, event.spec["port"])


count = 0


def remember(state: dict[str, Any], event: Event) -> dict[str, Any]:
    global count  # noqa: PLW0603
    count += 1
    return put(state, event, count)


SHARED: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("projection", "message"),
    [
        (
            bad(lambda state, event: put(state, event, time.time_ns())),
            r"at position 1: folded a second time by the same instance: state\['a'\]",
        ),
        (
            bad(lambda state, event: put(state, event, random.random())),
            r"at position 1: folded a second time by the same instance: state\['a'\]",
        ),
        (bad(remember), r"folded a second time by the same instance: state\['a'\] is"),
        (
            bad(by_order_of_dict),
            r"at position 2: folded on from a restored state: state\['last'\]",
        ),
        (
            bad(sets_by_order, Sets, Sets),
            r"at position 3: folded on from a restored state: state\['first'\]",
        ),
        (bad(change_the_event), "at position 1: fold changed the event's spec"),
        (bad(change_the_labels), "at position 1: fold changed the event's labels"),
        (bad(stumble), "at position 10: fold raised TypeError.* on a deleted event"),
        (bad(no_redaction), "at position 12: fold raised TypeError.* on a redacted ev"),
        (bad(forget_to_return), "at position 1: fold returned None"),
        (
            bad(
                lambda state, event: put(state, event, str(event)), state=dict[str, int]
            ),
            r"at position 1: the state is no dict\[str, int\]",
        ),
        (
            bad(tuple_for_set, set, set[str]),
            r"at position 1: the state is no set\[str\]: ValueError: what is decoded",
        ),
        (bad(lambda state, _: state, lambda: SHARED), "initial.. returns the same obj"),
    ],
    ids=[
        "clock",
        "random",
        "memory beside the state",
        "order of a dict",
        "order of a set",
        "spec",
        "labels",
        "deletion",
        "redaction",
        "nothing returned",
        "type",
        "round trip",
        "shared",
    ],
)
def test_a_fault_is_found(projection: evstore.Projection[Any], message: str) -> None:
    with pytest.raises(AssertionError, match=f"projection bad.*{message}"):
        check_projection(projection, history())


def test_a_first_state_that_changes_is_found() -> None:
    states = iter(range(100))

    class Bad(evstore.Projection[dict[str, int]]):
        name = "bad"

        def __init__(self, _: str) -> None:
            """Not to be made anew by the check."""

        def initial(self) -> dict[str, int]:
            return {"n": next(states)}

        def fold(self, state: dict[str, int], event: Event) -> dict[str, int]:  # noqa: ARG002
            return state

    with pytest.raises(AssertionError, match="returns another state now"):
        check_projection(Bad(""), history())


class Tree(evstore.Projection[dict[str, int]]):
    """One that is made with an argument, and has a memory beside its state."""

    name = "tree"

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth

    def initial(self) -> dict[str, int]:
        return {}

    def fold(self, state: dict[str, int], event: Event) -> dict[str, int]:
        state[event.name] = self._depth
        return state


def test_a_fresh_instance_must_come_to_the_same() -> None:
    check_projection(Tree(), history())
    with pytest.raises(AssertionError, match="a second time by a fresh instance"):
        check_projection(Tree(3), history())


def test_an_instance_that_needs_arguments_is_folded_twice_itself() -> None:
    class Deep(Tree):
        def __init__(self, depth: int) -> None:
            super().__init__(depth)

    check_projection(Deep(3), history())


def test_what_cannot_be_used_at_all_is_invalid() -> None:
    with pytest.raises(evstore.InvalidError, match="is a class"):
        check_projection(Tags, history())  # type: ignore[arg-type]
    with pytest.raises(evstore.InvalidError, match="give some events"):
        check_projection(Tags(), [])


def test_the_events_given_stay_as_they_are() -> None:
    events = history()
    specs = [event.spec for event in events]
    check_projection(Tags(), events)
    assert [event.spec for event in events] == specs
    for event, spec in zip(events, specs, strict=True):
        assert event.spec is spec
