"""The listener: a dedicated connection that hears when somebody has appended.

A notification wakes and tells nothing; whoever waits also has a timeout, so a lost one
costs latency and never an event. Our own process id is passed over: what this instance
appended, it has.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio

from evstore.clock import boot_microseconds
from evstore.errors import StoreError

from .connections import connect, translated
from .statements import Prepared, prepared
from .wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore.config import PostgresConfig

logger = logging.getLogger(__name__)

_LISTEN: Final = prepared("listen", b"LISTEN evstore")
_ALIVE: Final = prepared("alive", b"SELECT 1")
RETRY_SECONDS: Final = 1.0
# Writers notify at most so often: those who were woken look again after it.
NOTIFY_PAUSE_SECONDS: Final = 0.004
_AGAIN_MICROSECONDS: Final = int(2 * NOTIFY_PAUSE_SECONDS * 1e6)
QUIET_SECONDS: Final = 30.0


class Listener:
    """Turns notifications into wake-ups.

    `pooled` says that a pooler is in between, through which nothing can be heard.
    """

    def __init__(self, config: PostgresConfig, is_own: Callable[[int], bool]) -> None:
        self._config = config
        self._seconds = config.connection_timeout
        self._is_own = is_own
        self._woken = anyio.Event()
        self._again_at = 0
        self._wire: Wire | None = None
        self._listening = False
        self._closing = False
        self.pooled = False

    @property
    def connected(self) -> bool:
        """Whether notifications are heard now."""
        return self._listening

    async def run(self) -> None:
        """Listen until `close`; reconnect where the connection breaks."""
        while not self._closing:
            with suppress(StoreError):
                await self._listen()
            if not self._closing:
                await anyio.sleep(QUIET_SECONDS if self.pooled else RETRY_SECONDS)

    def close(self) -> None:
        """End `run`: the socket is shut, which is quicker and quieter than cancelling."""
        self._closing = True
        if self._wire is not None:
            self._wire.cut()

    async def _listen(self) -> None:
        connection = await connect(self._config, purpose="listener")
        if connection.pooled:
            # LISTEN is of a session, and the session is lent for a transaction.
            await connection.close()
            if not self.pooled:
                logger.info("there is a pooler in between: the log is polled")
            self.pooled = True
            return
        self.pooled = False
        wire = self._wire = Wire(connection, notified=self._heard)
        try:
            with translated(self._config):
                await wire.prepare((_LISTEN, _ALIVE), seconds=self._seconds)
                await self._run(wire, _LISTEN)
                # What was appended before this moment was not heard: look once.
                self._listening = True
                self._woken.set()
                while not self._closing:
                    with anyio.move_on_after(QUIET_SECONDS):
                        await wire.lost()
                    # Nothing for a while: is the other side still there?
                    await self._run(wire, _ALIVE)
        finally:
            # Deaf from now on: whoever waits must look by himself, and more often.
            self._listening = False
            self._woken.set()
            self._wire = None
            await wire.aclose()

    async def _run(self, wire: Wire, statement: Prepared) -> None:
        trip = await wire.run((statement, {}), seconds=self._seconds)
        if trip.error is not None:
            raise trip.error

    def _heard(self, process: int) -> None:
        if not self._is_own(process):
            self._woken.set()

    async def wait(self, seconds: float) -> None:
        """Return after a notification that came since the last wait, or in `seconds`.

        A writer does not notify again for `NOTIFY_PAUSE_SECONDS`: the wait after one that
        heard something ends soon after that.
        """
        again_in = (self._again_at - boot_microseconds()) / 1e6
        if self._again_at:
            seconds = min(seconds, max(0.0, again_in))
        with anyio.move_on_after(seconds):
            await self._woken.wait()
        heard = self._woken.is_set()
        self._again_at = boot_microseconds() + _AGAIN_MICROSECONDS if heard else 0
        self._woken = anyio.Event()
