"""Transactions from elsewhere, made again in a store, one line after another."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, assert_never

import msgspec

from evstore.transfer.interchange import REQUEST_PREFIX, Line, Operation, Remaining

from .session import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from uuid import UUID

    from evstore.model import StoredEvent
    from evstore.store.facade import Store
    from evstore.transfer.exported import ExportedLine
    from evstore.transfer.interchange import Transaction


class Report(msgspec.Struct, kw_only=True):
    """What an import has done so far."""

    lines: int = 0
    applied: int = 0
    skipped: int = 0
    last_line: int = 0
    position: int = 0


class Importer:
    """One import under way."""

    def __init__(
        self,
        store: Store,
        report: Report,
        *,
        restamp: bool,
        actor: str,
        export_of: UUID | None = None,
    ) -> None:
        self._store = store
        self._report = report
        self._restamp = restamp
        self._actor = actor
        self._latest = 0
        # Of an export of this very log: the beginning of the hash at each position.
        self._hashes = array("Q") if export_of == store.identity else None

    async def run(
        self, lines: Iterable[Line], advance: Callable[[], None] = lambda: None
    ) -> None:
        """Apply the lines that are not in the log yet, one after another.

        `advance` is called after each.

        Raises:
            InvalidError: a line is wrong; names it.
        """
        report = self._report
        remaining = Remaining(await self._known())
        for line in remaining.of(self._missing(lines)):
            try:
                await self._apply(line)
            except Exception as error:
                raise _located(error, line) from error
            report.applied += 1
            report.last_line = line.number
            advance()
        report.skipped += remaining.skipped
        report.lines = report.applied + report.skipped

    def _missing(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Yield the lines but those of an export that are in this log as they are."""
        from evstore.transfer.exported import ExportedLine

        for line in lines:
            if self._hashes is not None and isinstance(line, ExportedLine):
                last = line.events()[-1]
                place = last.position - 1
                if place < len(self._hashes) and self._hashes[place] == _start(last):
                    self._report.skipped += 1
                    continue
            yield line
            if isinstance(line, ExportedLine):
                _tell_marks(line)

    async def _known(self) -> set[str]:
        """Return the request ids of all imports that are in the log.

        The store itself forgets ids after a day, and by the time in the log: an import
        of several years outruns that.
        """
        from evstore.folds.requests import request_of

        known: set[str] = set()
        mark = REQUEST_PREFIX.encode()
        async for event in self._store.events():
            self._latest = event.stored.time
            if self._hashes is not None:
                self._hashes.append(_start(event.stored))
            if mark in bytes(event.stored.metadata):
                found = request_of(event.stored)
                if found and found[0].startswith(REQUEST_PREFIX):
                    known.add(found[0])
        return known

    async def _apply(self, line: Line) -> None:
        from evstore.clock import to_datetime

        transaction = line.decode()
        time = None if self._restamp else self._time(transaction)
        actor = self._actor if transaction.actor is None else transaction.actor
        async with self._store.transaction(
            actor=actor,
            reason=transaction.reason,
            request_id=line.request_id,
            recorded_at=None if time is None else to_datetime(time),
        ) as tx:
            _fill(tx, transaction)
        self._latest = time or self._latest

    def _time(self, transaction: Transaction) -> int:
        """Return when the transaction happened, if the log can still keep that.

        Raises:
            InvalidError: it cannot.
        """
        from evstore.clock import to_datetime, wall_microseconds
        from evstore.errors import InvalidError

        from .output.documents import rfc3339

        time = transaction.time
        if time is None:
            message = "is missing; --restamp does without"
            raise InvalidError(message, path="time")
        if time > wall_microseconds():
            message = f"{rfc3339(to_datetime(time))} lies in the future"
            raise InvalidError(message, path="time")
        if time < self._latest:
            then, latest = (rfc3339(to_datetime(each)) for each in (time, self._latest))
            message = (
                f"{then} is before {latest}, the time of the last event of the log"
            )
            raise InvalidError(
                f"{message}, where times never run backwards; import into an empty log,"
                " or with --restamp, which records everything as of now",
                path="time",
            )
        return time


def _tell_marks(line: ExportedLine) -> None:
    """Say which values are only marks: in this log nothing tells that any more."""
    from evstore.redaction import marks

    for event in line.events():
        if gone := marks(event.body):
            where = f"note: line {line.number}: {event.key}"
            say(f"{where}: [redacted] stands for {', '.join(gone)}")


def _start(event: StoredEvent) -> int:
    return int.from_bytes(event.hash[:8])


def _fill(tx: Any, transaction: Transaction) -> None:
    """Add the changes of a line to a transaction of the store."""
    for change in transaction.changes:
        key = change.key
        if change.schema_version is not None:
            tx.shapes[key.text] = change.schema_version
        match change.operation:
            case Operation.CREATE:
                tx.create(
                    key.type,
                    key.name,
                    mesh=key.mesh,
                    spec=change.spec,
                    labels=change.labels,
                    status=_status(change.status),
                    owner=change.owner,
                )
            case Operation.UPDATE:
                tx.update(
                    key, spec=change.spec, labels=change.labels, status=change.status
                )
            case Operation.DELETE:
                tx.delete(key.type, key.name, mesh=key.mesh)
            case _:
                assert_never(change.operation)


def _status(
    status: dict[str, Any] | msgspec.UnsetType | None,
) -> dict[str, Any] | None:
    return None if isinstance(status, msgspec.UnsetType) else status


def _located(error: Exception, line: Line) -> Exception:
    """Return the error with the line that it is about."""
    from evstore.errors import InvalidError, StoreError, UnavailableError

    if not isinstance(error, StoreError):
        return error
    kind = UnavailableError if isinstance(error, UnavailableError) else InvalidError
    return kind(f"line {line.number}: {error}")
