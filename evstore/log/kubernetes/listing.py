"""Lists of objects, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from evstore.errors import UnavailableError

from .answers import GONE
from .connection import JSON

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from .client import Client
    from .objects import Page

PAGE_BYTES: Final = 8 * 1024 * 1024
PAGE_OBJECTS_MAX: Final = 500

ItemT = TypeVar("ItemT")


async def pages(
    client: Client,
    path: str,
    decode: Callable[[bytes], Page[ItemT]],
    *,
    accept: str = JSON,
) -> AsyncGenerator[list[ItemT]]:
    """Yield all objects of a kind by name, as of one moment if that can be had.

    A server that has forgotten the moment in between goes on by name, with newer ones:
    an object that was there is never left out, nor comes twice.
    """
    token, limit = "", PAGE_OBJECTS_MAX // 10
    while True:
        query = {"limit": str(limit)} | ({"continue": token} if token else {})
        answer = await client.request("GET", path, query=query, accept=accept)
        if answer.status == GONE:
            token = answer.explanation().metadata.token
            if not token:
                message = f"the list of {path} broke off"
                raise UnavailableError(message)
            continue
        page = client.content(answer, decode)
        yield page.items or []
        token = page.metadata.token
        if not token:
            return
        limit = _next_limit(limit, len(answer.body))


def _next_limit(limit: int, size: int) -> int:
    """Return how many objects to ask for next, so that a page has some MB."""
    wanted = limit * PAGE_BYTES // max(size, 1)
    return max(1, min(wanted, limit * 10, PAGE_OBJECTS_MAX))
