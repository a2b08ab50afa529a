"""`evstore compact`: remove history of a log in a cluster, below a certified state."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .input.times import moment
from .options import Output
from .output.progress import progress
from .output.tables import Format, print_document
from .session import UsageError, config_of, confirmed, quiet, run, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from evstore.config import Config
    from evstore.maintenance import Compaction

    Moment = int | datetime | None


def compact(
    context: typer.Context,
    keep_since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="What stays: a position or a time, and on."),
    ] = None,
    keep_events: Annotated[
        int | None, typer.Option(metavar="N", help="What stays: so many events.", min=0)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go; change nothing.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also where projections of programs' own could not be folded again.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Remove history of a log in a cluster, and keep the state.

    Without --keep-since and --keep-events the history stays, and only what is left over
    goes: pieces of what was broken off, an hour old, that nothing refers to.

    The log is verified, and the state at the new floor certified, before anything goes. What is below the floor can never
    be asked for again. Never removed: the last object, what is younger than an hour, and
    what a running instance has not read. Takes the role evstore-compactor.
    """
    if keep_since is not None and keep_events is not None:
        raise UsageError("give --keep-since or --keep-events, not both")
    since = moment(keep_since, "--keep-since")
    config = quiet(config_of(context))
    found = _plan(config, since, keep_events)
    if not dry_run:
        if found.objects and not yes:
            _ask(found)
        found = _compact(config, since, keep_events, force=force, total=found.head)
    if output is Format.TABLE:
        print("\n".join(_summary(found, dry_run=dry_run)))
    else:
        print_document(_document(found, dry_run=dry_run), output)
    for line in _warnings(found):
        say(f"warning: {line}")


def _plan(config: Config, since: Moment, events: int | None) -> Compaction:
    from evstore.maintenance import compact as compact_

    return run(
        lambda: compact_(config, keep_since=since, keep_events=events, dry_run=True)
    )


def _compact(
    config: Config, since: Moment, events: int | None, *, force: bool, total: int
) -> Compaction:
    async def work() -> Compaction:
        from evstore.maintenance import compact as compact_

        with progress("verifying", total=total, unit="events") as advance:
            return await compact_(
                config,
                keep_since=since,
                keep_events=events,
                force=force,
                advance=advance,
            )

    return run(work)


def _ask(plan: Compaction) -> None:
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; give --yes")
    question = (
        f"Remove {plan.objects:,} objects, all history up to position {plan.floor:,} of "
        f"{plan.head:,}, for good?"
    )
    if not confirmed(question):
        say("nothing was done")
        raise typer.Exit(1)


def _summary(found: Compaction, *, dry_run: bool) -> Iterator[str]:
    yield f"before    {_begins(found.before)}"
    yield f"floor     {_begins(found.floor)}{' (dry run)' if dry_run else ''}"
    yield f"head      {found.head:,}"
    yield f"goes      {found.objects:,} objects, {found.bytes:,} bytes"
    yield f"leftovers {found.leftovers:,} pieces, {found.leftover_bytes:,} bytes"
    if not dry_run:
        yield f"removed   {found.removed:,} objects"
    if found.resources is not None:
        yield f"certified {found.resources:,} resources"


def _begins(floor: int) -> str:
    return f"{floor:,}" if floor else "none: the first event is there"


def _document(found: Compaction, *, dry_run: bool) -> dict[str, object]:
    return {
        "before": found.before,
        "floor": found.floor,
        "head": found.head,
        "objects": found.objects,
        "bytes": found.bytes,
        "removed": found.removed,
        "leftovers": found.leftovers,
        "leftover_bytes": found.leftover_bytes,
        "resources": found.resources,
        "held_by": found.held_by,
        "projections": list(found.projections),
        "dry_run": dry_run,
    }


def _warnings(found: Compaction) -> Iterator[str]:
    if found.held_by is not None:
        yield f"instance {found.held_by} has not read more yet: what it needs stays"
    if found.projections:
        names = ", ".join(found.projections)
        yield f"these projections cannot be folded from the first event again: {names}"
