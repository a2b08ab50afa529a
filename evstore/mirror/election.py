"""One instance at a time writes the mirror: the holder of a Lease of the cluster.

Not a leadership of the store: that is in the log, and showing the log must not change
it. Nobody compares clocks. Who waits takes a lease over that has not changed for its
whole duration, by the waiting instance's own clock; who holds one stops well before
that. Two who write at once for a moment do no harm: each write names the state of the
object that it was decided on.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from evstore.background import background
from evstore.clock import boot_microseconds, wall_microseconds
from evstore.errors import StoreError
from evstore.log.kubernetes.leases import (
    KIND_LABEL,
    MIRROR,
    Lease,
    LeaseMeta,
    Leases,
    LeaseSpec,
    micro_time,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

KIND: Final = "mirror"
LEASE: Final = MIRROR
TTL_SECONDS: Final = 15
LOOKS_PER_TTL: Final = 7
CERTAIN_SHARE: Final = 2 / 3
RESIGN_SECONDS_MAX: Final = 2.0


class Election:
    """Which instance writes, as one of them sees it."""

    def __init__(self, leases: Leases, *, holder: str, ttl: int = TTL_SECONDS) -> None:
        self._leases = leases
        self._holder = holder
        self._ttl = ttl
        self._look = ttl / LOOKS_PER_TTL
        self._held: Lease | None = None
        self._renewed_at = 0
        self._others: Lease | None = None
        self._others_since = 0

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, and do `work` while it is held; it is given up at the end.

        Raises:
            StoreError: the cluster does not answer, or refuses us; or what `work` raises.
        """
        while not await self._try():  # noqa: ASYNC110 - a lease of the cluster
            await anyio.sleep(self._look * random.uniform(0.8, 1.2))  # noqa: S311
        try:
            with anyio.CancelScope() as tenure:
                async with background() as tasks:
                    tasks.start_soon(self._keep, tenure)
                    await work()
            if tenure.cancelled_caught:
                logger.warning("another instance may mirror now: the lease was lost")
        finally:
            with anyio.move_on_after(RESIGN_SECONDS_MAX, shield=True):
                await self._resign()

    async def _try(self) -> bool:
        """Take the lease if nobody alive has it; return whether we have it now."""
        sent = boot_microseconds()
        found = await self._leases.get(LEASE)
        if found is None:
            metadata = LeaseMeta(name=LEASE, labels={KIND_LABEL: KIND})
            made = await self._leases.create(
                Lease(metadata=metadata, spec=self._spec())
            )
            return self._took(made, sent)
        holder = found.spec.holder_identity
        if holder and holder != self._holder and self._lives(found, sent):
            return False
        return self._took(await self._leases.update(self._renewed(found)), sent)

    def _lives(self, found: Lease, now: int) -> bool:
        """Whether a lease of another has changed within its duration, as we saw it."""
        others = self._others
        changed = others is None or (
            others.metadata.resource_version != found.metadata.resource_version
        )
        if changed:
            self._others, self._others_since = found, now
        ttl = found.spec.lease_duration_seconds or self._ttl
        return now - self._others_since <= ttl * 1e6

    def _took(self, held: Lease | None, sent: int) -> bool:
        self._held = held
        if held is None:
            return False
        self._renewed_at, self._others = sent, None
        return True

    async def _keep(self, tenure: anyio.CancelScope) -> None:
        """Renew the lease until it is lost, and end the tenure then, in good time."""
        while self._held is not None:
            await anyio.sleep(self._look)
            passed = (boot_microseconds() - self._renewed_at) / 1e6
            left = self._ttl * CERTAIN_SHARE - passed
            if left <= 0:
                break
            with anyio.move_on_after(left):
                await self._renew()
        tenure.cancel()

    async def _renew(self) -> None:
        assert self._held is not None
        sent = boot_microseconds()
        try:
            held = await self._leases.update(self._renewed(self._held))
            if held is None:
                # Changed: perhaps by a renewal of our own whose answer was lost.
                found = await self._ours()
                if found is not None:
                    held = await self._leases.update(self._renewed(found))
        except StoreError as error:
            logger.debug("the lease of the mirror was not renewed: %s", error)
            return
        self._took(held, sent)

    async def _ours(self) -> Lease | None:
        """Return the lease as the cluster has it; None where it is not ours."""
        found = await self._leases.get(LEASE)
        ours = found is not None and found.spec.holder_identity == self._holder
        return found if ours else None

    async def _resign(self) -> None:
        """Let another have the lease at once; who cannot is waited for."""
        self._held = None
        try:
            # A renewal may have been under way: what we know of the lease is too old.
            while (found := await self._ours()) is not None:
                free = LeaseSpec(holder_identity="")
                if await self._leases.update(msgspec.structs.replace(found, spec=free)):
                    return
        except StoreError as error:
            logger.debug("the lease of the mirror was not given up: %s", error)

    def _renewed(self, lease: Lease) -> Lease:
        return msgspec.structs.replace(lease, spec=self._spec())

    def _spec(self) -> LeaseSpec:
        return LeaseSpec(
            holder_identity=self._holder,
            lease_duration_seconds=self._ttl,
            renew_time=micro_time(wall_microseconds()),
        )
