"""What a run stands on: a log in some store, ways to it, and whom there is to strike."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import anyio

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from evstore.config import Config

    from .archive import Archive
    from .assignment import Cluster, Database
    from .evidence import Violation
    from .instances import Instance

    # Says to whom, and for how long; None where it found nobody to strike.
    Strike = Callable[[], Awaitable[str | None]]

LONG_SECONDS: Final = 60.0
_LONG_STALLS: Final = 0.15


class Way(Protocol):
    """What lies between an instance and the log."""

    @property
    def place(self) -> Database | Cluster:
        """How the instance reaches the log by this way."""

    def forget(self) -> None:
        """Forget what went through so far: a long run makes millions of requests."""


WayT = TypeVar("WayT", bound=Way)


@dataclass
class Victims(Generic[WayT]):
    """All that can be hurt, and the dice."""

    instances: list[Instance[WayT]]
    chance: random.Random
    stall_seconds_max: float

    def an_instance(self) -> Instance[WayT]:
        return self.chance.choice(self.instances)

    def seconds(self, least: float, most: float) -> float:
        return self.chance.uniform(least, most)

    def stall_seconds(self) -> float:
        """Return how long to stall: mostly short, seldom as long as may be."""
        if self.chance.random() < _LONG_STALLS:
            return self.stall_seconds_max
        return self.seconds(0.2, 1.0)


class Ground(Protocol[WayT]):
    """A server of the run's own, with an empty log, in which all of it ends up."""

    config: Config
    archive: Archive
    # How long an append may take, in seconds.
    patience: float
    # Longer than the server's own time-outs.
    stall_seconds_long: float
    not_possible: list[str]

    def way(self, number: int) -> AbstractAsyncContextManager[WayT]:
        """Open the way of one instance."""

    def faults(self, victims: Victims[WayT]) -> dict[str, Strike]:
        """Return what can be done here, by name."""

    async def conclude(self) -> list[Violation]:
        """Read what there is at the end; return what is wrong with it by itself."""


@asynccontextmanager
async def stopped(pid: int, seconds: float) -> AsyncGenerator[None]:
    """Stop a process, and let it go on for certain, whatever becomes of us."""
    async with thawing(pid, seconds):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        yield


@asynccontextmanager
async def thawing(pid: int, seconds: float) -> AsyncGenerator[None]:
    """Let a process that is stopped in the body go on after it, whatever happens."""
    script = f"sleep {seconds + 2}; kill -CONT {pid}"
    guard = await anyio.open_process(
        ["/bin/sh", "-c", script], stdin=DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        with anyio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                os.killpg(guard.pid, signal.SIGKILL)
            await guard.aclose()
