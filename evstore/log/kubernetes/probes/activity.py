"""Who runs, who waits for a turn, and who shows the current state: leases tell."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import anyio

from evstore.clock import to_microseconds
from evstore.doctor.kubernetes.facts import Heartbeat, Mirror, Turns
from evstore.log.kubernetes.heartbeats import Heartbeats
from evstore.log.kubernetes.leases import MIRROR, Leases
from evstore.log.kubernetes.snapshots import RUNNING_MICROSECONDS
from evstore.log.kubernetes.turns import STALLED_SECONDS, TURNS, waiting_in

if TYPE_CHECKING:
    from evstore.log.kubernetes.client import Client
    from evstore.log.kubernetes.dates import DatedClock

_SECOND: Final = 1_000_000


class Activity:
    """The leases of one namespace; `labels` are of projections that instances run."""

    def __init__(self, client: Client, clock: DatedClock) -> None:
        self._leases = Leases(client)
        self._clock = clock
        self.labels: frozenset[str] = frozenset()

    async def instances(self) -> tuple[Heartbeat, ...]:
        """Return the last heartbeat of each instance, newest first."""
        found = await Heartbeats(self._leases, self._clock.now).instances()
        now = self._clock.now()
        told = [
            (each, now - to_microseconds(each.seen_at))
            for each in found
            if each.seen_at is not None
        ]
        self.labels = frozenset(
            label
            for each, ago in told
            if ago <= RUNNING_MICROSECONDS
            for label in each.projections
        )
        return tuple(
            Heartbeat(
                instance=str(each.id),
                code_version=each.code_version,
                position=each.position,
                seconds=ago / _SECOND,
            )
            for each, ago in told
        )

    async def turns(self) -> Turns | None:
        """Return who waits for a turn; looks twice where somebody does."""
        lease = await self._leases.get(TURNS)
        if lease is None:
            return None
        waiting = waiting_in(lease)
        if not waiting:
            return Turns(waiting=0, stalled=False)
        await anyio.sleep(STALLED_SECONDS)
        again = await self._leases.get(TURNS)
        now = waiting_in(again) if again is not None else []
        return Turns(waiting=len(now), stalled=now[:1] == waiting[:1])

    async def mirror(self) -> Mirror:
        """Return who shows the current state."""
        lease = await self._leases.get(MIRROR)
        if lease is None or not lease.spec.holder_identity:
            return Mirror(holder="", seconds=None)
        return Mirror(
            holder=lease.spec.holder_identity,
            seconds=self._since(lease.spec.renew_time or ""),
        )

    def _since(self, moment: str) -> float | None:
        try:
            then = to_microseconds(datetime.fromisoformat(moment))
        except ValueError:
            return None
        return (self._clock.now() - then) / _SECOND
