"""Integrity: the log read as it is stored, its guards, and the one permitted UPDATE."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import msgspec
from psycopg import errors, sql

from evstore.errors import ConfigError
from evstore.log.contract import CHUNK_BYTES_MAX, CHUNK_EVENTS
from evstore.log.failures import UnreadableError
from evstore.log.shapes import AuditedEvent

from . import statements

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .reader import Reader

_BYTES_UNBOUNDED: Final = 2**62
_TYPES: Final = ("int8", "bytea")

_decode_events = msgspec.json.Decoder(list[AuditedEvent]).decode


async def audit(
    reader: Reader, *, after: int, until: int
) -> AsyncGenerator[list[AuditedEvent]]:
    """Yield what is stored with `after < position <= until`; see the log's contract."""
    whole = _query(after, until, count=CHUNK_EVENTS, size=CHUNK_BYTES_MAX)
    async with aclosing(reader.copy(whole, _TYPES)) as chunks:
        async for first, text in chunks:
            found = None if text is None else _decode(text)
            if found is not None:
                yield found
                continue
            # Too large for one piece, or something in it is no event: one at a time.
            last = min(first + CHUNK_EVENTS, until)
            single = _query(first, last, count=1, size=_BYTES_UNBOUNDED)
            async with aclosing(reader.copy(single, _TYPES)) as pieces:
                async for before, piece in pieces:
                    event = _decode(piece)
                    if event is None:
                        raise UnreadableError(before + 1)
                    yield event


def _query(after: int, until: int, *, count: int, size: int) -> sql.Composed:
    return sql.SQL(statements.AUDIT).format(  # pyright: ignore[reportArgumentType]
        after=sql.Literal(after),
        until=sql.Literal(until),
        count=sql.Literal(count),
        bytes=sql.Literal(size),
    )


def _decode(text: bytes) -> list[AuditedEvent] | None:
    """Return the events of a chunk, None where one of them is none."""
    try:
        found = _decode_events(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found


async def unguarded(reader: Reader) -> list[str]:
    """Return the triggers that are missing or switched off, by table."""
    rows = await reader.rows(statements.GUARDS)
    return [
        f"trigger {name} of evstore.{table} is missing or switched off"
        for table, name in rows
    ]


async def check_redactor(reader: Reader) -> None:
    """Check that our role may redact, and drop the snapshots that hold what goes.

    Raises:
        ConfigError: it does not own the table, or lacks rights on the snapshots.
    """
    row = await reader.row(statements.REDACTOR)
    assert row is not None, "the table is there"
    role, may, owner, drops = row
    if not may:
        raise _not_the_owner(role, owner)
    if not drops:
        message = f"store.postgres.user: role {role} may not drop snapshots, which may"
        grant = f'run "evstore migrate grant {role} --apply" as their owner'
        raise ConfigError(f"{message} hold what is to be redacted; {grant}")


async def redact(
    reader: Reader,
    position: int,
    *,
    body: bytes,
    salt: bytes,
    before: bytes,
    announced: int,
) -> bool:
    """Replace body and salt of an event; see the log's contract."""
    binds = {
        "announced": announced,
        "position": position,
        "body": body.decode(),
        "salt": salt,
        "before": before,
    }
    try:
        return await reader.row(statements.REDACT, binds) is not None
    except Exception as error:
        refused = (errors.InsufficientPrivilege, errors.ObjectNotInPrerequisiteState)
        if not isinstance(error.__cause__, refused):
            raise
        await check_redactor(reader)
        message = "the table's own guard refused the redaction"
        raise ConfigError(message) from error


def _not_the_owner(role: str, owner: str) -> ConfigError:
    message = f"store.postgres.user: role {role} may not redact, only {owner}"
    return ConfigError(f"{message}, the owner of evstore.events; run it as that role")
