"""Reading and writing the objects of the log, one request or a few at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

import anyio
import msgspec

from evstore.errors import StoreError, UnavailableError
from evstore.log.failures import (
    AppendError,
    HeadMovedError,
    RejectedError,
    UnreadableError,
)

from . import objects
from .answers import (
    CONFLICT,
    NOT_FOUND,
    TOO_LARGE,
    UNPROCESSABLE,
    Answer,
    GoneError,
    LostError,
)
from .listing import pages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from datetime import datetime

    from evstore.model import StoredEvent

    from .client import Client

CHUNKS_AT_ONCE: Final = 4
# Only name, uid and version of an object come, or all of it where that is not known.
_ONLY: Final = "application/json;as={};g=meta.k8s.io;v=v1,application/json"
BARE: Final = _ONLY.format("PartialObjectMetadata")
BARE_LIST: Final = _ONLY.format("PartialObjectMetadataList")
_REFUSED: Final = (TOO_LARGE, UNPROCESSABLE, 400)
_ALREADY_EXISTS: Final = "AlreadyExists"


class Shelf:
    """The objects of one namespace."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def path(self, plural: str, name: str = "") -> str:
        """Return the path of a kind of object, or of one."""
        path = objects.collection(self._client.namespace, plural)
        return f"{path}/{name}" if name else path

    # Identity.

    async def look(self) -> objects.LogObject | None:
        """Return the object of the log, as a quorum has it; None where there is none."""
        answer = await self._client.request(
            "GET", self.path(objects.LOGS, objects.IDENTITY)
        )
        if answer.lacks(objects.IDENTITY):
            return None
        return self._client.content(answer, objects.decode_log)

    async def identity(self) -> UUID:
        """Return the identity that the log has; give it one where it has none.

        That of the first change counts more than that of the object: an empty log that
        is restored takes over the other identity with its first change. In a log that
        was compacted the object's counts.
        """
        found = await self.log()
        first = None if found.floor else await self.change(1)
        return UUID(first.spec.log if first is not None else found.spec.identity)

    async def log(self) -> objects.LogObject:
        """Return the object of the log, as a quorum has it; create it if there is none."""
        while (found := await self.look()) is None:
            await self._create_identity()
        return found

    async def put_log(
        self, found: objects.LogObject, spec: objects.LogSpec, **annotations: str
    ) -> bool:
        """Replace the object of the log; False where it is not as it was found.

        Raises:
            ConfigError: we may not.
        """
        body = objects.document(
            objects.LOGS,
            objects.IDENTITY,
            spec,
            resourceVersion=found.metadata.resource_version,
            annotations=annotations,
        )
        path = self.path(objects.LOGS, objects.IDENTITY)
        answer = await self._client.request("PUT", path, body=body)
        if answer.status == CONFLICT:
            return False
        self._checked(answer)
        return True

    async def mark_log(self) -> None:
        """Change the object of the log, and nothing that it says.

        Whoever has found it as it was cannot replace it any more.
        """
        while True:
            found = await self.log()
            mark = {objects.SWEPT_ANNOTATION: uuid4().hex}
            if await self.put_log(found, found.spec, **mark):
                return

    async def _create_identity(self) -> None:
        body = objects.document(
            objects.LOGS, objects.IDENTITY, {"identity": str(uuid4())}
        )
        answer = await self._client.request("POST", self.path(objects.LOGS), body=body)
        if answer.status != CONFLICT:
            self._checked(answer)

    async def become(self, identity: UUID) -> None:
        """Write down the identity that was taken over.

        Raises:
            ConfigError: we may not.
        """
        spec = objects.LogSpec(identity=str(identity))
        while not await self.put_log(await self.log(), spec):
            pass

    # Changes.

    async def change(self, position: int) -> objects.Change | None:
        """Return the change that begins at a position, as it is now; None if none."""
        name = objects.name_of(position)
        answer = await self._client.request("GET", self.path(objects.CHANGES, name))
        if answer.lacks(name):
            return None
        return self._client.content(answer, objects.decode_change)

    async def uid(self, position: int) -> str | None:
        """Return what tells the change at a position from any other of that name."""
        name = objects.name_of(position)
        path = self.path(objects.CHANGES, name)
        answer = await self._client.request("GET", path, accept=BARE)
        if answer.lacks(name):
            return None
        return self._client.content(answer, objects.decode_bare).metadata.uid

    def changes(self) -> AsyncGenerator[list[objects.Change]]:
        """Yield all changes by name, in pages."""
        return pages(self._client, self.path(objects.CHANGES), objects.decode_changes)

    def bare(self, plural: str) -> AsyncGenerator[list[objects.Bare]]:
        """Yield the metadata of all objects of a kind, by name, in pages."""
        return pages(
            self._client, self.path(plural), objects.decode_bares, accept=BARE_LIST
        )

    async def old(self, plural: str, limit: datetime) -> list[str]:
        """Return the names of all objects of a kind from before a moment."""
        return [
            each.metadata.name
            async for page in self.bare(plural)
            for each in page
            if each.metadata.is_older_than(limit)
        ]

    async def moment(self) -> str:
        """Return the version of the list of changes now: where a watch can begin."""
        answer = await self._client.request(
            "GET", self.path(objects.CHANGES), query={"limit": "1"}, accept=BARE_LIST
        )
        return self._client.content(
            answer, objects.decode_bares
        ).metadata.resource_version

    async def events(self, change: objects.Change) -> list[StoredEvent]:
        """Return the events of a change, wherever they are.

        Raises:
            UnreadableError: it holds none, or a chunk is missing or damaged.
        """
        spec = change.spec
        if not spec.chunks:
            return objects.unpack(change, spec.payload)
        names = [part.name for part in spec.chunks]
        payloads = await self.chunks(objects.CHUNKS, names)
        if [objects.digest_of(each or "") for each in payloads] != [
            part.digest for part in spec.chunks
        ]:
            raise UnreadableError(objects.position_of(change))
        return objects.unpack(change, "".join(each or "" for each in payloads))

    async def create(
        self, events: Sequence[StoredEvent], *, after: bytes, log: UUID
    ) -> objects.Metadata:
        """Create the change of an append: it stands with its answer, whole.

        Raises:
            HeadMovedError: there is one that begins at this position.
            RejectedError: the server can never keep it.
            LostError: nobody knows.
        """
        packed = objects.pack(events, after=after, log=log)
        spec = packed.spec
        if packed.pieces:
            spec = await self._with_chunks(packed)
        body = objects.document(objects.CHANGES, objects.name_of(spec.first), spec)
        answer = await self._client.request(
            "POST", self.path(objects.CHANGES), body=body, accept=BARE
        )
        status = answer.explanation() if not answer.ok else None
        if status is not None and status.reason == _ALREADY_EXISTS:
            raise HeadMovedError
        if status is not None and answer.status in _REFUSED:
            raise RejectedError(status.message)
        return self._created(answer, objects.name_of(spec.first))

    def _created(self, answer: Answer, name: str) -> objects.Metadata:
        """Return what the server says about what it has created.

        Raises:
            LostError: it says that it has created something, and not this.
        """
        self._checked(answer)
        try:
            metadata = objects.decode_bare(answer.body).metadata
        except (msgspec.DecodeError, UnicodeDecodeError):
            metadata = objects.Metadata()
        if metadata.name != name or not metadata.uid:
            message = f"what answers at {self._client.address} is no API server"
            raise LostError(message)
        return metadata

    async def replace(
        self, change: objects.Change, events: Sequence[StoredEvent]
    ) -> bool:
        """Write a change anew with other bodies; False where it is not as it was."""
        log = UUID(change.spec.log)
        packed = objects.pack(events, after=bytes.fromhex(change.spec.after), log=log)
        spec = await self._with_chunks(packed) if packed.pieces else packed.spec
        name, version = change.metadata.name, change.metadata.resource_version
        body = objects.document(objects.CHANGES, name, spec, resourceVersion=version)
        path = self.path(objects.CHANGES, name)
        answer = await self._client.request("PUT", path, body=body)
        if answer.status == CONFLICT:
            return False
        self._checked(answer)
        for part in change.spec.chunks:
            await self.remove(objects.CHUNKS, part.name)
        return True

    # Chunks, and whatever else.

    async def _with_chunks(self, packed: objects.Packed) -> objects.ChangeSpec:
        names = objects.chunk_names(packed.spec.first, len(packed.pieces))
        await self.store_chunks(objects.CHUNKS, names, packed.pieces)
        parts = [
            objects.Part(name, objects.digest_of(piece))
            for name, piece in zip(names, packed.pieces, strict=True)
        ]
        return msgspec.structs.replace(packed.spec, chunks=parts)

    async def store_chunks(
        self, plural: str, names: Sequence[str], payloads: Sequence[str]
    ) -> None:
        """Create a chunk object of each payload."""

        async def store(index: int) -> None:
            spec = {"payload": payloads[index]}
            body = objects.document(plural, names[index], spec)
            self._checked(
                await self._client.request("POST", self.path(plural), body=body)
            )

        await together(store, len(names))

    async def chunks(self, plural: str, names: Sequence[str]) -> list[str | None]:
        """Return the payloads of chunk objects; None for one that is not there."""
        found: list[str | None] = [None] * len(names)

        async def fetch(index: int) -> None:
            answer = await self._client.request("GET", self.path(plural, names[index]))
            if not answer.lacks(names[index]):
                content = self._client.content(answer, objects.decode_chunk)
                found[index] = content.spec.payload

        await together(fetch, len(names))
        return found

    async def remove(self, plural: str, name: str) -> bool:
        """Delete an object; return whether it was there."""
        answer = await self._client.request("DELETE", self.path(plural, name))
        if answer.status == NOT_FOUND:
            return False
        self._checked(answer)
        return True

    async def remove_all(self, plural: str, names: Sequence[str]) -> None:
        """Delete objects, a few at a time."""

        async def remove(index: int) -> None:
            await self.remove(plural, names[index])

        await together(remove, len(names))

    def _checked(self, answer: Answer) -> Answer:
        if answer.ok:
            return answer
        error = self._client.refusal(answer)
        if isinstance(error, GoneError):
            raise UnavailableError(str(error)) from error
        raise error


async def together(work: Callable[[int], Awaitable[None]], count: int) -> None:
    """Do something for each index, a few at a time; raise what went wrong first."""
    failures: list[Exception] = []
    indexes = iter(range(count))

    async def share() -> None:
        for index in indexes:
            if failures:
                return
            try:
                await work(index)
            except (AppendError, StoreError) as error:
                failures.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(min(CHUNKS_AT_ONCE, count)):
            tasks.start_soon(share)
    if failures:
        raise failures[0]
