"""Heartbeats: one lease of the cluster for each running instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from evstore.clock import to_datetime, to_microseconds
from evstore.log.shapes import Instance

from .leases import KIND_LABEL, Lease, LeaseMeta, Leases, LeaseSpec, micro_time
from .manifests import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

KIND: Final = "instance"
INSTANCE_ANNOTATION: Final = "evstore.dev/instance"
FORGOTTEN_MICROSECONDS: Final = 24 * 3600 * 1_000_000


class Heartbeats:
    """The instances of a log, by the log's clock."""

    def __init__(self, leases: Leases, clock: Callable[[], int]) -> None:
        self._leases = leases
        self._clock = clock

    async def beat(self, instance: Instance, *, renewal: bool) -> bool:
        """Record a heartbeat; see the log's contract."""
        if not renewal:
            await self._forget()
        name = _name(instance.id)
        while True:
            found = await self._leases.get(name)
            if found is None and renewal:
                return False
            now = self._clock()
            told = msgspec.structs.replace(
                instance,
                knows=instance.knows or SCHEMA_VERSION,
                seen_at=to_datetime(now),
            )
            metadata = LeaseMeta(
                name=name,
                resource_version=found.metadata.resource_version if found else None,
                labels={KIND_LABEL: KIND},
                annotations={INSTANCE_ANNOTATION: msgspec.json.encode(told).decode()},
            )
            spec = LeaseSpec(holder_identity=name, renew_time=micro_time(now))
            lease = Lease(metadata=metadata, spec=spec)
            write = self._leases.create if found is None else self._leases.update
            if await write(lease) is not None:
                return True

    async def _forget(self) -> None:
        """Delete the instances that were not seen for a day."""
        limit = self._clock() - FORGOTTEN_MICROSECONDS
        for lease in await self._leases.of_kind(KIND):
            if _seen(lease) < limit:
                await self._leases.delete(lease)

    async def expire(self, instance: UUID, *, seconds: float) -> float:
        """Forget an instance that was not seen for so long; see the contract."""
        while True:
            found = await self._leases.get(_name(instance))
            if found is None:
                return 0.0
            # Where the clock was set back since, it has just been seen.
            left = seconds - max(0, self._clock() - _seen(found)) / 1e6
            if left > 0:
                return left
            # Not if it was renewed after we have read it: then we look again.
            await self._leases.delete(found)

    async def instances(self) -> list[Instance]:
        """Return the last heartbeat of each instance, newest first."""
        leases = await self._leases.of_kind(KIND)
        found = [each for lease in leases if (each := _instance(lease)) is not None]
        return sorted(found, key=_seen_at, reverse=True)


def _name(instance: UUID) -> str:
    return f"evstore-{instance}"


def _instance(lease: Lease) -> Instance | None:
    text = lease.metadata.annotations.get(INSTANCE_ANNOTATION, "")
    try:
        return msgspec.json.decode(text, type=Instance)
    except msgspec.DecodeError:
        return None  # not one of ours, whatever its label says


def _seen(lease: Lease) -> int:
    instance = _instance(lease)
    return 0 if instance is None else _seen_at(instance)


def _seen_at(instance: Instance) -> int:
    return 0 if instance.seen_at is None else to_microseconds(instance.seen_at)
