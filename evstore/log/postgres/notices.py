"""When a writer notifies: at once after a pause, and then not for some milliseconds.

A notification costs as much as a small append, most of it where it is heard, and who was
woken looks again a little later anyway. They are only manners: a lost one costs latency.
"""

from __future__ import annotations

from typing import Final

from evstore.clock import boot_microseconds

from .listener import NOTIFY_PAUSE_SECONDS

MUTED_MICROSECONDS: Final = 60_000_000
_PAUSE_MICROSECONDS: Final = int(NOTIFY_PAUSE_SECONDS * 1e6)


class Notices:
    """Whether the next append notifies."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._notified_at = -_PAUSE_MICROSECONDS
        self._muted_until = 0

    def due(self) -> bool:
        """Whether the append that is about to be sent notifies; counts it if so."""
        now = boot_microseconds()
        if not self._enabled or now < self._muted_until:
            return False
        if now - self._notified_at < _PAUSE_MICROSECONDS:
            return False
        self._notified_at = now
        return True

    def owed(self) -> bool:
        """Whether an append that landed just now was too slow for those who were woken."""
        return (
            self._enabled
            and boot_microseconds() >= self._muted_until
            and boot_microseconds() - self._notified_at >= _PAUSE_MICROSECONDS
        )

    def undone(self) -> None:
        """The append that notified did not come about."""
        self._notified_at = -_PAUSE_MICROSECONDS

    def mute(self) -> bool:
        """Notify nobody for a minute; return whether that is new.

        The queue of notifications may be full, because somebody else does not listen.
        """
        now = boot_microseconds()
        before, self._muted_until = self._muted_until, now + MUTED_MICROSECONDS
        return before <= now
