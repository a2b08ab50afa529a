"""What lies in the namespace: the log, snapshots, chunks, and whether a watch tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from evstore.clock import to_microseconds
from evstore.doctor.facts import Snapshots, Unknown
from evstore.doctor.kubernetes.facts import Floor, Leftovers, Watch
from evstore.errors import ConfigError
from evstore.log.failures import UnreadableError
from evstore.log.kubernetes import base, objects
from evstore.log.kubernetes.answers import GoneError
from evstore.log.kubernetes.compaction import old_until
from evstore.log.kubernetes.snapshots import stored

from .known import known
from .machine import memory_bytes
from .survey import Survey, survey

if TYPE_CHECKING:
    from evstore.doctor.kubernetes.facts import Log
    from evstore.log.kubernetes.client import Client
    from evstore.log.kubernetes.dates import DatedClock
    from evstore.log.kubernetes.shelf import Shelf
    from evstore.log.kubernetes.snapshots import SnapshotSpec
    from evstore.log.shapes import Snapshot

_SECOND: Final = 1_000_000
_STATE: Final = "resources"
WATCH_SECONDS: Final = 2
WATCH_SECONDS_MAX: Final = 8.0


class _WatchEvent(msgspec.Struct):
    type: str


_decode_event: Final = msgspec.json.Decoder(_WatchEvent).decode


class Contents:
    """The objects of one namespace; `labels` are of projections that instances run.

    `look` comes before `watch`, and finds `snapshots` and `leftovers` besides.
    """

    def __init__(
        self, client: Client, shelf: Shelf, clock: DatedClock, labels: frozenset[str]
    ) -> None:
        self._client = client
        self._shelf = shelf
        self._clock = clock
        self._labels = labels
        self._found: objects.LogObject | None = None
        self._last: str = ""
        self.snapshots: Snapshots | Unknown | None = None
        self.leftovers: Leftovers | Unknown | None = None

    async def look(self) -> Log:
        """Look at the log; and at snapshots and chunks, which may fail for themselves."""
        # Chunks first: whatever comes to refer to one of them is read after that.
        chunks = await known(self._chunks)
        snapshots = await known(lambda: stored(self._client, self._shelf))
        seen = await survey(
            self._shelf,
            await self._shelf.look(),
            now=self._clock.now(),
            wanted=frozenset(
                each.stamp.head.position
                for each, _ in ([] if isinstance(snapshots, Unknown) else snapshots)
            ),
        )
        log = await seen.log(memory_bytes=memory_bytes())
        self._found, self._last = seen.found, seen.last
        if isinstance(snapshots, Unknown):
            self.snapshots = snapshots
            self.leftovers = None if chunks is None else snapshots
            return log
        self.snapshots = self._told(snapshots, seen, log.head)
        if isinstance(chunks, dict):
            self.leftovers = self._unused(chunks, snapshots, seen)
        else:
            self.leftovers = chunks
        return log

    # Snapshots.

    def _told(
        self,
        snapshots: list[tuple[Snapshot, SnapshotSpec]],
        seen: Survey,
        head: int,
    ) -> Snapshots:
        """Tell snapshots that a start could begin from and others apart."""
        own: list[Snapshot] = []
        foreign = compacted = 0
        for each, _ in snapshots:
            stamp = each.stamp
            position = stamp.head.position
            if str(stamp.log) == seen.identity and position < seen.floor:
                compacted += 1
            elif str(stamp.log) != seen.identity or (
                position and seen.hashes.get(position) != stamp.head.hash.hex()
            ):
                foreign += 1
            elif stamp.projection == _STATE:
                own.append(each)
        fitting = [e for e in own if not self._labels or e.stamp.label in self._labels]
        newest = max(fitting, key=_age, default=None)
        since = (
            None
            if newest is None
            else (self._clock.now() - to_microseconds(newest.taken_at)) / _SECOND
        )
        return Snapshots(
            head=head,
            own=len(own),
            foreign=foreign,
            compacted=compacted,
            position=newest.stamp.head.position if newest else None,
            seconds=since,
            begin=seen.floor,
        )

    # Chunks.

    async def _chunks(self) -> dict[str, set[str]] | None:
        """Return the names of old chunks of both kinds; None where we may not look."""
        limit = old_until(self._clock.now())
        try:
            return {
                plural: set(await self._shelf.old(plural, limit))
                for plural in (objects.CHUNKS, objects.SNAPSHOT_CHUNKS)
            }
        except ConfigError:
            return None

    def _unused(
        self,
        names: dict[str, set[str]],
        snapshots: list[tuple[Snapshot, SnapshotSpec]],
        seen: Survey,
    ) -> Leftovers:
        used = {
            name for _, spec in snapshots for pieces in spec.pieces for name in pieces
        }
        if self._found and self._found.spec.floor:
            used |= set(self._found.spec.floor.pieces)
        return Leftovers(
            chunks=len(names[objects.CHUNKS] - seen.chunks),
            snapshot_chunks=len(names[objects.SNAPSHOT_CHUNKS] - used),
        )

    # The floor, and the watch.

    async def floor(self) -> Floor | None:
        """Return where the history begins, and whether the state there can be read."""
        found = await self._shelf.look()
        floor = found.spec.floor if found else None
        if floor is None:
            return None
        problem = ""
        pieces = await self._shelf.chunks(objects.SNAPSHOT_CHUNKS, floor.pieces)
        try:
            base.unpack("".join(each or "" for each in pieces), floor)
        except UnreadableError:
            missing = sum(each is None for each in pieces)
            problem = f"{missing} of {len(pieces)} pieces are missing"
            problem = problem if missing else "it is not what was certified"
        return Floor(
            position=floor.position,
            seconds=(self._clock.now() - floor.time) / _SECOND,
            problem=problem,
        )

    async def watch(self) -> Watch:
        """Open a watch, of the last change if there is one: that is told at once."""
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": "0",
            "timeoutSeconds": str(WATCH_SECONDS),
            "fieldSelector": f"metadata.name={self._last}",
        }
        if not self._last:
            del query["fieldSelector"]
            query["resourceVersion"] = await self._shelf.moment()
        with anyio.move_on_after(WATCH_SECONDS_MAX):
            try:
                async with self._client.stream(
                    self._shelf.path(objects.CHANGES),
                    query=query,
                    silence=WATCH_SECONDS_MAX,
                ) as lines:
                    async for line in lines:
                        if _decode_event(line).type in {"ADDED", "MODIFIED"}:
                            return Watch(event=True, ended=False)
            except GoneError:
                pass  # the server speaks, and has forgotten that moment
            return Watch(event=False, ended=not self._last)
        return Watch(event=False, ended=False)


def _age(snapshot: Snapshot) -> tuple[int, int]:
    return snapshot.stamp.head.position, to_microseconds(snapshot.taken_at)
