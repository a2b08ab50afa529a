"""Projections of one's own: what open refuses, where they stand, how they stop."""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

import msgspec
import pytest

from events import History, create, creations, genesis, key
from evstore.errors import (
    DivergedError,
    InvalidError,
    SchemaError,
)
from evstore.folds.custom import CustomProjections
from evstore.folds.projection import Projection, definition_of
from evstore.folds.projections import Projections
from evstore.model import Event, Head, StoredEvent

if TYPE_CHECKING:
    from evstore.folds.custom import Custom

LOG = uuid4()
START = genesis(LOG)
T = TypeVar("T")


def wrap(stored: StoredEvent) -> Event:
    return Event(stored, LOG)


class Names(Projection[list[str]]):
    """The names of all events, in order; changed in place."""

    name = "names"

    def initial(self) -> list[str]:
        return []

    def fold(self, state: list[str], event: Event) -> list[str]:
        state.append(f"{event.operation} {event.name}")
        return state


class Strict(Names):
    """Changes its state, and then stumbles over a name."""

    name = "strict"
    version = 3

    def fold(self, state: list[str], event: Event) -> list[str]:
        state.append(event.name)
        if event.name == "bad":
            message = f"cannot take {event.name}"
            raise ValueError(message)
        return state


def together(
    *projections: Projection[Any], start: Head = START
) -> tuple[Projections, CustomProjections]:
    custom = CustomProjections(projections, wrap, start)
    return Projections(start, custom), custom


def state_of(custom: CustomProjections, of: type[Projection[Any]]) -> Any:
    return custom.get(of).state


# What can be given.


class WithoutType(Projection):  # type: ignore[type-arg]
    name = "without-type"

    def initial(self) -> Any:
        return 0

    def fold(self, state: Any, event: Event) -> Any:  # noqa: ARG002
        return state


class Base(Projection[dict[str, T]], Generic[T]):
    name = "base"

    def initial(self) -> dict[str, T]:
        return {}

    def fold(self, state: dict[str, T], event: Event) -> dict[str, T]:  # noqa: ARG002
        return state


class OfInts(Base[int]):
    name = "of-ints"


class OfLaterType(Projection["Later"]):
    name = "of-later"

    def initial(self) -> Later:
        return Later()

    def fold(self, state: Later, event: Event) -> Later:  # noqa: ARG002
        return state


class Colour(enum.StrEnum):
    RED = "red"


class Later(msgspec.Struct):
    children: dict[str, Later] = {}
    colours: dict[Colour, int] = {}


def made(
    state: Any = 0,
    of: Any = int,
    name: Any = "made",
    version: Any = 1,
) -> Projection[Any]:
    class Made(Projection[of]):
        def initial(self) -> Any:
            return state

        def fold(self, state: Any, event: Event) -> Any:  # noqa: ARG002
            return state

    Made.name = name
    Made.version = version
    return Made()


class Opaque:
    pass


class Keyed(msgspec.Struct):
    inner: list[dict[int, str]] = []


class Failing(Names):
    def initial(self) -> list[str]:
        message = "not now"
        raise RuntimeError(message)


