"""The objects of a mirror in the cluster: listed, watched, written, reported on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec

from evstore.clock import to_datetime, wall_microseconds
from evstore.log.kubernetes import watches
from evstore.log.kubernetes.answers import (
    CONFLICT,
    GONE,
    NOT_FOUND,
    TOO_LARGE,
    UNPROCESSABLE,
    Answer,
    GoneError,
)
from evstore.log.kubernetes.objects import (
    GROUP,
    KINDS,
    RESOURCES,
    VERSION,
    ListMeta,
    collection,
    decode_bare,
)

from .content import Seen, seen_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evstore.log.kubernetes.client import Client

MANAGER: Final = "evstore"
PAGE_OBJECTS: Final = 250
# Between two looks at what else there is to do, while a page is gone through.
SLICE_OBJECTS: Final = 25
TOLD_MAX: Final = 1_000
_BAD_REQUEST: Final = 400
_REFUSALS: Final = frozenset({_BAD_REQUEST, TOO_LARGE, UNPROCESSABLE})


class RefusedError(Exception):
    """The cluster will not have this object, however often it is sent."""


class Heard(msgspec.Struct, frozen=True):
    """What a watch told: an object's name and version, "" for one that is gone.

    Without a name it only tells how far the watch has come.
    """

    name: str
    resource_version: str
    reached: str


class _Page(msgspec.Struct):
    metadata: ListMeta
    items: list[dict[str, Any]]


_decode_page: Final = msgspec.json.Decoder(_Page).decode
_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


class MirrorObjects:
    """The mirrored resources of one namespace.

    Each call raises UnavailableError where the cluster does not answer, ConfigError
    where we may not, and SchemaError where the kind is not there.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._path = collection(client.namespace, RESOURCES)

    async def all(self, found: dict[str, Seen]) -> str:
        """Add to `found` what there is, by name; return from where a watch goes on.

        Raises:
            GoneError: it took so long that the server has forgotten when it began.
        """
        token = ""
        while True:
            query = {"limit": str(PAGE_OBJECTS), "continue": token}
            answer = await self._client.request("GET", self._path, query=query)
            if answer.status == GONE:
                # To go on with newer pages would hide what changed on the older ones.
                raise GoneError("")
            page = await self._page(answer, query)
            for number, item in enumerate(page.items):
                found[_name_of(item)] = seen_of(item)
                if number % SLICE_OBJECTS == 0:
                    await anyio.lowlevel.checkpoint()
            token = page.metadata.token
            if not token:
                return page.metadata.resource_version

    async def _page(self, answer: Answer, query: dict[str, str]) -> _Page:
        """Return a page; without its contents where they cannot be read."""
        try:
            return self._client.content(answer, _decode_page)
        except RecursionError:
            bare = await self._client.request(
                "GET",
                self._path,
                query=query,
                accept=_as_bare("PartialObjectMetadataList"),
            )
            return self._client.content(bare, _decode_page)

    async def watch(self, version: str) -> AsyncGenerator[Heard]:
        """Yield what changes, until the server ends the watch.

        Raises:
            GoneError: the server has forgotten the moment to begin at.
        """
        bare = _as_bare("PartialObjectMetadata")
        stream = watches.watching(self._client, self._path, version, accept=bare)
        async with stream as told:
            async for each in told:
                yield _heard(each)

    async def get(self, name: str) -> dict[str, Any] | None:
        """Return an object as it is now; None where there is none."""
        path = f"{self._path}/{name}"
        answer = await self._client.request("GET", path)
        try:
            return self._found(answer)
        except RecursionError:
            # Nested too deeply: somebody else's, whatever it is.
            accept = _as_bare("PartialObjectMetadata")
            return self._found(await self._client.request("GET", path, accept=accept))

    def _found(self, answer: Answer) -> dict[str, Any] | None:
        if _is_absent(answer):
            return None
        return self._client.content(answer, _decode_object)

    async def create(self, document: dict[str, Any]) -> Seen | None:
        """Create an object; None where there is one of that name.

        Raises:
            RefusedError: the cluster will not have it.
        """
        return await self._write("POST", self._path, document)

    async def replace(self, document: dict[str, Any], seen: Seen) -> Seen | None:
        """Write an object anew; None where it is no longer as it was seen.

        Raises:
            RefusedError: the cluster will not have it.
        """
        known = {"uid": seen.uid, "resourceVersion": seen.resource_version}
        path = f"{self._path}/{_name_of(document)}"
        return await self._write("PUT", path, _with_metadata(document, known))

    async def _write(
        self, method: str, path: str, document: dict[str, Any]
    ) -> Seen | None:
        answer = await self._client.request(
            method,
            path,
            query={"fieldManager": MANAGER},
            body=msgspec.json.encode(document),
        )
        if answer.status in _REFUSALS:
            raise RefusedError(answer.explanation().message)
        if answer.status == CONFLICT or (method == "PUT" and _is_absent(answer)):
            return None
        metadata = self._client.content(answer, decode_bare).metadata
        # What the server has made of it fits, whatever it has done to the numbers.
        written = {"uid": metadata.uid, "resourceVersion": metadata.resource_version}
        return seen_of(_with_metadata(document, written))

    async def delete(self, name: str, seen: Seen) -> bool:
        """Delete an object; False where it is another than was seen.

        One that is gone was deleted: a request whose answer is lost may be sent again.
        """
        conditions = {"uid": seen.uid, "resourceVersion": seen.resource_version}
        answer = await self._client.request(
            "DELETE",
            f"{self._path}/{name}",
            body=msgspec.json.encode({"preconditions": conditions}),
        )
        if answer.status == CONFLICT:
            return False
        if not _is_absent(answer):
            self._client.content(answer, bytes)
        return True


