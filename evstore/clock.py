"""The only reader of the host's clock.

Times inside evstore are integers: microseconds since 1970 in UTC. `boot_microseconds`
counts on while the machine is suspended, so an offset to another clock that was
measured before a suspension is still right after it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
QUICK_MICROSECONDS = 20_000
STALE_MICROSECONDS = 30_000_000
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def wall_microseconds() -> int:
    """Return the host's idea of the time."""
    return time.time_ns() // 1000


def boot_microseconds() -> int:
    """Return a clock that never steps and counts suspension; its zero means nothing."""
    return time.clock_gettime_ns(_BOOT_CLOCK) // 1000


def to_datetime(microseconds: int) -> datetime:
    """Return the aware datetime, in UTC, of a time in microseconds."""
    return _EPOCH + timedelta(microseconds=microseconds)


def to_microseconds(moment: datetime) -> int:
    """Return the microseconds since 1970 of an aware datetime.

    Raises:
        ValueError: `moment` has no time zone.
    """
    if moment.tzinfo is None:
        message = f"{moment.isoformat()} has no time zone"
        raise ValueError(message)
    return (moment - _EPOCH) // _MICROSECOND


class OffsetClock:
    """Another machine's clock, as this host knows it.

    Each exchange with that machine tells its time at some moment between sending and
    receiving; the middle is taken, so the error is at most half the round trip. Slow
    exchanges count only where there has been no quick one for a while: they may have
    waited for a disk or a replica after the time was told.
    """

    def __init__(self) -> None:
        self._offset: int | None = None
        self._measured_at = 0

    @property
    def known(self) -> bool:
        """Whether the other clock has been measured at all."""
        return self._offset is not None

    def measure(self, theirs: int, *, sent: int, received: int) -> None:
        """Take in their time, told between `sent` and `received` of the boot clock."""
        quick = received - sent <= QUICK_MICROSECONDS
        stale = received - self._measured_at > STALE_MICROSECONDS
        if quick or stale or self._offset is None:
            self._offset = theirs - (sent + received) // 2
            self._measured_at = received

    def now(self) -> int:
        """Return the other machine's time in microseconds since 1970."""
        assert self._offset is not None, "the clock has not been measured"
        return boot_microseconds() + self._offset
