"""Watches: what changes of a kind of object, as the API server tells it."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from evstore.errors import UnavailableError

from .answers import GONE, GoneError
from .connection import JSON

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .client import Client

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"
BOOKMARK: Final = "BOOKMARK"
_ERROR: Final = "ERROR"

WATCH_SECONDS: Final = 240
# Bookmarks come about once a minute where nothing else does.
SILENCE_SECONDS_MAX: Final = 150.0


class Told(msgspec.Struct):
    """One line of a watch: what happened, and to what."""

    type: str
    object: msgspec.Raw


class _Failure(msgspec.Struct):
    code: int = 0
    message: str = ""


_decode: Final = msgspec.json.Decoder(Told).decode
_decode_failure: Final = msgspec.json.Decoder(_Failure).decode


@asynccontextmanager
async def watching(
    client: Client, path: str, version: str, *, accept: str = JSON
) -> AsyncGenerator[AsyncGenerator[Told]]:
    """Watch objects from a version on, with bookmarks, until the server ends that.

    Raises:
        GoneError: the server has forgotten the moment to begin at.
        UnavailableError: the watch was refused, broke off, or was silent too long.
    """
    query = {
        "watch": "1",
        "resourceVersion": version,
        "allowWatchBookmarks": "true",
        "timeoutSeconds": str(WATCH_SECONDS),
    }
    stream = client.stream(
        path, query=query, silence=SILENCE_SECONDS_MAX, accept=accept
    )
    async with stream as lines, aclosing(_told(lines)) as told:
        yield told


async def _told(lines: AsyncGenerator[bytes]) -> AsyncGenerator[Told]:
    async for line in lines:
        told = _decode(line)
        if told.type == _ERROR:
            failure = _decode_failure(told.object)
            if failure.code == GONE:
                raise GoneError("")
            raise UnavailableError(failure.message)
        yield told
