"""`evstore snapshot`: the stored states that a start begins from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .input.app import app_of
from .options import AppName, Output
from .output.progress import folding
from .output.snapshots import (
    created_documents,
    listed_documents,
    print_created,
    print_listed,
    print_verified,
    verified_documents,
)
from .output.tables import Format, print_document, print_documents
from .session import UsageError, config_of, confirmed, quiet, run, say

if TYPE_CHECKING:
    from uuid import UUID

    from evstore.maintenance import CreatedSnapshot, VerifiedSnapshot

app = typer.Typer(help="List, make, drop and verify stored states.")


@app.callback(invoke_without_command=True)
def _snapshot(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())
        raise typer.Exit(2)


@app.command(name="list")
def list_(
    context: typer.Context, app: AppName = None, output: Output = Format.TABLE
) -> None:
    """List all snapshots, that of the highest position first.

    BELONGS says whose each is: `own` is of this log and this program, which begins from it; `other code` is of a program
    with other upcasters or another version, or with projections that only its --app names; `lost end`, `other log` and
    `compacted` fit to nothing here, and can be dropped.
    """
    from evstore.maintenance import list_snapshots

    program = app_of(app)
    config = quiet(config_of(context))
    found = run(lambda: list_snapshots(config, app=program))
    if output is Format.TABLE:
        print_listed(found)
    else:
        print_documents(listed_documents(found), output)


@app.command()
def create(
    context: typer.Context, app: AppName = None, output: Output = Format.TABLE
) -> None:
    """Bring each projection to the head, and store it now.

    Without --app that is the state of a program without upcasters and projections. Exit code 1 where one could not be stored,
    because it has stopped or an instance is storing one in that moment.
    """
    from evstore.maintenance import create_snapshots

    program = app_of(app)
    config = quiet(config_of(context))

    async def work() -> list[CreatedSnapshot]:
        with folding("folding") as advance:
            return await create_snapshots(config, app=program, advance=advance)

    found = run(work)
    if output is Format.TABLE:
        print_created(found)
    else:
        print_documents(created_documents(found), output)
    for each in found:
        if each.stopped is not None:
            stopped = each.stopped
            say(
                f"error: {each.name} stopped at position {stopped.position}:"
                f" {stopped.cause}"
            )
        elif each.snapshot is None:
            say(
                f"error: {each.name} was not stored: an instance is storing a snapshot"
                " in this moment, or something was redacted; try again"
            )
    if any(each.snapshot is None for each in found):
        raise typer.Exit(1)


@app.command()
def drop(
    context: typer.Context,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Ids of snapshots, as `list` shows them."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All, of whatever code and log.")
    ] = False,
    projection: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="All of this projection, `resources` or own."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Drop snapshots; the log has all that was in them.

    Starts read the log from further back until there are others. All that were named go, or none.
    """
    from evstore.maintenance import drop_snapshots

    if sum([bool(ids), everything, projection is not None]) != 1:
        raise UsageError("give ids, or --projection, or --all")
    chosen = _uuids(ids or [])
    config = quiet(config_of(context))
    if not yes:
        _ask(_what(len(chosen), projection))
    dropped = run(lambda: drop_snapshots(config, chosen or None, projection=projection))
    if output is Format.TABLE:
        print(f"dropped {dropped}")
    else:
        print_document({"dropped": dropped}, output)


def _uuids(texts: list[str]) -> list[UUID]:
    from uuid import UUID

    found: list[UUID] = []
    for text in texts:
        try:
            found.append(UUID(text))
        except ValueError:
            message = f"{text!r} is no id; `evstore snapshot list` shows them"
            raise UsageError(message) from None
    return found


def _what(count: int, projection: str | None) -> str:
    if projection is not None:
        return f"all snapshots of {projection}"
    if not count:
        return "all snapshots"
    return f"{count} snapshot{'s' if count > 1 else ''}"


def _ask(what: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; give --yes")
    if not confirmed(f"Drop {what}?"):
        say("nothing was done")
        raise typer.Exit(1)


@app.command()
def verify(
    context: typer.Context, app: AppName = None, output: Output = Format.TABLE
) -> None:
    """Compare each snapshot with a replay of the log.

    Whether the log has its place, its chunks are those that were stored, they make a state with its digest, and the log comes
    to that state there. Exit code 1 where one is not right; the first difference is named. What only another program could
    judge is `unknown`: give its --app. Changes nothing.
    """
    from evstore.maintenance import Verdict, verify_snapshots

    program = app_of(app)
    config = quiet(config_of(context))

    async def work() -> list[VerifiedSnapshot]:
        with folding("replaying") as advance:
            return await verify_snapshots(config, app=program, advance=advance)

    found = run(work)
    if output is Format.TABLE:
        print_verified(found)
    else:
        print_documents(verified_documents(found), output)
    wrong = [each for each in found if each.verdict is Verdict.WRONG]
    for each in wrong:
        where = f"; the first that differs is {each.what}" if each.what else ""
        say(
            f"error: the snapshot of {each.snapshot.stamp.projection} at position"
            f" {each.snapshot.stamp.head.position} is wrong: {each.reason}{where}"
        )
    if wrong:
        raise typer.Exit(1)