class Waiting(Names):
    async def fold(self, state: Any, event: Event) -> Any:  # type: ignore[override]
        del event
        return state


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Names, "Names is a class; give an instance"),
        (object(), "object is no evstore.Projection"),
        (WithoutType(), "say what its state is, in the brackets"),
        (Base(), "say what its state is, in the brackets"),
        (made(name="Upper"), "name must be 1 to 63 of a-z, 0-9 and -"),
        (made(name=""), "name must be"),
        (made(name="x" * 64), "name must be"),
        (made(name="resources"), "not 'resources'"),
        (made(name=None), "it is None"),
        (made(version=0), "version must be a whole number from 1 on, not 0"),
        (made(version=True), "not True"),
        (made(version="2"), "not '2'"),
        (made(of=Opaque), "has a Opaque, which msgspec cannot decode"),
        (made(of=dict[str, Opaque], state={}), "has a Opaque, which"),
        (made(of="Nowhere"), "msgspec cannot decode the state"),
        (made(of=dict[int, str], state={}), "keys are not texts"),
        (made(of=Keyed, state=Keyed()), "keys are not texts"),
        (made(state="text"), r"initial\(\) must return .* int: ValidationError"),
        (made(of=Any, state={1: 2}), "Only dicts with str keys"),
        (made(of=Any, state=Opaque()), "TypeError"),
        (made(of=set[str], state=["a", "a"]), "another one"),
        (Failing(), "RuntimeError: not now"),
        (Waiting(), "asynchronous"),
    ],
)
def test_what_cannot_be_used_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InvalidError, match=message) as caught:
        CustomProjections([given], wrap, START)
    assert caught.value.path == "projections"


def test_a_missing_name_is_told() -> None:
    class Nameless(Projection[int]):
        def initial(self) -> int:
            return 0

        def fold(self, state: int, event: Event) -> int:  # noqa: ARG002
            return state

    with pytest.raises(InvalidError, match="it is None"):
        definition_of(Nameless())


def test_names_are_unique() -> None:
    class Others(Strict):
        name = "names"

    with pytest.raises(InvalidError, match="two are named 'names'"):
        CustomProjections([Names(), Others()], wrap, START)
    with pytest.raises(InvalidError, match="given twice"):
        CustomProjections([Names(), Names()], wrap, START)


@pytest.mark.parametrize(
    ("given", "name"), [(OfInts(), "dict[str, int]"), (OfLaterType(), "Later")]
)
def test_the_type_is_found_through_bases_and_texts(
    given: Projection[Any], name: str
) -> None:
    assert definition_of(given).state_name == name


def test_one_that_was_not_given_is_not_there() -> None:
    _, custom = together(Names())
    with pytest.raises(InvalidError, match=r"no Strict; .* it has: Names"):
        custom.get(Strict)
    with pytest.raises(InvalidError, match="it has: none"):
        CustomProjections((), wrap, START).get(Names)


# Folding.


def test_the_first_state_is_never_shared() -> None:
    shared: list[str] = []

    class Shared(Names):
        def initial(self) -> list[str]:
            return shared

    history = History(START)
    creations(history, ["a"])
    for _ in range(2):
        projections, custom = together(Shared())
        projections.apply(history.events)
        assert state_of(custom, Shared) == ["created a"]
    assert not shared


def test_each_projection_gets_an_event_of_its_own() -> None:
    class Spoiler(Projection[int]):
        name = "spoiler"

        def initial(self) -> int:
            return 0

        def fold(self, state: int, event: Event) -> int:
            event.spec["port"] = 0
            return state

    class Ports(Projection[list[int]]):
        name = "ports"

        def initial(self) -> list[int]:
            return []

        def fold(self, state: list[int], event: Event) -> list[int]:
            return [*state, event.spec["port"]]

    history = History(START)
    history.transaction(create(key("a"), {"port": 80}))
    projections, custom = together(Spoiler(), Ports())
    projections.apply(history.events)
    assert state_of(custom, Ports) == [80]


def test_folds_at_different_places_share_one_pass() -> None:
    history = History(START)
    for name in "abcdef":
        history.transaction(create(key(name)))
    places = [START, *(event.head for event in history.events)]
    whole, whole_custom = together(Names(), Strict())
    whole.apply(history.events)

    def standing_at(of: type[Projection[Any]], place: int) -> bytes:
        part, part_custom = together(Names(), Strict())
        part.apply(history.events[:place])
        return part_custom.get(of).freeze()

    for built_in, names, strict in [(4, 2, 5), (0, 6, 3), (6, 0, 6), (3, 3, 3)]:
        projections, custom = together(Names(), Strict())
        projections.apply(history.events[:built_in])
        for of, place in ((Names, names), (Strict, strict)):
            custom.get(of).restore(places[place], standing_at(of, place))
        assert projections.behind == min(built_in, names, strict)
        for start in range(projections.behind, 6, 2):
            projections.apply(history.events[start : start + 2])
        assert projections.position == projections.behind == 6
        assert projections.resources.digest() == whole.resources.digest()
        for of in (Names, Strict):
            assert custom.get(of).head == history.head
            assert custom.get(of).digest() == whole_custom.get(of).digest()


