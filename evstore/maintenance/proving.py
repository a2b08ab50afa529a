"""Proof of a log that no store need be able to open: its chain, its head signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstore.anchors import sign
from evstore.log import open_log, open_to_verify
from evstore.proof import chain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evstore.anchors import Anchor, PrivateKey
    from evstore.config import Config
    from evstore.proof.chain import Verification


async def verify(
    config: Config,
    *,
    anchors: Sequence[Anchor] = (),
    advance: Callable[[int], None] | None = None,
) -> Verification:
    """Verify the log that `config` names, as `Store.verify` does, without a store.

    `advance` is told up to which position it has got.

    Raises:
        SchemaError: the database is not at the version that this program needs.
        UnavailableError: the log cannot be read.
    """
    async with open_to_verify(config) as log:
        return await chain.verify(log, anchors=anchors, advance=advance)


async def anchor(config: Config, key: PrivateKey) -> Anchor:
    """Sign the head of the log that `config` names, as it is now.

    Raises:
        SchemaError: the database is not at the version that this program needs.
        UnavailableError: the log cannot be reached.
    """
    async with open_log(config) as log:
        await log.connect()  # which measures its clock
        head = await log.head()
        return sign(head, log=log.identity, signed=log.clock(), key=key)
