"""A fair queue over all instances, kept in one lease: manners, and never safety.

An annotation of the lease lists who waits, first come, first served; the first has the
turn. Each change of the list is made to the list as it was read. Who stands first for
too long without any change is left out by those who wait: it may be gone. What it then
still appends is refused or not by the position alone, as ever.

Who appends without a turn looks now and then whether somebody waits for one, and takes
its place in the queue then: else the others, who come by a longer way, might never be
first.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import anyio
import msgspec

from evstore.clock import boot_microseconds
from evstore.errors import StoreError, UnavailableError

from .leases import KIND_LABEL, Lease, LeaseMeta, Leases

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

TURNS: Final = "evstore-turns"
QUEUE_ANNOTATION: Final = "evstore.dev/queue"
KIND: Final = "queue"
STALLED_SECONDS: Final = 2.0
_PAUSE_SECONDS_MIN: Final = 0.002
_PAUSE_SECONDS_MAX: Final = 0.05


class Queue:
    """The queue that a lease keeps, as one instance sees it."""

    def __init__(self, leases: Leases, name: str, *, seconds: float) -> None:
        self._leases = leases
        self._name = name
        self._seconds = seconds
        self._own = anyio.Lock()
        # Who stands first, and since when, as far as we have seen. Kept from one turn to
        # the next: we may not wait as long for a turn as who stalls is waited for.
        self._first = ""
        self._since = 0

    async def look(self) -> bool:
        """Return whether somebody waits for a turn, and has not stalled.

        Where the cluster does not tell, nobody is waited for.
        """
        try:
            found = await self._leases.get(self._name)
        except StoreError:
            return False
        waiting = [] if found is None else waiting_in(found)
        self._note(waiting)
        return bool(waiting) and not self._is_stalled()

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait for the turn, and have it until the body ends.

        Raises:
            UnavailableError: it did not come in time, or the cluster does not answer.
        """
        ticket = uuid4().hex
        async with self._own:
            try:
                await self._await_in_time(ticket)
                yield
            finally:
                with anyio.move_on_after(self._seconds, shield=True):
                    await self._leave(ticket)

    async def _await_in_time(self, ticket: str) -> None:
        try:
            with anyio.fail_after(self._seconds):
                await self._await_turn(ticket)
        except TimeoutError:
            message = f"the turn did not come in {self._seconds:g} s"
            raise UnavailableError(message) from None

    async def _await_turn(self, ticket: str) -> None:
        pause = _PAUSE_SECONDS_MIN
        while True:
            lease = await self._lease()
            waiting = waiting_in(lease)
            if ticket not in waiting:
                waiting.append(ticket)
                if not await self._write(lease, waiting):
                    continue
            if waiting[0] == ticket:
                return
            if self._note(waiting):
                pause = _PAUSE_SECONDS_MIN
            elif self._is_stalled():
                await self._write(lease, waiting[1:])
                continue
            await anyio.sleep(pause)
            pause = min(pause * 2, _PAUSE_SECONDS_MAX)

    def _note(self, waiting: list[str]) -> bool:
        """Note who stands first; return whether that is news."""
        first = waiting[0] if waiting else ""
        if first == self._first:
            return False
        self._first, self._since = first, boot_microseconds()
        return True

    def _is_stalled(self) -> bool:
        return boot_microseconds() - self._since > STALLED_SECONDS * 1e6

    async def _leave(self, ticket: str) -> None:
        """Let the next one have the turn; who cannot is left out after a while."""
        try:
            while True:
                lease = await self._lease()
                waiting = waiting_in(lease)
                if ticket not in waiting:
                    return
                waiting.remove(ticket)
                if await self._write(lease, waiting):
                    return
        except StoreError:
            return

    async def _lease(self) -> Lease:
        while True:
            found = await self._leases.get(self._name)
            if found is not None:
                return found
            metadata = LeaseMeta(name=self._name, labels={KIND_LABEL: KIND})
            made = await self._leases.create(Lease(metadata=metadata))
            if made is not None:
                return made

    async def _write(self, lease: Lease, waiting: list[str]) -> bool:
        metadata = msgspec.structs.replace(
            lease.metadata,
            annotations={
                **lease.metadata.annotations,
                QUEUE_ANNOTATION: " ".join(waiting),
            },
        )
        lease.spec.holder_identity = waiting[0] if waiting else None
        changed = Lease(metadata=metadata, spec=lease.spec)
        return await self._leases.update(changed) is not None


def waiting_in(lease: Lease) -> list[str]:
    """Return who waits, first come, first served: the first has the turn."""
    return lease.metadata.annotations.get(QUEUE_ANNOTATION, "").split()
