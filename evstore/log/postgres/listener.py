"""The listener: a dedicated connection that hears when somebody has appended.

A notification wakes and tells nothing; whoever waits also has a timeout, so a lost one
costs latency and never an event. Our own process id is passed over: what this instance
appended, it has.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from evstore.errors import StoreError

from .connections import connect, translated

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore.config import PostgresConfig

_RETRY_SECONDS = 1.0
_QUIET_SECONDS = 30.0


class Listener:
    """Turns notifications into wake-ups."""

    def __init__(
        self, config: PostgresConfig, is_own: Callable[[int], bool]
    ) -> None:
        self._config = config
        self._is_own = is_own
        self._woken = anyio.Event()

    async def run(self) -> None:
        """Listen for ever; reconnect where the connection breaks."""
        while True:
            with suppress(StoreError):
                await self._listen()
            await anyio.sleep(_RETRY_SECONDS)

    async def _listen(self) -> None:
        connection = await connect(self._config, purpose="listener")
        try:
            with translated(self._config):
                await connection.execute("LISTEN evstore")
                # What was appended before this moment was not heard: look once.
                self._wake()
                while True:
                    async for notify in connection.notifies(timeout=_QUIET_SECONDS):
                        if not self._is_own(notify.pid):
                            self._wake()
                    # Nothing for a while: is the other side still there?
                    await connection.execute("SELECT 1")
        finally:
            await connection.close()

    def _wake(self) -> None:
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        """Return after a notification that came since the last wait, or in `seconds`."""
        with anyio.move_on_after(seconds):
            await self._woken.wait()
        self._woken = anyio.Event()
