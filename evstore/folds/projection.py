"""Runs the folds: one pass over the log feeds every projection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstore.errors import DivergedError

from .requests import Requests
from .resources import Resources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore.model import Head, StoredEvent

    from .requests import RequestOverlay
    from .resources import Overlay


class Projections:
    """The projections of one log, all at the same place.

    Events are taken in order, each exactly once; whole transactions only, so that what
    a reader sees is never half of one.
    """

    def __init__(self, start: Head) -> None:
        self.head = start
        self.resources = Resources()
        self.requests = Requests()

    @property
    def position(self) -> int:
        """The position up to which events have been taken in."""
        return self.head.position

    @property
    def behind(self) -> int:
        """The position after which events are missing."""
        return self.head.position

    def apply(self, events: Sequence[StoredEvent]) -> None:
        """Take in the events that follow.

        Raises:
            DivergedError: they do not follow: positions have no gaps.
        """
        if events:
            self._check(events)
            self.resources.apply(events)
            self.requests.apply(events)
            self.head = events[-1].head

    def adopt(
        self,
        events: Sequence[StoredEvent],
        resources: Overlay,
        requests: RequestOverlay,
    ) -> None:
        """Take in events that overlays of these projections have folded already."""
        if events:
            self._check(events)
            self.resources.adopt(resources)
            self.requests.adopt(requests, time=events[-1].time)
            self.head = events[-1].head

    def _check(self, events: Sequence[StoredEvent]) -> None:
        expected = self.head.position
        for event in events:
            expected += 1
            if event.position != expected:
                message = f"the log has {event.position} where {expected} should be"
                raise DivergedError(message)