def test_a_gap_before_the_lowest_is_refused() -> None:
    history = History(START)
    for name in "abcd":
        history.transaction(create(key(name)))
    projections, custom = together(Names())
    projections.apply(history.events[:3])
    custom.get(Names).reset(START)
    with pytest.raises(DivergedError, match="has 2 where 1 should be"):
        projections.apply(history.events[1:])
    with pytest.raises(DivergedError, match="has 4 where 2 should be"):
        projections.apply([history.events[0], history.events[3]])
    with pytest.raises(DivergedError, match="has 5 where 4 should be"):
        projections.apply(creations(history, ["e"]))


def test_without_projections_of_ones_own_nothing_comes_twice() -> None:
    history = History(START)
    creations(history, ["a"])
    projections = Projections(START)
    projections.apply(history.events)
    with pytest.raises(DivergedError):
        projections.apply(history.events)
    assert projections.behind == projections.position == 1


def test_labels_name_version_and_fingerprint() -> None:
    projections, _ = together(Names(), Strict())
    assert projections.labels("f00d") == (
        "resources:1:f00d",
        "names:1:f00d",
        "strict:3:f00d",
    )


# Stopping.


def stopped(history: History) -> tuple[Projections, Custom]:
    projections, custom = together(Names(), Strict())
    projections.apply(history.events)
    return projections, custom.get(Strict)


def with_a_bad_one() -> History:
    history = History(START)
    creations(history, ["a", "b"])
    creations(history, ["c", "bad", "d"])
    creations(history, ["e"])
    return history


def test_a_fold_that_raises_stops_there_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    history = with_a_bad_one()
    projections, strict = stopped(history)
    assert strict.stopped is not None
    assert strict.stopped.position == 4
    assert strict.stopped.cause == "ValueError: cannot take bad"
    assert strict.head.position == 3
    assert projections.position == projections.behind == 6
    assert len(state_of(projections.custom, Names)) == 6
    for ask in (lambda: strict.state, strict.freeze, strict.digest, strict.copy):
        with pytest.raises(SchemaError, match="strict stopped at position 4: ValueErr"):
            ask()
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert [each.getMessage() for each in errors] == [
        "projection strict stopped at position 4: ValueError: cannot take bad"
    ]
    projections.apply(creations(history, ["f"]))
    assert (strict.stopped.position, strict.head.position) == (4, 3)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
def test_it_stops_at_the_same_place_however_events_come(size: int) -> None:
    history = with_a_bad_one()
    whole, expected = stopped(history)
    projections, custom = together(Names(), Strict())
    for start in range(0, len(history.events), size):
        projections.apply(history.events[start : start + size])
    found = custom.get(Strict)
    assert (found.stopped, found.head) == (expected.stopped, expected.head)
    assert projections.position == whole.position


def test_a_fold_that_returns_nothing_stops() -> None:
    class Forgetful(Names):
        name = "forgetful"

        def fold(self, state: list[str], event: Event) -> list[str]:
            state.append(event.name)
            return None  # type: ignore[return-value]

    history = History(START)
    creations(history, ["a", "b"])
    projections, custom = together(Forgetful())
    projections.apply(history.events)
    found = custom.get(Forgetful).stopped
    assert found is not None
    assert (found.position, found.cause) == (
        1,
        "TypeError: fold returned None; it must return the state",
    )


