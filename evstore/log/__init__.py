"""Where events live: one contract, one log for each store type."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, assert_never

from evstore.config import StoreType

from .contract import Log, Turn
from .extras import extra
from .failures import (
    AppendError,
    BusyError,
    ForeignLogError,
    HeadMovedError,
    InDoubtError,
    RejectedError,
    StampError,
    UnreadableError,
)
from .memory import MemoryLog
from .shapes import AuditedEvent, Base, Connections, Instance, Snapshot, Stamp, label_of
from .verifiable import Verifiable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evstore.config import Config

__all__ = [
    "AppendError",
    "AuditedEvent",
    "Base",
    "BusyError",
    "Connections",
    "ForeignLogError",
    "HeadMovedError",
    "InDoubtError",
    "Instance",
    "Log",
    "MemoryLog",
    "RejectedError",
    "Snapshot",
    "Stamp",
    "StampError",
    "Turn",
    "UnreadableError",
    "Verifiable",
    "label_of",
    "open_log",
    "open_to_verify",
]


@asynccontextmanager
async def open_log(config: Config) -> AsyncGenerator[Log]:
    """Open the log that `config` names.

    Raises:
        ConfigError: a setting is wrong, or the extra of this store type is missing.
        SchemaError: the database is not at the version that this program needs.
        UnavailableError: the database cannot be reached.
    """
    match config.type:
        case StoreType.MEMORY:
            yield MemoryLog()
        case StoreType.POSTGRES:
            from .postgres import open_postgres  # noqa: PLC0415 - psycopg loads slowly

            async with open_postgres(config) as log:
                yield log
        case StoreType.KUBERNETES:
            with extra("kubernetes"):
                from .kubernetes import open_kubernetes  # noqa: PLC0415 - an extra

            async with open_kubernetes(config) as log:
                yield log
        case _:
            assert_never(config.type)


@asynccontextmanager
async def open_to_verify(config: Config) -> AsyncGenerator[Verifiable]:
    """Open the log that `config` names as far as a verification needs it.

    What was done to a log in a cluster may be such that it cannot be opened otherwise.

    Raises:
        ConfigError: a setting is wrong, or the extra of this store type is missing.
        SchemaError: the database is not at the version that this program needs.
        UnavailableError: the database cannot be reached.
    """
    if config.type is StoreType.KUBERNETES:
        with extra("kubernetes"):
            from .kubernetes.stored import open_stored  # noqa: PLC0415 - an extra

        async with open_stored(config) as stored:
            yield stored
        return
    async with open_log(config) as log:
        yield log
