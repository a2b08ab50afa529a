"""A run on a PostgreSQL of its own."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from evstore.embedded import EmbeddedServer
from evstore.maintenance import migrate_up
from fault.proxy import open_proxy

from .archive import Archive
from .disk import own_disk
from .faults import DatabaseVictims, ProxyWay, faults

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from .disk import Disk
    from .evidence import Violation
    from .ground import Strike, Victims

_SETTINGS: Final = {"max_connections": "60", "max_wal_size": "128MB"}


class DatabaseGround:
    """A server with a disk of its own, where one can be had."""

    patience: Final = 1.0
    stall_seconds_long: Final = 7.0

    def __init__(self, server: EmbeddedServer, disk: Disk | str) -> None:
        self._server = server
        self._disk = disk
        self.config: Final = server.config()
        self.archive: Final = Archive()
        self.not_possible = [f"disk full: {disk}"] if isinstance(disk, str) else []

    @asynccontextmanager
    async def way(self, number: int) -> AsyncGenerator[ProxyWay]:
        del number
        async with open_proxy(self.config) as proxy:
            yield ProxyWay(proxy)

    def faults(self, victims: Victims[ProxyWay]) -> dict[str, Strike]:
        return faults(
            DatabaseVictims(
                **vars(victims),
                server=self._server,
                config=self.config,
                disk=self._disk,
            )
        )

    async def conclude(self) -> list[Violation]:
        await self.archive.read(self.config)
        return []


@asynccontextmanager
async def database_ground(folder: Path) -> AsyncGenerator[DatabaseGround]:
    """Start such a server in an empty folder."""
    with (
        own_disk(folder) as disk,
        EmbeddedServer(folder, settings=_SETTINGS) as server,
    ):
        ground = DatabaseGround(server, disk)
        await migrate_up(ground.config)
        yield ground
