"""So many writes a second, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from evstore.clock import boot_microseconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Pace:
    """Writes one after the other, evenly spread: no two are nearer than 1/rate s."""

    def __init__(
        self,
        rate: int,
        *,
        clock: Callable[[], int] = boot_microseconds,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._distance = 1_000_000 // rate
        self._clock = clock
        self._sleep = sleep
        self._free_at: int | None = None

    async def ready(self) -> None:
        """Return when the next write may be sent."""
        while self._free_at is not None:
            left = self._free_at - self._clock()
            if left <= 0:
                return
            await self._sleep(left / 1e6)

    def took(self) -> None:
        """Count a write that is sent now."""
        self._free_at = self._clock() + self._distance