def test_none_may_be_a_state() -> None:
    class Last(Projection[str | None]):
        name = "last"

        def initial(self) -> str | None:
            return None

        def fold(self, state: str | None, event: Event) -> str | None:
            return None if state else event.name

    history = History(START)
    creations(history, ["a", "b"])
    projections, custom = together(Last())
    projections.apply(history.events)
    assert state_of(custom, Last) is None


def test_what_ends_the_process_goes_through_and_leaves_no_half_state() -> None:
    class Interrupted(Names):
        name = "interrupted"

        def fold(self, state: list[str], event: Event) -> list[str]:
            state.append(event.name)
            raise KeyboardInterrupt

    history = History(START)
    creations(history, ["a"])
    projections, custom = together(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        projections.apply(history.events)
    assert custom.get(Interrupted).stopped is not None


def test_a_state_of_another_type_stops_when_it_is_frozen() -> None:
    class Wrong(Projection[dict[str, int]]):
        name = "wrong"

        def initial(self) -> dict[str, int]:
            return {}

        def fold(self, state: dict[str, int], event: Event) -> dict[str, int]:
            state[event.name] = "one"  # type: ignore[assignment]
            return state

    history = History(START)
    creations(history, ["a", "b"])
    projections, custom = together(Wrong())
    projections.apply(history.events)
    wrong = custom.get(Wrong)
    assert wrong.stopped is None
    with pytest.raises(SchemaError, match=r"the state is no dict\[str, int\]"):
        wrong.freeze()
    assert wrong.status.stopped is not None
    assert wrong.status.stopped.position == 2


def test_a_long_cause_is_cut() -> None:
    class Loud(Names):
        name = "loud"

        def fold(self, state: list[str], event: Event) -> list[str]:  # noqa: ARG002
            raise ValueError("no\n" * 1000)

    history = History(START)
    creations(history, ["a"])
    projections, custom = together(Loud())
    projections.apply(history.events)
    found = custom.get(Loud).stopped
    assert found is not None
    assert len(found.cause) < 400
    assert "\n" not in found.cause


# Frozen and restored.


def test_equal_states_freeze_to_equal_bytes() -> None:
    class Sets(Projection[dict[str, set[str]]]):
        name = "sets"

        def initial(self) -> dict[str, set[str]]:
            return {}

        def fold(self, state: dict[str, set[str]], event: Event) -> dict[str, set[str]]:
            state.setdefault(event.name[0], set()).add(event.name)
            return state

    frozen: set[bytes] = set()
    for names in (["b2", "a1", "b1"], ["b1", "a1", "b2"], ["a1", "b2", "b1"]):
        history = History(START)
        creations(history, names)
        projections, custom = together(Sets())
        projections.apply(history.events)
        frozen.add(custom.get(Sets).freeze())
    assert len(frozen) == 1


def test_a_restored_state_goes_on_and_a_copy_is_ones_own() -> None:
    history = History(START)
    creations(history, ["a", "b"])
    projections, custom = together(Names())
    projections.apply(history.events)
    names = custom.get(Names)
    copied = names.copy()
    copied.append("mine")
    _, other = together(Names())
    other.get(Names).restore(names.head, names.freeze())
    assert other.get(Names).head == history.head
    assert state_of(other, Names) == names.state == ["created a", "created b"]


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x93\x01\x02", b"\x91\x01"])
def test_bytes_of_another_state_are_refused_and_change_nothing(payload: bytes) -> None:
    history = History(START)
    creations(history, ["a"])
    projections, custom = together(Names())
    projections.apply(history.events)
    with pytest.raises(msgspec.DecodeError):
        custom.get(Names).restore(START, payload)
    assert custom.get(Names).head == history.head
    assert state_of(custom, Names) == ["created a"]


def test_a_reset_begins_anew_also_where_it_had_stopped() -> None:
    history = with_a_bad_one()
    _, strict = stopped(history)
    strict.reset(START)
    assert (strict.stopped, strict.state, strict.head) == (None, [], START)
    strict.apply(history.events[:3])
    assert strict.state == ["a", "b", "c"]
