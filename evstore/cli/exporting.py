"""`evstore export`: the log as lines that `evstore import` restores, or a state as YAML."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .input.files import STANDARD, written
from .input.times import moment, past_moment
from .options import AnyActor, AnyMesh, AnyName, AnyType, At, When
from .output.progress import progress
from .session import UsageError, config_of, quiet, run, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from evstore.log import Log
    from evstore.model import Filter, Record


def export(
    context: typer.Context,
    type_: AnyType = None,
    mesh: AnyMesh = None,
    name: AnyName = None,
    actor: AnyActor = None,
    since: When = None,
    until: When = None,
    state: Annotated[
        bool,
        typer.Option("--state", help="Write what exists, as YAML for `evstore apply`."),
    ] = False,
    at: At = None,
    output_file: Annotated[
        str,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Write there, not to standard output; .gz and .zst by its name.",
        ),
    ] = STANDARD,
) -> None:
    """Write the log to a file, to be restored by `evstore import`.

    Everything that an event has is there, nothing is masked. A part of the log, by
    --since, is restored behind what comes before it; a selection by other options can
    only be imported with --restamp. FILE appears when it is whole.
    """
    from evstore.commit.arguments import Arguments

    config = config_of(context)
    where = Arguments().where(type_, mesh, name, actor, reserved=True)
    if state:
        if since or until or actor is not None:
            message = "--state: takes neither --since nor --until nor --actor, but --at"
            raise UsageError(message)
    elif at is not None:
        message = "--at: only with --state"
        raise UsageError(message)
    first, last = moment(since, "--since"), moment(until, "--until")
    as_of = past_moment(at, "--at")

    async def work() -> str:
        from evstore.log import open_log

        async with open_log(quiet(config)) as log:
            await log.connect()  # which measures its clock
            if state:
                return await _write_state(log, where, as_of, output_file)
            return await _write_log(log, where, (first, last), output_file)

    said = run(work)
    if output_file != STANDARD:
        say(said)


async def _write_log(
    log: Log,
    where: Filter,
    range_: tuple[int | datetime | None, int | datetime | None],
    output_file: str,
) -> str:
    from evstore.transfer.export import begin_export

    begun = await begin_export(log, since=range_[0], until=range_[1], where=where)
    header = begun.header
    total = header.until - header.after
    lines = 0
    with (
        progress("exporting", total=total, unit="events") as advance,
        written(output_file) as file,
    ):
        # Where the file cannot be written, the connection is given back first.
        async with aclosing(begun.lines()) as found:
            async for line in found:
                file.write(line)
                lines += 1
                advance(begun.position - header.after)
    return (
        f"exported {lines - 1} transactions of log {header.log},"
        f" positions {header.after + 1} to {header.until}"
    )


async def _write_state(
    log: Log, where: Filter, at: int | datetime | None, output_file: str
) -> str:
    from evstore.past.history import resolve, resources_at

    place = await (log.head() if at is None else resolve(log, at))
    records = await resources_at(log, where, place.position)
    count = 0
    with written(output_file) as file:
        for record in owners_first(records):
            text = _manifest(record)
            if text is not None:
                file.write(text.encode())
                count += 1
    return f"exported {count} resources, as of position {place.position}"


def owners_first(records: Iterable[Record]) -> Iterator[Record]:
    """Yield resources by their keys, but each behind what owns it."""
    from evstore.folds.resources import owner_of

    left = {record.key: record for record in sorted(records, key=_order)}
    while left:
        chain = [left[next(iter(left))]]
        while (owner := owner_of(chain[-1].body)) in left:
            chain.append(left[owner])
        for record in reversed(chain):
            del left[record.key]
            yield record


def _order(record: Record) -> list[str]:
    return record.key.split("/")


def _manifest(record: Record) -> str | None:
    """Return a resource as `apply` takes it; None for what nobody can apply."""
    from evstore.model import RESERVED_TYPES, Resource
    from evstore.redaction import marks

    from .output.documents import key_document
    from .yaml_text import dump

    resource: Resource[Any] = Resource(record)
    if resource.type in RESERVED_TYPES:
        return None
    if resource.spec is None:
        say(f"left out: {resource.key} has been redacted")
        return None
    if gone := marks(record.body):
        say(f"note: {resource.key}: [redacted] stands for {', '.join(gone)}")
    document: dict[str, Any] = {
        **key_document(resource.key),
        "labels": resource.labels,
        "spec": resource.spec,
    }
    if resource.status is not None:
        document["status"] = resource.status
    if resource.owner is not None:
        document["owner"] = key_document(resource.owner)
    return f"---\n{dump(document)}"
