"""Runs the folds: one pass over the log feeds every projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evstore.errors import DivergedError
from evstore.log import label_of

from .custom import CustomProjections
from .projection import BUILT_IN
from .requests import Requests
from .resources import Resources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore.model import Head, StoredEvent

    from .requests import RequestOverlay
    from .resources import Overlay

# Raised with each change of what the built-in folds make of the same events, and of how
# that is stored.
RESOURCES_VERSION: Final = 1


class Projections:
    """The projections of one log: the built-in one, and those of one's own.

    Events are taken in order, each exactly once; whole transactions only, so that what
    a reader sees is never half of one. `head` is where the built-in folds stand; the
    others stand there, too, but for those that have stopped, and while a start brings
    all of them to one place.
    """

    def __init__(self, start: Head, custom: CustomProjections | None = None) -> None:
        self.head = start
        self.resources = Resources()
        self.requests = Requests()
        self.custom = CustomProjections.none(start) if custom is None else custom

    @property
    def position(self) -> int:
        """The position up to which the built-in folds have taken in events."""
        return self.head.position

    @property
    def behind(self) -> int:
        """The lowest position up to which a fold has taken events in."""
        return min([self.head.position, *self.custom.positions])

    def labels(self, fingerprint: str) -> tuple[str, ...]:
        """Return the labels of all projections (`Stamp.label`), the built-in first."""
        return (
            label_of(BUILT_IN, RESOURCES_VERSION, fingerprint),
            *(label_of(each.name, each.version, fingerprint) for each in self.custom),
        )

    def apply(self, events: Sequence[StoredEvent]) -> None:
        """Take in events; each fold passes over those that it has had already.

        Raises:
            DivergedError: they do not follow: positions have no gaps.
        """
        if events:
            new = events
            if self._check(events) <= self.head.position:
                new = events[self.head.position + 1 - events[0].position :]
            if new:
                self.resources.apply(new)
                self.requests.apply(new)
                self.head = new[-1].head
            if self.custom.given:
                self.custom.apply(events)

    def adopt(
        self,
        events: Sequence[StoredEvent],
        resources: Overlay,
        requests: RequestOverlay,
    ) -> None:
        """Take in events that overlays of these projections have folded already."""
        if events:
            first = self._check(events)
            assert first > self.head.position, "overlays lie on the state as it is"
            self.resources.adopt(resources)
            self.requests.adopt(requests, time=events[-1].time)
            self.head = events[-1].head
            if self.custom.given:
                self.custom.apply(events)

    def _check(self, events: Sequence[StoredEvent]) -> int:
        """Check that events have no gap, nor before them; return the first position."""
        first = events[0].position
        expected = self.head.position + 1
        if first < expected and self.custom.given:
            expected = min(self.behind + 1, first)
        for event in events:
            if event.position != expected:
                message = f"the log has {event.position} where {expected} should be"
                raise DivergedError(message)
            expected += 1
        return first
