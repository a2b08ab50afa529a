"""The listener: a dedicated connection that hears when somebody has appended.

A notification wakes and tells nothing; whoever waits also has a timeout, so a lost one
costs latency and never an event. Our own process id is passed over: what this instance
appended, it has.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio

from evstore.errors import StoreError

from .connections import connect, cut, translated

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore.config import PostgresConfig

    from .connections import Connection

RETRY_SECONDS: Final = 1.0
QUIET_SECONDS: Final = 30.0


class Listener:
    """Turns notifications into wake-ups."""

    def __init__(self, config: PostgresConfig, is_own: Callable[[int], bool]) -> None:
        self._config = config
        self._is_own = is_own
        self._woken = anyio.Event()
        self._connection: Connection | None = None
        self._closing = False

    async def run(self) -> None:
        """Listen until `close`; reconnect where the connection breaks."""
        while not self._closing:
            with suppress(StoreError):
                await self._listen()
            if not self._closing:
                await anyio.sleep(RETRY_SECONDS)

    def close(self) -> None:
        """End `run`: the socket is shut, which is quicker and quieter than cancelling."""
        self._closing = True
        if self._connection is not None:
            cut(self._connection)

    async def _listen(self) -> None:
        connection = await connect(self._config, purpose="listener")
        self._connection = connection
        try:
            with translated(self._config):
                await connection.execute("LISTEN evstore")
                # What was appended before this moment was not heard: look once.
                self._woken.set()
                while not self._closing:
                    async for notify in connection.notifies(timeout=QUIET_SECONDS):
                        if not self._is_own(notify.pid):
                            self._woken.set()
                    # Nothing for a while: is the other side still there?
                    await connection.execute("SELECT 1")
        finally:
            self._connection = None
            await connection.close()

    async def wait(self, seconds: float) -> None:
        """Return after a notification that came since the last wait, or in `seconds`."""
        with anyio.move_on_after(seconds):
            await self._woken.wait()
        self._woken = anyio.Event()
