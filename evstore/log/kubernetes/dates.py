"""The log's clock: the host's, kept within what the API server's dates allow."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from functools import lru_cache

from evstore.clock import boot_microseconds, to_microseconds, wall_microseconds

_SECOND = 1_000_000
_NEVER = -(2**62)


class DatedClock:
    """The host's clock, corrected where the server's answers show it to be wrong.

    A Date header has whole seconds: an answer tells that the server's clock was
    somewhere in that second at some moment between sending and receiving. What all
    answers leave open is narrowed from one to the next; the host's time is taken where
    it lies inside, else the nearest that does. So the error is a second at most, and
    nothing where both machines have the right time. An answer that contradicts the
    earlier ones begins anew: a clock was set.
    """

    def __init__(self) -> None:
        # The server's time minus the boot clock, at least and at most.
        self._least = _NEVER
        self._most = -_NEVER

    def measure(self, theirs: int, sent: int, received: int) -> None:
        """Take in a date, in microseconds, of an answer between two boot times."""
        least, most = theirs - received, theirs + _SECOND - sent
        self._least, self._most = max(self._least, least), min(self._most, most)
        if self._least > self._most:
            self._least, self._most = least, most

    def ahead(self) -> tuple[int, int] | None:
        """Return by how much the server is ahead of the host, at least and at most.

        In microseconds; None before the first answer.
        """
        if self._least == _NEVER:
            return None
        offset = wall_microseconds() - boot_microseconds()
        return self._least - offset, self._most - offset

    def now(self) -> int:
        """Return the time in microseconds since 1970."""
        boot = boot_microseconds()
        offset = wall_microseconds() - boot
        return boot + min(max(offset, self._least), self._most)


@lru_cache(maxsize=1)
def microseconds_of(date: str) -> int:
    """Return what a Date header says; the next one says the same for a second.

    Raises:
        ValueError: it is none.
    """
    return to_microseconds(parsedate_to_datetime(date))
