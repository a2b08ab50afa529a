"""Taking in what was exported: changes as they were, and the identity of their log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstore.log.failures import HeadMovedError

from . import rights
from .copy import genesis_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from evstore.model import Head, StoredEvent

    from .client import Client
    from .feed import Feed
    from .shelf import Shelf


async def restore(
    client: Client,
    shelf: Shelf,
    feed: Feed,
    events: Sequence[StoredEvent],
    *,
    after: Head,
    identity: UUID,
) -> None:
    """Add whole transactions as they were; see the log's contract."""
    await feed.refresh()
    known = feed.copy.identity
    if identity == known:
        if after != feed.head:
            raise HeadMovedError
        if events:
            await shelf.create(events, after=after.hash, log=known)
            await feed.catch_up()
        return
    if feed.head.position or after.position:
        raise HeadMovedError
    await rights.check_restorer(client)
    if events:
        # The first change settles whose log it is, if another instance writes too.
        await shelf.create(events, after=genesis_of(identity).hash, log=identity)
    await shelf.become(identity)
    await feed.load(identity)
