"""Is a projection of one's own sound?"""

from __future__ import annotations

from copy import copy
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast
from uuid import UUID

import msgspec

from evstore.errors import InvalidError
from evstore.folds.projection import Definition, Projection, definition_of, describe
from evstore.model import Event, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

SAMPLES_MAX: Final = 200


def check_projection(
    projection: Projection[Any], events: Iterable[Event], *, samples: int = SAMPLES_MAX
) -> None:
    """Check that a projection comes to one state, however it is folded.

    Folded are: all events by this instance, twice; by a fresh instance, where the class
    can be made without arguments; and from a state that was frozen and restored, as
    after a start from a snapshot, with its dicts and sets in the opposite order. All of
    them must come to the same state after every event. Besides, no event is changed,
    every state is what its type says, what `initial` returns is not shared, and a
    redaction, which any log may get, is taken.

    It finds what it can: a clock that is read to the day, or an order of sets that is
    made and used within one fold, may pass.

    Args:
        projection: an instance, as given to `evstore.open`.
        events: events in order, from the first of the log on, as `Store.events` yields
            them: `[event async for event in store.events()]`.
        samples: how many states at most are frozen, restored and compared, evenly over
            the events; the last is always among them.

    Raises:
        AssertionError: it is not sound; the message names the position and what differs.
        InvalidError: it cannot be used at all, or there are no events.
    """
    definition = definition_of(projection)
    taken = list(events)
    if not taken:
        raise InvalidError("give some events to fold", path="events")
    check = _Check(definition, taken, samples)
    check.whole()
    check.again("the same instance", definition)
    fresh = _fresh(projection)
    if fresh is not None:
        check.again("a fresh instance", fresh)
    check.restored(_as_it_is)
    check.restored(_turned_round)
    check.redaction()
    check.initial()


def _fresh(projection: Projection[Any]) -> Definition | None:
    try:
        fresh = type(projection)()
    except TypeError:
        return None  # It needs arguments that only the caller knows.
    return definition_of(fresh)