class Warnings:
    """Warning events of the cluster, about objects of a mirror.

    The same warning about the same object is one event, which counts.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._path = f"/api/v1/namespaces/{client.namespace}/events"
        self._told: dict[tuple[str, str], dict[str, Any]] = {}

    async def tell(self, name: str, seen: Seen, reason: str, message: str) -> None:
        """Record a warning about an object as it was seen, however often it is tried.

        Warnings of one reason about one object are counted.
        """
        now = to_datetime(wall_microseconds()).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = self._told.pop((name, reason), None)
        if event is not None:
            count = event["count"] + 1
            event = event | {"count": count, "lastTimestamp": now, "message": message}
            path = f"{self._path}/{_name_of(event)}"
            if await self._send("PUT", path, event):
                self._told[name, reason] = event
                return
        event = self._event(name, seen, reason, message, now)
        await self._send("POST", self._path, event)
        self._told[name, reason] = event
        if len(self._told) > TOLD_MAX:
            del self._told[next(iter(self._told))]

    async def _send(self, method: str, path: str, event: dict[str, Any]) -> bool:
        body = msgspec.json.encode(event)
        answer = await self._client.request(method, path, body=body)
        if method == "PUT" and _is_absent(answer):
            return False
        if answer.status != CONFLICT:
            # Else it is there: an answer was lost.
            self._client.content(answer, decode_bare)
        return True

    def _event(
        self, name: str, seen: Seen, reason: str, message: str, now: str
    ) -> dict[str, Any]:
        namespace = self._client.namespace
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{name}.{reason.lower()}.{seen.resource_version}",
                "namespace": namespace,
            },
            "involvedObject": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KINDS[RESOURCES],
                "namespace": namespace,
                "name": name,
                "uid": seen.uid,
            },
            "type": "Warning",
            "reason": reason,
            "message": message,
            "source": {"component": MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }


def _as_bare(kind: str) -> str:
    """Return how to ask for the metadata of objects, and no more."""
    return f"application/json;as={kind};g=meta.k8s.io;v=v1"


def _name_of(document: dict[str, Any]) -> str:
    return str(document["metadata"]["name"])


def _with_metadata(document: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    return document | {"metadata": document["metadata"] | known}


def _heard(told: watches.Told) -> Heard:
    metadata = decode_bare(told.object).metadata
    version = metadata.resource_version
    match told.type:
        case watches.BOOKMARK:
            return Heard("", "", version)
        case watches.DELETED:
            return Heard(metadata.name, "", version)
        case _:
            return Heard(metadata.name, version, version)


def _is_absent(answer: Answer) -> bool:
    return answer.status == NOT_FOUND
