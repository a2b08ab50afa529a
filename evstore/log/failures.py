"""The ways in which an append can end, and others that never leave the store."""

from __future__ import annotations

from evstore.errors import DivergedError


class ForeignLogError(DivergedError):
    """Another log is behind the address now; what was appended to the own is unknown."""


class AppendError(Exception):
    """The base of the ways in which an append can fail; never leaves the store."""


class HeadMovedError(AppendError):
    """Nothing was applied: the place is taken, or the event before it is not there."""


class BusyError(AppendError):
    """Nothing was applied: another instance waits for its turn; take one as well."""


class StampError(AppendError):
    """Nothing was applied: the times lie ahead of the log's clock; stamp again."""


class RejectedError(AppendError):
    """Nothing was applied: the log can never keep one of these events."""


class InDoubtError(AppendError):
    """No answer came: the events may be in the log, now or in a moment."""


class UnreadableError(Exception):
    """What is stored at a position is no event; never leaves the store."""

    def __init__(self, position: int) -> None:
        super().__init__(f"what is stored at {position} is no event")
        self.position = position
