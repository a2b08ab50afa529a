"""Heartbeats in leases, where the clock is set back."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from uuid import uuid4

from evstore.log import Instance
from evstore.log.kubernetes.heartbeats import Heartbeats

if TYPE_CHECKING:
    from evstore.log.kubernetes.leases import Lease, Leases


class Held:
    """Leases in memory."""

    def __init__(self) -> None:
        self.by_name: dict[str, Lease] = {}

    async def get(self, name: str) -> Lease | None:
        return self.by_name.get(name)

    async def of_kind(self, kind: str) -> list[Lease]:
        del kind
        return list(self.by_name.values())

    async def create(self, lease: Lease) -> Lease:
        self.by_name[lease.metadata.name] = lease
        return lease

    async def delete(self, lease: Lease) -> bool:
        return self.by_name.pop(lease.metadata.name, None) is not None


async def test_who_ends_is_forgotten_though_the_clock_was_set_back() -> None:
    now = [1_700_000_000_000_000]
    heartbeats = Heartbeats(cast("Leases", Held()), lambda: now[0])
    mine = Instance(id=uuid4(), position=1, digest=bytes(32), code_version="1")
    await heartbeats.beat(mine, renewal=False)
    now[0] -= 10_000_000
    assert await heartbeats.expire(mine.id, seconds=30) == 30
    assert len(await heartbeats.instances()) == 1
    assert await heartbeats.expire(mine.id, seconds=0) == 0
    assert await heartbeats.instances() == []
