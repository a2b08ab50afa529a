"""Runs the folds: one pass over the log feeds every projection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .requests import Requests
from .resources import Resources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .model import Head, StoredEvent


class Projections:
    """The projections of one log, all at the same place.

    Events are taken in order, each exactly once; whole transactions only, so that what
    a reader sees is never half of one.
    """

    def __init__(self, start: Head) -> None:
        self.head = start
        self.commit = start.position
        self.resources = Resources()
        self.requests = Requests()

    @property
    def position(self) -> int:
        """The position up to which events have been taken in."""
        return self.head.position

    @property
    def between_transactions(self) -> bool:
        """Whether the last event taken in ended its transaction."""
        return self.head.position == self.commit

    def apply(self, events: Sequence[StoredEvent]) -> None:
        """Take in the events that follow."""
        if not events:
            return
        expected = self.head.position
        for event in events:
            expected += 1
            assert event.position == expected, f"{event.position} is not {expected}"
        self.resources.apply(events)
        self.requests.apply(events)
        self.head = events[-1].head
        self.commit = events[-1].commit
