"""The projections of one's own at one place of the log: folded, frozen, restored.

A `Custom` is one of them. It runs until its fold raises; then it has stopped at that
event, for good, and has no state any more: what the fold had changed by then cannot be
told. That costs nothing while all goes well. Live, in a replay and after a start the
same happens, for the log is the same.

It also has no state from the moment on at which it meets a redaction of something that
it has folded: it is tainted then, until it has been folded again from the log.
"""

from __future__ import annotations

import logging
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from evstore.errors import InvalidError, SchemaError, StoreError, UnavailableError
from evstore.model import Operation
from evstore.redaction import announcement_of

from .gone import Gone
from .projection import Definition, Projection, definitions_of, describe
from .stopped import (
    ProjectionStatus,
    Stopped,
    freeze_stop,
    is_accident,
    is_stop,
    thaw_stop,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from evstore.model import Event, Head, StoredEvent

logger = logging.getLogger(__name__)

_NOTHING: Final = "fold returned None; it must return the state"


class Custom:
    """One projection of one's own, at one place.

    `head` is the place up to which it has folded; `stopped` says where and why it has
    stopped, `tainted` whether its state was dropped for a redaction. `seen` is the place
    up to which it has taken events in: beyond `head` only where it has stopped.
    """

    def __init__(
        self, definition: Definition, wrap: Callable[[StoredEvent], Event], head: Head
    ) -> None:
        self.head = head
        self.stopped: Stopped | None = None
        self.tainted = False
        self.definition = definition
        self._wrap = wrap
        self._state = definition.beginning()
        self._gone = Gone()
        self._seen: Head | None = None
        self._lasting = False
        self._accident = False

    @property
    def projection(self) -> Projection[Any]:
        """The projection that is folded."""
        return self.definition.projection

    @property
    def name(self) -> str:
        """The projection's name."""
        return type(self.projection).name

    @property
    def version(self) -> int:
        """The projection's version."""
        return type(self.projection).version

    @property
    def running(self) -> bool:
        """Whether there is a state: it has not stopped, and is not tainted."""
        return self.stopped is None and not self.tainted

    @property
    def seen(self) -> Head:
        """The place up to which events were taken in."""
        return self._seen or self.head

    @property
    def status(self) -> ProjectionStatus:
        """How it stands."""
        return ProjectionStatus(
            name=self.name,
            version=self.version,
            position=self.head.position,
            stopped=self.stopped,
            tainted=self.tainted,
        )

    @property
    def state(self) -> Any:
        """The state at `head`; the fold may change it in place with the next event.

        Raises:
            SchemaError: it has stopped.
            UnavailableError: it is folded again after a redaction.
        """
        self._check()
        return self._state

    def freeze(self) -> bytes:
        """Return the state as msgpack: equal states give equal bytes.

        A state that is not of its declared type is found here; it stops the projection
        at its head.

        Raises:
            SchemaError: it has stopped, by now or before.
            UnavailableError: it is folded again after a redaction.
        """
        self._check()
        try:
            return self.definition.freeze(self._state)
        except Exception as error:  # noqa: BLE001 - a state may hold what it likes
            reason = f"the state is no {self.definition.state_name}: {describe(error)}"
            self._stop(self.head.position, reason)
            # What a state is does not show in a replay, which only folds.
            self._lasting = not is_accident(error)
        self._check()
        raise AssertionError

    def digest(self) -> bytes:
        """Return the SHA-256 of the frozen state; raises as `freeze` does."""
        return sha256(self.freeze()).digest()

    def copy(self) -> Any:
        """Return a state of the caller's own; raises as `freeze` does."""
        return self.definition.thaw(self.freeze())

    def confirm(self) -> None:
        """Hold on to where it has stopped, if it has: a replay of the log met it, too.

        Not where it need not have been the event's doing.
        """
        self._lasting = self.stopped is not None and not self._accident

    def keep(self) -> bytes | None:
        """Return what another start can go on from, at `seen`.

        That is the frozen state, or that there is none, once that is confirmed. None
        where there is nothing to go on from.
        """
        try:
            return self.freeze()
        except StoreError:
            if self.stopped is None or not self._lasting:
                return None
            return freeze_stop(self.stopped, self.head)

    def restore(self, head: Head, payload: bytes) -> None:
        """Stand at `head` with what was frozen or kept there.

        Raises:
            Exception: the bytes are of no such state; nothing has changed.
        """
        if not is_stop(payload):
            self._become(head, self.definition.thaw(payload))
            return
        stopped, folded = thaw_stop(payload)
        self._become(folded, None)
        self._stop(stopped.position, stopped.cause)
        self._seen = head
        self.confirm()

    def reset(self, head: Head) -> None:
        """Begin anew at `head`."""
        self._become(head, self.definition.beginning())

    def _become(self, head: Head, state: Any) -> None:
        self.head = head
        self.stopped = None
        self.tainted = False
        self._state = state
        self._gone = Gone()
        self._seen = None
        self._lasting = False

    def apply(self, events: Sequence[StoredEvent]) -> None:
        """Take in the events after `seen`; those before it are passed over."""
        seen = self.seen.position
        if events[-1].position <= seen:
            return
        known = seen + 1 - events[0].position
        assert known >= 0, "events have no gap"
        new = events[known:] if known else events
        if self.stopped is not None:
            self._look_back(new)
        elif self.tainted:
            self._note(new)
        else:
            self._fold(new)

    def _fold(self, events: Sequence[StoredEvent]) -> None:
        folded, state, error = self._run(events)
        if folded:
            self.head = events[folded - 1].head
        if error is not None:
            self._stop(events[folded].position, describe(error), error)
            self._look_back(events[folded:])
            if not isinstance(error, Exception):
                raise error
        elif folded < len(events):
            self._taint(events[folded:])
        else:
            self._state = state

    def _run(
        self, events: Sequence[StoredEvent]
    ) -> tuple[int, Any, BaseException | None]:
        """Fold up to an error, or to a redaction of what the state may hold.

        Returns how many were folded, the state, and what was raised.
        """
        fold, wrap, left_of = self.projection.fold, self._wrap, self._gone.left_of
        never_none = self.definition.never_none
        state = self._state
        folded = 0
        try:
            for event in events:
                if event.operation is Operation.REDACTED and self._taints(event):
                    break
                state = fold(state, wrap(left_of(event)))
                if state is None and never_none:
                    raise TypeError(_NOTHING)  # noqa: TRY301
                folded += 1
        except BaseException as error:  # noqa: BLE001 - the caller raises it again
            return folded, None, error
        return folded, state, None

    # Redactions: what is announced to go must not be in a state any more.

    def _taints(self, event: StoredEvent) -> bool:
        """Whether the state may hold what a redaction announces to go."""
        announced = announcement_of(event)
        if announced is None:
            return False
        if self.stopped is not None and announced.position > self.stopped.position:
            return False
        return not self._gone.lacks(announced)

    def _look_back(self, events: Sequence[StoredEvent]) -> None:
        """Begin again where a redaction changes what it stopped at, or came from."""
        for index, event in enumerate(events):
            if self._taints(event):
                self.stopped = None
                self._seen = None
                self._taint(events[index:])
                return
        self._seen = events[-1].head

    def _taint(self, events: Sequence[StoredEvent]) -> None:
        """Drop the state; `events` begin with a redaction of what it may hold."""
        self.tainted = True
        self._state = None
        logger.info(
            "projection %s is folded again: a redaction was announced at position %d",
            self.name,
            events[0].position,
        )
        self._note(events)

    def _note(self, events: Sequence[StoredEvent]) -> None:
        """Remember what is announced to go, for when all of it is folded again."""
        self._gone.note(events)
        self.head = events[-1].head

    def learn(self, other: Custom) -> None:
        """Know of the redactions that another one of the same log has met."""
        self._gone.learn(other._gone)

    # The end of it.

    def _stop(
        self, position: int, cause: str, error: BaseException | None = None
    ) -> None:
        self.stopped = Stopped(position=position, cause=cause)
        self._accident = is_accident(error)
        self._state = None
        logger.error(
            "projection %s stopped at position %d: %s",
            self.name,
            position,
            cause,
            exc_info=error,
        )

    def _check(self) -> None:
        if self.stopped is not None:
            message = (
                f"projection {self.name} stopped at position {self.stopped.position}: "
                f"{self.stopped.cause}; correct it and raise its version"
            )
            raise SchemaError(message, position=self.stopped.position)
        if self.tainted:
            message = (
                f"projection {self.name} is folded again, as something was redacted"
            )
            raise UnavailableError(message)


def _nobody(_: StoredEvent) -> Event:
    message = "there is no fold that would take an event"
    raise AssertionError(message)


class CustomProjections:
    """All projections of one's own, of one store.

    `given` says whether there is any, and `tainted` whether one of them is: both are
    looked at with each batch of events.
    """

    def __init__(
        self,
        projections: Iterable[Projection[Any] | Definition],
        wrap: Callable[[StoredEvent], Event],
        start: Head,
    ) -> None:
        """Put them at the beginning of a log.

        Raises:
            InvalidError: one cannot be used, or two have one name.
        """
        all_ = [Custom(each, wrap, start) for each in definitions_of(projections)]
        self._by_type = {type(each.projection): each for each in all_}
        self._wrap = wrap
        self.given = bool(self._by_type)
        self.tainted = False

    @classmethod
    def none(cls, start: Head) -> CustomProjections:
        """Return no projections."""
        return cls((), _nobody, start)

    def __len__(self) -> int:
        return len(self._by_type)

    def __iter__(self) -> Iterator[Custom]:
        return iter(self._by_type.values())

    def get(self, projection: type[Projection[Any]]) -> Custom:
        """Return one.

        Raises:
            InvalidError: the store was opened without it.
        """
        found = self._by_type.get(projection)
        if found is None:
            known = ", ".join(each.__name__ for each in self._by_type) or "none"
            name = getattr(projection, "__name__", repr(projection))
            message = (
                f"the store has no {name}; give an instance to open(projections=[...]), "
                f"and the class to view; it has: {known}"
            )
            raise InvalidError(message, path="projection")
        return found

    @property
    def positions(self) -> list[int]:
        """The positions up to which they have taken events in."""
        return [each.seen.position for each in self]

    def confirm(self) -> None:
        """Hold on to where some have stopped: a replay of the log met it."""
        for each in self:
            each.confirm()

    def apply(self, events: Sequence[StoredEvent]) -> None:
        """Have each fold what follows its own head."""
        for each in self:
            each.apply(events)
            if each.tainted:
                self.tainted = True

    def anew(self, start: Head) -> CustomProjections:
        """Return the same ones at the beginning of a log."""
        definitions = [each.definition for each in self]
        return CustomProjections(definitions, self._wrap, start)

    def again(self, start: Head) -> CustomProjections:
        """Return those that are tainted at the beginning of the same log.

        They fold events without what is known to be announced to go, also where that
        has not been taken out of the log yet.
        """
        tainted = [each for each in self if each.tainted]
        definitions = [each.definition for each in tainted]
        fresh = CustomProjections(definitions, self._wrap, start)
        for each, old in zip(fresh, tainted, strict=True):
            each.learn(old)
        return fresh

    def accept(self, fresh: CustomProjections, head: Head) -> bool:
        """Put those that were folded again in the place of the tainted.

        Where one met another redaction meanwhile, the old one learns of it and stays.
        False where one has not come to `head`: then the log is another one by now.
        """
        if not all(each.seen == head for each in fresh):
            return False
        for each in fresh:
            of = type(each.projection)
            if each.tainted:
                self._by_type[of].learn(each)
            else:
                self._by_type[of] = each
        self.tainted = any(each.tainted for each in self)
        return True