class _Check:
    """The states that a projection comes to, frozen, by index of the event before."""

    def __init__(
        self, definition: Definition, events: Sequence[Event], samples: int
    ) -> None:
        self._definition = definition
        self._events = events
        self._name = definition.projection.name
        step = max(1, -(-len(events) // max(1, samples)))
        self._looked_at = {*range(step - 1, len(events), step), len(events) - 1}
        self._frozen: dict[int, bytes] = {}

    def whole(self) -> None:
        """Fold all events, and keep what they come to."""
        state = self._definition.beginning()
        for index, event in enumerate(self._events):
            state = self._fold(self._definition, state, event)
            if index in self._looked_at:
                self._frozen[index] = self._freeze(state, event)

    def again(self, who: str, definition: Definition) -> None:
        """Fold all events once more."""
        state = definition.beginning()
        for index, event in enumerate(self._events):
            state = self._fold(definition, state, event)
            if index in self._looked_at:
                self._compare(index, state, f"folded a second time by {who}")

    def restored(self, order: Callable[[Any], Any]) -> None:
        """Fold each event, or a sample, after the state before it was restored."""
        state = order(self._definition.beginning())
        for index, event in enumerate(self._events):
            state = self._fold(self._definition, state, event)
            if index in self._looked_at:
                self._compare(index, state, "folded on from a restored state")
                state = order(self._definition.thaw(self._frozen[index]))

    def redaction(self) -> None:
        """Fold a redaction, which may come after the last event."""
        last = self._events[-1]
        stored = msgspec.structs.replace(
            last.stored,
            position=last.position + 1,
            commit=last.position + 1,
            operation=Operation.REDACTED,
            body=msgspec.Raw(b'{"labels":{},"owner":null,"spec":null,"status":null}'),
            metadata=msgspec.Raw(b'{"position":%d,"fields":[]}' % last.position),
        )
        state = self._definition.thaw(self._frozen[len(self._events) - 1])
        event = Event(stored, last.bookmark.log)
        self._freeze(self._fold(self._definition, state, event), event)

    def initial(self) -> None:
        """Ask for the first state again, after all that was folded."""
        projection = self._definition.projection
        first, second = projection.initial(), projection.initial()
        payload = self._definition.freeze(self._definition.beginning())
        for state in (first, second):
            if self._definition.freeze(state) != payload:
                self._fail(None, f"initial() returns another state now: {state!r}")
        if first is second and _changeable(first):
            self._fail(None, "initial() returns the same object each time; make one")

    def _fold(self, definition: Definition, state: Any, event: Event) -> Any:
        given = copy(event)
        try:
            state = definition.projection.fold(state, given)
        except Exception as error:
            message = f"fold raised {describe(error)} on a {event.operation} event"
            raise AssertionError(self._at(event, message)) from error
        if state is None and definition.never_none:
            self._fail(event, "fold returned None; it must return the state")
        for part in ("spec", "status", "labels", "metadata"):
            before, after = _part(event, part), _part(given, part)
            if before != after:
                self._fail(event, f"fold changed the event's {part}")
        return state

    def _freeze(self, state: Any, event: Event) -> bytes:
        try:
            return self._definition.freeze(state)
        except Exception as error:
            name = self._definition.state_name
            message = f"the state is no {name}: {describe(error)}"
            raise AssertionError(self._at(event, message)) from error

    def _compare(self, index: int, state: Any, how: str) -> None:
        event = self._events[index]
        payload = self._freeze(state, event)
        if payload != self._frozen[index]:
            expected = msgspec.msgpack.decode(self._frozen[index])
            found = msgspec.msgpack.decode(payload)
            where = next(_differences(expected, found, "state"), "state")
            self._fail(event, f"{how}: {where}")

    def _fail(self, event: Event | None, message: str) -> NoReturn:
        raise AssertionError(self._at(event, message))

    def _at(self, event: Event | None, message: str) -> str:
        at = "" if event is None else f" at position {event.position}"
        return f"projection {self._name}{at}: {message}"


def _part(event: Event, name: str) -> object:
    """Return a part of an event; None where what is stored is not of its type."""
    try:
        found: object = getattr(event, name)
    except InvalidError:
        return None
    return found


class _OtherWaySet(set[Any]):
    """A set whose order is the opposite: whoever depends on it is found out."""

    def __iter__(self) -> Iterator[Any]:
        return iter([*super().__iter__()][::-1])

    def pop(self) -> Any:
        last = next(iter(self))
        self.remove(last)
        return last


class _OtherWayFrozenSet(frozenset[Any]):
    """The same for a set that does not change."""

    def __iter__(self) -> Iterator[Any]:
        return iter([*super().__iter__()][::-1])


def _as_it_is(state: Any) -> Any:
    return state


def _turned_round(state: Any) -> Any:
    """Return an equal state with its dicts and sets in the opposite order."""
    match state:
        case dict():
            items = [*cast("Mapping[str, Any]", state).items()]
            return {key: _turned_round(value) for key, value in reversed(items)}
        case set():
            return _OtherWaySet(cast("Iterable[Any]", state))
        case frozenset():
            return _OtherWayFrozenSet(cast("Iterable[Any]", state))
        case list():
            return [_turned_round(each) for each in cast("Iterable[Any]", state)]
        case msgspec.Struct():
            names = state.__struct_fields__
            turned = {name: _turned_round(getattr(state, name)) for name in names}
            return msgspec.structs.replace(state, **turned)
        case _:
            return state


def _changeable(state: Any) -> bool:
    """Whether something in a state can be changed in place."""
    if isinstance(state, msgspec.Struct):
        names = state.__struct_fields__
        return not type(state).__struct_config__.frozen or any(
            _changeable(getattr(state, name)) for name in names
        )
    if isinstance(state, tuple | frozenset):
        return any(_changeable(each) for each in cast("Iterable[Any]", state))
    return not isinstance(state, _UNCHANGEABLE)


_UNCHANGEABLE: Final = (
    *(int, float, str, bytes, bool, NoneType, Enum, UUID, Decimal),
    *(date, time, timedelta),
)


def _differences(expected: Any, found: Any, path: str) -> Iterator[str]:
    """Yield where two decoded states differ."""
    one, two = _members(expected), _members(found)
    if type(expected) is not type(found) or one is None or two is None:
        if expected != found:
            yield f"{path} is {found!r} and was {expected!r}"
        return
    for key in {**one, **two}:
        where = f"{path}[{key!r}]"
        yield from _differences(one.get(key, _MISSING), two.get(key, _MISSING), where)


def _members(state: Any) -> Mapping[Any, Any] | None:
    if isinstance(state, dict):
        return cast("Mapping[Any, Any]", state)
    if isinstance(state, list):
        return dict(enumerate(cast("Iterable[Any]", state)))
    return None


class _Missing:
    def __repr__(self) -> str:
        return "missing"


_MISSING: Final = _Missing()
