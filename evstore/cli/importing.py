"""`evstore import`: a history from elsewhere, appended transaction by transaction."""

from __future__ import annotations

import gzip
import shutil
import sys
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, assert_never, cast

import msgspec
import typer

from .interchange import REQUEST_PREFIX, Line, Operation, Remaining, read_lines
from .options import Actor, Output
from .output import Format, print_document
from .progress import progress
from .session import UsageError, actor_of, config_of, open_store, run, say

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from evstore.store import Store

    from .interchange import Transaction

_SPOOL_BYTES_MAX: Final = 64 * 1024 * 1024
_STANDARD_INPUT: Final = "standard input"


class Report(msgspec.Struct, kw_only=True):
    """What an import has done so far."""

    lines: int = 0
    applied: int = 0
    skipped: int = 0
    last_line: int = 0
    position: int = 0


def import_(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="JSON lines; .gz by its name; - is standard input."
        ),
    ],
    restamp: Annotated[
        bool,
        typer.Option(
            "--restamp", help="Record everything as of now instead of as it happened."
        ),
    ] = False,
    actor: Actor = None,
    output: Output = Format.TABLE,
) -> None:
    """Append a history from elsewhere.

    Each line of FILE is one transaction: {"time": seconds, "actor", "reason", "changes": [{"op": create, update or
    delete, "type", "mesh", "name", "spec", "labels"}]}. Times are kept, so they must
    not be older than what is in the log already; --restamp ignores them. Lines without
    an actor get --actor.

    A bad line ends the import: what stands before it is applied, nothing of it is.
    Importing the same file again goes on where it ended.
    """
    config = config_of(context)
    report = Report()
    with opened(file) as (source, size):

        async def work() -> None:
            async with open_store(config) as store:
                importing = Importer(
                    store, report, restamp=restamp, actor=actor_of(config, actor)
                )
                try:
                    await importing.run(source, size)
                finally:
                    report.position = store.position

        try:
            run(work)
        except BaseException:
            if report.last_line:
                say(
                    f"applied up to line {report.last_line}; importing the file again"
                    " goes on from there"
                )
            raise
    if output is Format.TABLE:
        print(
            f"{report.lines} lines: {report.applied} applied,"
            f" {report.skipped} in the log already; position {report.position}"
        )
    else:
        result = msgspec.to_builtins(report)
        del result["last_line"]
        print_document(result, output)


class Importer:
    """One import under way."""

    def __init__(
        self, store: Store, report: Report, *, restamp: bool, actor: str
    ) -> None:
        self._store = store
        self._report = report
        self._restamp = restamp
        self._actor = actor
        self._latest = 0

    async def run(self, source: Source, size: int) -> None:
        """Apply the lines that are not in the log yet, one after another.

        Raises:
            InvalidError: a line is wrong; names it.
        """
        report = self._report
        remaining = Remaining(await self._known())
        with progress("importing", total=size, unit="bytes") as advance:
            for line in remaining.of(source.lines()):
                try:
                    await self._apply(line)
                except Exception as error:
                    raise _located(error, line, source.name) from error
                report.applied += 1
                report.last_line = line.number
                advance(source.tell())
        report.skipped = remaining.skipped
        report.lines = report.applied + report.skipped

    async def _known(self) -> set[str]:
        """Return the request ids of all imports that are in the log.

        The store itself forgets ids after a day, and by the time in the log: an import
        of several years outruns that.
        """
        from evstore.requests import request_of

        known: set[str] = set()
        mark = REQUEST_PREFIX.encode()
        async for event in self._store.events():
            self._latest = event.stored.time
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

        from .documents import rfc3339

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


def _fill(tx: Any, transaction: Transaction) -> None:
    """Add the changes of a line to a transaction of the store."""
    for change in transaction.changes:
        key = change.key
        match change.operation:
            case Operation.CREATE:
                tx.create(
                    key.type,
                    key.name,
                    mesh=key.mesh,
                    spec=change.spec,
                    labels=change.labels,
                )
            case Operation.UPDATE:
                tx.update(key, spec=change.spec, labels=change.labels)
            case Operation.DELETE:
                tx.delete(key.type, key.name, mesh=key.mesh)
            case _:
                assert_never(change.operation)


def _located(error: Exception, line: Line, name: str) -> Exception:
    """Return the error with the line that it is about."""
    from evstore.errors import InvalidError, StoreError, UnavailableError

    if not isinstance(error, StoreError):
        return error
    kind = UnavailableError if isinstance(error, UnavailableError) else InvalidError
    return kind(f"{name}: line {line.number}: {error}")


class Source:
    """A file of lines; how far it is read shows in the file below any compression."""

    def __init__(self, name: str, raw: BinaryIO, *, zipped: bool) -> None:
        self.name = name
        self._raw = raw
        self._file = gzip.GzipFile(fileobj=raw) if zipped else raw

    def tell(self) -> int:
        """Return how many bytes of the file have been read."""
        return self._raw.tell()

    def lines(self) -> Iterator[Line]:
        """Yield the lines.

        Raises:
            InvalidError: the file is damaged; names the first line that is not whole.
        """
        from evstore.errors import InvalidError

        number = 0
        try:
            for line in read_lines(self._file.readline):
                number = line.number
                yield line
        except (EOFError, OSError, zlib.error) as error:
            message = f"cannot be read on: {error}"
            where = f"{self.name}: line {number + 1}"
            raise InvalidError(f"{where}: {message}") from error
        except InvalidError as error:
            raise InvalidError(f"{self.name}: {error}") from None


@contextmanager
def opened(file: str) -> Generator[tuple[Source, int]]:
    """Open a file of lines; what cannot be measured is taken in first.

    That way nothing waits for a pipe while the store is open, and Ctrl-C always works.
    """
    try:
        if file == "-":
            with _spooled(sys.stdin.buffer) as (raw, size):
                yield Source(_STANDARD_INPUT, raw, zipped=False), size
            return
        path = Path(file)
        with path.open("rb") as opened:
            zipped = path.suffix == ".gz"
            if path.is_file():
                yield Source(file, opened, zipped=zipped), path.stat().st_size
            else:
                with _spooled(opened) as (raw, size):
                    yield Source(file, raw, zipped=zipped), size
    except OSError as error:
        if error.filename is None:
            raise
        raise UsageError(f"{error.filename}: {error.strerror}") from error


@contextmanager
def _spooled(source: BinaryIO) -> Generator[tuple[BinaryIO, int]]:
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES_MAX) as spool:
        shutil.copyfileobj(source, spool)
        size = spool.tell()
        spool.seek(0)
        yield cast("BinaryIO", spool), size
