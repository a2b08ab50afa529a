"""What is gone from events, or announced to go, as far as one fold knows.

A fold that has taken in what a redaction announces to go must not keep it. Here is
decided whether it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from evstore.redaction import announcement_of, covers, marks, redacted_event

if TYPE_CHECKING:
    from collections.abc import Iterable

    import msgspec

    from evstore.model import StoredEvent
    from evstore.redaction import Announcement


class _Announced(NamedTuple):
    """What goes from an event, and the event that announces it."""

    by: StoredEvent
    announced: Announcement


class Gone:
    """The redactions that a fold knows of.

    It knows of some before it meets them: then it folds events as these leave them, and
    also where that has not been done in the log yet.
    """

    def __init__(self) -> None:
        # By position: what was known before the event was folded, and the bodies of
        # which something was gone when they were.
        self._known: dict[int, list[_Announced]] = {}
        self._bodies: dict[int, msgspec.Raw] = {}

    def left_of(self, event: StoredEvent) -> StoredEvent:
        """Return an event that is to be folded, without what is known to go from it."""
        for by, announced in self._known.get(event.position, ()):
            if not covers(event.body, announced.fields):
                event = redacted_event(event, by, announced)
        # One in another shape has a digest, too, and need not have lost anything.
        if event.body_digest is not None and marks(event.body):
            self._bodies[event.position] = event.body
        return event

    def lacks(self, announced: Announcement) -> bool:
        """Whether all that is announced to go was gone when its event was folded."""
        fields = announced.fields
        for _, known in self._known.get(announced.position, ()):
            if {*fields} <= {*known.fields}:
                return True
        body = self._bodies.get(announced.position)
        return body is not None and covers(body, fields)

    def note(self, events: Iterable[StoredEvent]) -> None:
        """Know of what is announced in events, before all of it is folded again."""
        for event in events:
            announced = announcement_of(event)
            if announced is not None:
                known = self._known.setdefault(announced.position, [])
                known.append(_Announced(event, announced))

    def learn(self, other: Gone) -> None:
        """Know of what another fold of the same log knows."""
        for position, announced in other._known.items():
            mine = self._known.setdefault(position, [])
            mine += [each for each in announced if each not in mine]
