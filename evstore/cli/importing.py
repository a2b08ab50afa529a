"""`evstore import`: a history from elsewhere, or an export to be restored."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from .importer import Importer, Report
from .input.files import opened
from .options import Actor, Output
from .output.progress import progress
from .output.tables import Format, print_document
from .session import UsageError, actor_of, config_of, open_store, quiet, run, say

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from uuid import UUID

    from evstore.config import Config
    from evstore.transfer.exported import Header
    from evstore.transfer.interchange import Line

    from .input.files import Source


def import_(
    context: typer.Context,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="JSON lines; .gz and .zst by its name; - is standard input.",
        ),
    ] = None,
    restamp: Annotated[
        bool,
        typer.Option(
            "--restamp", help="Record everything as of now instead of as it happened."
        ),
    ] = False,
    kuma_file: Annotated[
        Path | None,
        typer.Option(
            "--from-kuma",
            metavar="KUMA.yaml",
            help="Take over what the database of this kuma-cp configuration holds.",
        ),
    ] = None,
    actor: Actor = None,
    output: Output = Format.TABLE,
) -> None:
    """Append a history from elsewhere, or restore an export.

    Each line of FILE is one transaction: {"time": seconds, "actor", "reason", "changes": [{"op": create, update or
    delete, "type", "mesh", "name", "spec", "labels", "status", "owner"}]}. Times are
    kept, so they must not be older than what is in the log already; --restamp ignores
    them. Lines without an actor get --actor.

    What `evstore export` wrote is restored as it was, into a log that was never
    written, by the owner of the database, or with the role evstore-owner of a cluster;
    --restamp makes its changes again instead.

    A bad line ends the import: what stands before it is applied, nothing of it is.
    Importing the same file again goes on where it ended.
    """
    config = config_of(context)
    if (file is None) == (kuma_file is None):
        message = "needs either FILE or --from-kuma"
        raise UsageError(message)
    if kuma_file is not None:
        from .kuma import take_over

        if restamp:
            message = "--restamp: what Kuma holds has its own times"
            raise UsageError(message)
        take_over(config, kuma_file, actor_of(config, actor), output)
        return
    assert file is not None, "checked above"
    with opened(file) as (source, size):
        header, lines = _begin(source)
        if header is not None and not restamp:
            _restore(config, header, lines, source, size, output)
            return
        _import(
            config,
            lines,
            source,
            size,
            restamp=restamp,
            actor=actor_of(config, actor),
            export_of=None if header is None else header.log,
            output=output,
        )


def _begin(source: Source) -> tuple[Header | None, Iterator[Line]]:
    """Return the header of an export, None for other files, and the lines after it."""
    from evstore.transfer.exported import ExportedLine, is_header, read_header

    lines = source.lines()
    with located(source.name):
        first = next(lines, None)
        if first is None:
            return None, iter(())
        if first.number > 1 or not is_header(first.content):
            return None, chain((first,), lines)
        header = read_header(first.content)
    return header, (ExportedLine(each.number, each.content) for each in lines)


def _restore(
    config: Config,
    header: Header,
    lines: Iterable[Line],
    source: Source,
    size: int,
    output: Format,
) -> None:
    from evstore.log import open_log
    from evstore.transfer.restore import Restored, restore

    restored = Restored()

    async def work() -> None:
        with progress("restoring", total=size, unit="bytes") as advance:
            async with open_log(quiet(config)) as log:
                await restore(
                    log,
                    header,
                    lines,
                    restored=restored,
                    advance=lambda: advance(source.tell()),
                )

    try:
        with located(source.name):
            run(work)
    except BaseException:
        if restored.applied:
            say(
                f"restored up to position {restored.position}; importing the file"
                " again goes on from there"
            )
        raise
    if output is Format.TABLE:
        print(
            f"restored log {header.log}: {restored.applied} events,"
            f" {restored.skipped} in the log already; position {restored.position}"
        )
    else:
        document = {"log": str(header.log), **msgspec.to_builtins(restored)}
        print_document(document, output)


def _import(
    config: Config,
    lines: Iterable[Line],
    source: Source,
    size: int,
    *,
    restamp: bool,
    actor: str,
    export_of: UUID | None,
    output: Format,
) -> None:
    report = Report()

    async def work() -> None:
        async with open_store(config) as store:
            importing = Importer(
                store, report, restamp=restamp, actor=actor, export_of=export_of
            )
            try:
                with progress("importing", total=size, unit="bytes") as advance:
                    await importing.run(lines, lambda: advance(source.tell()))
            finally:
                report.position = store.position

    try:
        with located(source.name):
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


@contextmanager
def located(name: str) -> Generator[None]:
    """Put the name of a file before what is wrong with one of its lines."""
    from evstore.errors import InvalidError, UnavailableError

    try:
        yield
    except InvalidError as error:
        raise InvalidError(f"{name}: {error}") from error
    except UnavailableError as error:
        if not str(error).startswith("line "):
            raise
        raise UnavailableError(f"{name}: {error}") from error
