"""A run on a Kubernetes API server of its own."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import anyio
from anyio import to_thread

from apiserver import ApiServer, apiserver_binary, prepared
from evstore import maintenance
from evstore.log.kubernetes import compaction
from evstore.maintenance import compacting
from kube.interference import interference

from .archive import Archive
from .assignment import Cluster
from .cluster_faults import (
    CONFIRMED_SECONDS,
    RUNNING_SECONDS,
    YOUNG_SECONDS,
    ClusterVictims,
    InterferenceWay,
    faults,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from .evidence import Violation
    from .ground import Strike, Victims

NAMESPACE: Final = "torture"
KEPT_EVENTS: Final = 20


class ClusterGround:
    """An API server with its etcd, and a namespace for the log."""

    patience: Final = 3.0
    stall_seconds_long: Final = 7.0

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self.config: Final = server.config(NAMESPACE)
        self._compactor: Final = server.config(NAMESPACE, role="compactor")
        self.archive: Final = Archive()
        self.not_possible: list[str] = []

    @asynccontextmanager
    async def way(self, number: int) -> AsyncGenerator[InterferenceWay]:
        """Open a way; the first instance shows the state, the others have less rights."""
        mirror = number == 0
        async with interference(self._server) as opened:
            url = f"https://{self._server.host}:{opened.port}"
            role = "owner" if mirror else "runtime"
            kubeconfig = self._server.kubeconfig(role, server=url)
            place = Cluster(
                namespace=NAMESPACE,
                kubeconfig=str(kubeconfig),
                confirmed_seconds=CONFIRMED_SECONDS,
                mirror=mirror,
            )
            yield InterferenceWay(opened, place)

    def faults(self, victims: Victims[InterferenceWay]) -> dict[str, Strike]:
        return faults(
            ClusterVictims(
                **vars(victims),
                server=self._server,
                compactor=self._compactor,
                archive=self.archive,
            )
        )

    async def conclude(self) -> list[Violation]:
        """Compact once more, when nobody is there any more, and read what is left."""
        await self.archive.read(self.config)
        await anyio.sleep(YOUNG_SECONDS + 1.5)
        since = max(1, len(self.archive.events) - KEPT_EVENTS)
        await maintenance.compact(self._compactor, keep_since=since)
        await self.archive.read(self.config)
        return []


@asynccontextmanager
async def cluster_ground(folder: Path) -> AsyncGenerator[ClusterGround]:
    """Start such a server in an empty folder."""
    server = ApiServer(apiserver_binary(), folder)
    try:
        await to_thread.run_sync(server.start)
        await to_thread.run_sync(prepared, server)
        server.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        with _hasty():
            yield ClusterGround(server)
    finally:
        await to_thread.run_sync(server.stop)


@contextmanager
def _hasty() -> Generator[None]:
    """Let a compaction take for old what is some seconds old."""
    young, running = compaction.YOUNG_SECONDS, compacting.RUNNING
    compaction.YOUNG_SECONDS = YOUNG_SECONDS  # type: ignore[misc]
    compacting.RUNNING = timedelta(seconds=RUNNING_SECONDS)  # type: ignore[misc]
    try:
        yield
    finally:
        compaction.YOUNG_SECONDS = young  # type: ignore[misc]
        compacting.RUNNING = running  # type: ignore[misc]
