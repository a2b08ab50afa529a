"""`evstore replay`: rebuild the state from the first event, and check it."""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from .input.times import past_moment
from .options import Output
from .output.progress import progress
from .output.tables import Format, print_document
from .session import config_of, quiet, run, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from evstore.folds.projections import Projections
    from evstore.folds.resources import Resources
    from evstore.log import Instance, Log


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay found."""

    projections: Projections
    seconds: float
    compared: list[Instance]
    different: list[tuple[Instance, bytes]]
    beyond: list[Instance]


def replay(
    context: typer.Context,
    to: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Stop there: at a position or a time."),
    ] = None,
    output_file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Write the state there, one resource a line, as canonical JSON.",
        ),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Rebuild the state from the first event, and check it.

    Everything that is cached is ignored. Compares the state digest with the one that each running instance recorded at its
    last heartbeat, where the replay passes that position, and ends with exit code 1 if
    one differs.
    """
    from evstore.log import open_log

    config = config_of(context)
    until = past_moment(to, "--to")

    async def work() -> Replayed:
        async with open_log(quiet(config)) as log:
            await log.connect()  # which measures its clock
            return await rebuild(log, until)

    found = run(work)
    if output_file is not None:
        write_state(output_file, found.projections.resources)
    if output is Format.TABLE:
        print("\n".join(_summary(found)))
    else:
        print_document(_document(found), output)
    for instance, digest in found.different:
        say(
            f"error: instance {instance.id} had the digest {instance.digest.hex()} at"
            f" position {instance.position}, but the log makes {digest.hex()}"
        )
    if found.different:
        raise typer.Exit(1)


async def rebuild(log: Log, until: int | datetime | None) -> Replayed:
    """Fold a log from its first event; compare with what instances recorded.

    A log that was compacted is folded from the state that is certified at its floor.

    Raises:
        InvalidError: `until` lies beyond the head.
    """
    from evstore.clock import boot_microseconds
    from evstore.folds.projections import Projections
    from evstore.maintenance.comparing import Heartbeats
    from evstore.past.history import resolve
    from evstore.snapshots.floor import begin_at_floor

    # Before the head: no instance that is asked now can be ahead of it then.
    instances = await log.instances()
    head = (await log.head()).position
    last = head if until is None else (await resolve(log, until)).position
    projections = Projections(log.genesis)
    if log.floor != log.genesis:
        await begin_at_floor(log, projections)
    check = Heartbeats([each for each in instances if each.position <= last])
    check.at(projections)
    started = boot_microseconds()
    with progress("replaying", total=last, unit="events") as advance:
        async with aclosing(
            log.replay(after=projections.position, until=last)
        ) as chunks:
            async for chunk in chunks:
                for part in check.parts(chunk):
                    projections.apply(part)
                    check.at(projections)
                advance(projections.position)
    projections.resources.digest()
    seconds = (boot_microseconds() - started) / 1_000_000
    return Replayed(
        projections=projections,
        seconds=seconds,
        compared=check.compared,
        different=check.different,
        beyond=[each for each in instances if each.position > last],
    )


def _summary(found: Replayed) -> Iterator[str]:
    events = found.projections.position
    yield f"events    {events:,}"
    yield f"time      {found.seconds:.3f} s"
    yield f"rate      {_rate(found):,.0f} events/s"
    yield f"resources {len(found.projections.resources):,}"
    yield f"digest    {found.projections.resources.digest().hex()}"
    yield f"compared  {_comparison(found)}"


def _comparison(found: Replayed) -> str:
    count = len(found.compared)
    if not count and not found.beyond:
        return "with none: no instance has recorded a digest within a day"
    text = "with none"
    if count:
        equal = count - len(found.different)
        text = f"with {count} of running instances: {equal} equal"
        text += f", {len(found.different)} different" if found.different else ""
    if found.beyond:
        text += f"; {len(found.beyond)} more at positions after these events"
    return text


def _rate(found: Replayed) -> float:
    return found.projections.position / found.seconds if found.seconds else 0.0


def _document(found: Replayed) -> dict[str, Any]:
    return {
        "events": found.projections.position,
        "seconds": round(found.seconds, 6),
        "events_per_second": round(_rate(found)),
        "resources": len(found.projections.resources),
        "digest": found.projections.resources.digest().hex(),
        "compared": len(found.compared),
        "different": len(found.different),
        "not_passed": len(found.beyond),
    }


def write_state(path: Path, resources: Resources) -> None:
    """Write a state: a line of canonical JSON for each resource, by their keys.

    Labels, mesh, name, spec and type; status and owner only where there is one. A
    file appears when it is whole.
    """
    if path.exists() and not path.is_file():  # a pipe, or /dev/stdout
        with path.open("wb") as file:
            file.writelines(state_lines(resources))
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            file.writelines(state_lines(resources))
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def state_lines(resources: Resources) -> Iterator[bytes]:
    """Yield a line for each resource, by type, mesh and name."""
    from evstore.codec import canonical
    from evstore.model import Resource

    from .output.documents import key_document

    records = sorted(resources, key=lambda each: each.key.split("/"))
    for record in records:
        resource: Resource[Any] = Resource(record)
        line = {
            **key_document(resource.key),
            "labels": resource.labels,
            "spec": resource.spec,
        }
        if resource.status is not None:
            line["status"] = resource.status
        if resource.owner is not None:
            line["owner"] = key_document(resource.owner)
        yield canonical(line, "") + b"\n"
