"""Taking snapshots: of folds as they are at one moment, while they go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from evstore.log import Stamp

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from evstore.log import Log, Snapshot

    from .content import Fold


async def take(
    log: Log, fold: Fold, *, fingerprint: str, code_version: str
) -> Snapshot | None:
    """Keep a snapshot of `fold` as it is when this is called.

    Other tasks run between its chunks. None where nothing was kept: another instance
    is saving one, the fold has stopped, or the log has lost its place.

    Raises:
        UnavailableError: the log cannot be reached.
    """
    frozen = fold.freeze()
    if frozen is None:
        return None
    stamp = Stamp(
        log=log.identity,
        projection=fold.name,
        version=fold.version,
        fingerprint=fingerprint,
        head=frozen.head,
        digest=frozen.digest,
    )
    return await log.save_snapshot(
        stamp, _unhurried(frozen.chunks), code_version=code_version
    )


async def _unhurried(chunks: Iterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield chunks, and let others run before each: to make one takes about 1 ms."""
    for chunk in chunks:
        await anyio.lowlevel.checkpoint()
        yield chunk
