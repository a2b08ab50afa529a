"""Snapshots: chunk objects first, and last the object that makes them visible."""

from __future__ import annotations

import base64
import binascii
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

import anyio
import msgspec

from evstore.clock import boot_microseconds, to_datetime, to_microseconds
from evstore.errors import DivergedError, StoreError
from evstore.log.contract import SNAPSHOTS_KEPT
from evstore.log.shapes import Snapshot, Stamp
from evstore.model import Operation

from . import objects
from .leases import KIND_LABEL, Lease, LeaseMeta, Leases, LeaseSpec, micro_time
from .listing import pages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence

    from .client import Client
    from .feed import Feed
    from .heartbeats import Heartbeats
    from .shelf import Shelf

PIECE_BYTES: Final = objects.CHUNK_CHARACTERS // 4 * 3
SAVING: Final = "evstore-saving"
KIND: Final = "saving"
STALE_MICROSECONDS: Final = 60_000_000
RENEWED_MICROSECONDS: Final = 10_000_000
YOUNG_MICROSECONDS: Final = 24 * 3600 * 1_000_000
RUNNING_MICROSECONDS: Final = 60_000_000
# What it has stored longer ago might be taken for left over.
SAVING_SECONDS_MAX: Final = 1800


class SnapshotSpec(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A snapshot as its object has it: `pieces` names the chunk objects of each chunk."""

    snapshot: str
    projection: str = ""
    position: int = 0
    bytes: int = 0
    pieces: list[list[str]] = []


class _SnapshotObject(msgspec.Struct, kw_only=True):
    metadata: objects.Metadata
    spec: SnapshotSpec


_decode_list: Final = msgspec.json.Decoder(objects.Page[_SnapshotObject]).decode
_decode_snapshot: Final = msgspec.json.Decoder(Snapshot).decode


async def stored(client: Client, shelf: Shelf) -> list[tuple[Snapshot, SnapshotSpec]]:
    """Return the snapshots that are visible, with the names of their chunks."""
    found: list[tuple[Snapshot, SnapshotSpec]] = []
    async for spec in _specs(client, shelf):
        try:
            found.append((_decode_snapshot(spec.snapshot), spec))
        except msgspec.DecodeError:
            continue  # not one of ours
    return found


async def _specs(client: Client, shelf: Shelf) -> AsyncGenerator[SnapshotSpec]:
    path = shelf.path(objects.SNAPSHOTS)
    async for page in pages(client, path, _decode_list):
        for each in page:
            yield each.spec


class Snapshots:
    """The snapshots of one namespace."""

    def __init__(
        self,
        client: Client,
        shelf: Shelf,
        feed: Feed,
        leases: Leases,
        heartbeats: Heartbeats,
        clock: Callable[[], int],
    ) -> None:
        self._client = client
        self._shelf = shelf
        self._feed = feed
        self._leases = leases
        self._heartbeats = heartbeats
        self._clock = clock

    async def all(self) -> list[Snapshot]:
        """Return all snapshots, the one of the highest position first."""
        found = [snapshot for snapshot, _ in await stored(self._client, self._shelf)]
        return sorted(
            found, key=lambda each: (each.stamp.head.position, each.taken_at)
        )[::-1]

    async def pieces(self) -> set[str]:
        """Return the names of all chunk objects that a snapshot refers to."""
        return {
            name
            async for spec in _specs(self._client, self._shelf)
            for names in spec.pieces
            for name in names
        }

    async def load(self, snapshot: Snapshot) -> AsyncGenerator[bytes]:
        """Yield the chunks that are there, in order, unchecked."""
        for each, spec in await stored(self._client, self._shelf):
            if each.id == snapshot.id:
                for pieces in spec.pieces:
                    found = await self._shelf.chunks(objects.SNAPSHOT_CHUNKS, pieces)
                    if None in found:
                        return  # it is being dropped
                    try:
                        chunk = b"".join(base64.b64decode(text or "") for text in found)
                    except binascii.Error:
                        return  # damaged: what is missing tells
                    yield chunk
                return

    async def save(
        self, stamp: Stamp, chunks: AsyncIterable[bytes], *, code_version: str
    ) -> Snapshot | None:
        """Keep a snapshot; see the log's contract."""
        async with self._saving() as renew:
            if renew is None:
                return None
            began = boot_microseconds()
            snapshot = await self._write(stamp, chunks, renew, code_version)
            if snapshot is None:
                return None
            # What was announced while it appeared counts as if it had been before.
            if not await self._may_keep(stamp) or _is_overdue(began):
                await self.drop([snapshot.id])
                return None
            await self._prune(snapshot)
            return snapshot

    async def _write(
        self,
        stamp: Stamp,
        chunks: AsyncIterable[bytes],
        renew: _Renew,
        code_version: str,
    ) -> Snapshot | None:
        """Store the chunks, and then make them visible if the log is still as it was."""
        names: list[list[str]] = []
        visible = False
        began = boot_microseconds()
        try:
            digest, size = sha256(), 0
            async for chunk in chunks:
                names.append(await self._store(chunk))
                digest.update(chunk)
                size += len(chunk)
                await renew()
            may_keep = renew.held and await self._may_keep(stamp)
            if not may_keep or _is_overdue(began):
                return None
            snapshot = Snapshot(
                id=uuid4(),
                stamp=stamp,
                chunks=len(names),
                size=size,
                checksum=digest.digest(),
                taken_at=to_datetime(self._clock()),
                code_version=code_version,
            )
            visible = True  # for all that we know, from here on
            await self._publish(snapshot, names)
            return snapshot
        finally:
            if not visible:
                await self._clear(names)

    async def _store(self, chunk: bytes) -> list[str]:
        pieces = [
            base64.b64encode(chunk[start : start + PIECE_BYTES]).decode()
            for start in range(0, len(chunk), PIECE_BYTES)
        ]
        names = objects.piece_names(len(pieces))
        await self._shelf.store_chunks(objects.SNAPSHOT_CHUNKS, names, pieces)
        return names

    async def _publish(self, snapshot: Snapshot, names: list[list[str]]) -> None:
        spec = SnapshotSpec(
            snapshot=msgspec.json.encode(snapshot).decode(),
            projection=snapshot.stamp.label,
            position=snapshot.stamp.head.position,
            bytes=snapshot.size,
            pieces=names,
        )
        body = objects.document(objects.SNAPSHOTS, str(snapshot.id), spec)
        path = self._shelf.path(objects.SNAPSHOTS)
        answer = await self._client.request("POST", path, body=body)
        if not answer.ok:
            raise self._client.refusal(answer)

    async def _may_keep(self, stamp: Stamp) -> bool:
        """Whether the log has the place, and has redacted nothing after it."""
        if stamp.log != self._feed.copy.identity:
            return False
        try:
            await self._feed.refresh()
        except DivergedError:
            return False
        ledger = self._feed.ledger
        if stamp.head.position < ledger.floor.position:
            return False  # nothing leads on from there any more
        if ledger.place(stamp.head.position) != stamp.head:
            return False
        since = ledger.since(stamp.head.position)
        return not any(event.operation is Operation.REDACTED for event in since)

    async def _clear(self, names: list[list[str]]) -> None:
        """Delete chunks that no snapshot names; what is left over is garbage."""
        with anyio.move_on_after(10, shield=True):
            for name in (each for pieces in names for each in pieces):
                try:
                    await self._shelf.remove(objects.SNAPSHOT_CHUNKS, name)
                except StoreError:
                    return

    async def _prune(self, new: Snapshot) -> None:
        """Keep the last two of the label, and of others what somebody may want.

        The new one stays whatever the clock says.
        """
        stamp = new.stamp
        there = [each for each, _ in await stored(self._client, self._shelf)]
        alike = [each for each in there if each.stamp.label == stamp.label]
        alike.sort(key=lambda each: (each.id == new.id, each.taken_at))
        limit = self._clock() - YOUNG_MICROSECONDS
        since = to_datetime(self._clock() - RUNNING_MICROSECONDS)
        used = {
            label
            for instance in await self._heartbeats.instances()
            if instance.seen_at is not None and instance.seen_at > since
            for label in instance.projections
        }
        others = [
            each
            for each in there
            if each.stamp.projection == stamp.projection
            and each.stamp.label != stamp.label
            and each.stamp.label not in used
            and to_microseconds(each.taken_at) < limit
        ]
        superfluous = [*alike[:-SNAPSHOTS_KEPT], *others]
        if superfluous:
            await self.drop([each.id for each in superfluous])

    async def drop(
        self, snapshots: Sequence[UUID] | None = None, *, since: int = 0
    ) -> int:
        """Drop these snapshots, or all, of positions from `since` on; return how many."""
        dropped = 0
        for each, spec in await stored(self._client, self._shelf):
            chosen = snapshots is None or each.id in snapshots
            if chosen and each.stamp.head.position >= since:
                dropped += await self._shelf.remove(objects.SNAPSHOTS, str(each.id))
                await self._clear(spec.pieces)
        return dropped

    @asynccontextmanager
    async def _saving(self) -> AsyncGenerator[_Renew | None]:
        """Be the only one that saves; None where another instance does."""
        renew = _Renew(self._leases, self._clock)
        if not await renew.begin():
            yield None
            return
        try:
            yield renew
        finally:
            with anyio.move_on_after(10, shield=True):
                await renew.end()


class _Renew:
    """The lease of whoever saves: renewed while chunks come, else somebody takes it."""

    def __init__(self, leases: Leases, clock: Callable[[], int]) -> None:
        self._leases = leases
        self._clock = clock
        self._holder = uuid4().hex
        self._lease: Lease | None = None
        self._renewed = 0

    @property
    def held(self) -> bool:
        """Whether nobody else has taken the lease."""
        return self._lease is not None

    async def begin(self) -> bool:
        """Take the lease, if it is free or nobody has renewed it; say whether."""
        found = await self._leases.get(SAVING)
        if found is None:
            metadata = LeaseMeta(name=SAVING, labels={KIND_LABEL: KIND})
            lease = Lease(metadata=metadata, spec=self._spec())
            self._lease = await self._leases.create(lease)
            return self._lease is not None
        limit = micro_time(self._clock() - STALE_MICROSECONDS)
        if found.spec.holder_identity and (found.spec.renew_time or "") > limit:
            return False
        found.spec = self._spec()
        self._lease = await self._leases.update(found)
        return self._lease is not None

    async def __call__(self) -> None:
        """Renew, if that was some time ago."""
        if self._lease and self._clock() - self._renewed > RENEWED_MICROSECONDS:
            self._lease.spec = self._spec()
            self._lease = await self._leases.update(self._lease)

    async def end(self) -> None:
        """Let others save; one that took the lease meanwhile keeps it."""
        if self._lease is not None:
            self._lease.spec = LeaseSpec()
            try:
                await self._leases.update(self._lease)
            except StoreError:
                return

    def _spec(self) -> LeaseSpec:
        self._renewed = self._clock()
        return LeaseSpec(
            holder_identity=self._holder, renew_time=micro_time(self._renewed)
        )


def _is_overdue(began: int) -> bool:
    """Whether a snapshot was begun so long ago that pieces of it may be gone."""
    return boot_microseconds() - began > SAVING_SECONDS_MAX * 1e6
