"""`evstore projection`: how projections stand, whether they are right, and what-if."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .input.app import app_of
from .input.times import past_moment
from .options import AppName, At, Output, ShowSecrets
from .output.progress import folding
from .output.projecting import (
    check_document,
    diff_document,
    print_diff,
    print_status,
    print_verification,
    status_document,
)
from .output.tables import Format, print_document
from .past import print_changes
from .session import UsageError, config_of, quiet, run, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore.app import App
    from evstore.maintenance import (
        ProjectionDiff,
        ProjectionsStatus,
        ProjectionVerification,
    )

app = typer.Typer(help="Look after the states that are folded from the log.")

Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="MODULE:FACTORY",
        help="Compare with what this code makes; else with what is stored.",
    ),
]


@app.callback(invoke_without_command=True)
def _projection(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())
        raise typer.Exit(2)


@app.command()
def status(
    context: typer.Context,
    app_name: AppName = None,
    output: Output = Format.TABLE,
) -> None:
    """Show how projections stand, and which instances run them.

    Each is folded from its newest snapshot to the head of the log, as a start does it, so it is also found where one stops.
    Nothing is written. Without --app it is `resources` alone.
    """
    from evstore.maintenance import projections_status

    config = quiet(config_of(context))
    given = app_of(app_name)
    _known(given, ())

    async def work() -> ProjectionsStatus:
        with folding("folding") as advance:
            return await projections_status(config, given, advance=advance)

    found = run(work)
    if output is Format.TABLE:
        print_status(found)
    else:
        print_document(status_document(found), output)


@app.command()
def verify(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Only these projections."),
    ] = None,
    app_name: AppName = None,
    output: Output = Format.TABLE,
) -> None:
    """Replay the whole log, and compare the projections with it.

    With what a start comes to, from the newest snapshot on, and with the digests that running instances have told with their
    last heartbeat. What differs is named, with the event that should have set it, and the exit code is 1. Nothing is written.
    """
    from evstore.maintenance import verify_projections

    config = quiet(config_of(context))
    given = app_of(app_name)
    wanted = _known(given, names or ())

    async def work() -> ProjectionVerification:
        with folding("replaying") as advance:
            return await verify_projections(
                config, given, names=wanted, advance=advance
            )

    found = run(work)
    if output is Format.TABLE:
        print_verification(found)
    else:
        print_document(check_document(found), output)
    for each in found.discrepancies:
        say(f"error: {each}")
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def diff(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which projection.")],
    app_name: AppName = None,
    against: Against = None,
    at: At = None,
    show_secrets: ShowSecrets = False,
    output: Output = Format.TABLE,
) -> None:
    """Show what other code would make of the same history.

    The log is replayed through the code of --app, and compared with the newest snapshot that other code has taken of NAME, at
    its position, or with --against at the head or --at. `resources` without a snapshot are compared with what is stored.
    Nothing is written. The exit code is 0 whether anything differs or not, and 1 where the new code stops. -o json has a JSON
    Patch.
    """
    from evstore.maintenance import projection_diff

    config = quiet(config_of(context))
    moment = past_moment(at, "--at")
    given = app_of(app_name)
    if given is None:
        raise UsageError("name the new code: --app module:factory")
    _known(given, [name])
    other = app_of(against, option="--against")
    if other is not None:
        _known(other, [name], option="--against")

    async def work() -> ProjectionDiff:
        with folding("replaying") as advance:
            return await projection_diff(
                config, name, given, against=other, at=moment, advance=advance
            )

    found = run(work)
    _tell(found, output, show_secrets=show_secrets)
    if found.after_stopped is not None:
        raise typer.Exit(1)


def _tell(found: ProjectionDiff, output: Format, *, show_secrets: bool) -> None:
    """Print what differs, and say why there may be nothing to print."""
    if found.name == "resources":
        print_changes(found.resources, output, show_secrets=show_secrets)
    elif output is Format.TABLE:
        print_diff(found, show_values=show_secrets)
    else:
        print_document(diff_document(found), output)
    for label, stopped in (
        (found.before, found.before_stopped),
        (found.after, found.after_stopped),
    ):
        if stopped is not None:
            say(f"error: {label} stops at position {stopped.position}: {stopped.cause}")
    if output is Format.TABLE and found.comparable:
        differs = found.resources or found.differences
        say(
            f"{'this' if differs else 'nothing'} differs between {found.before} and"
            f" {found.after} at position {found.position}"
        )


def _known(given: App | None, names: Sequence[str], option: str = "--app") -> list[str]:
    """Return these names of projections, all of them where there are none.

    Raises:
        UsageError: there is no such projection, or the app is not in order.
    """
    from evstore.errors import InvalidError
    from evstore.maintenance.programs import Program

    try:
        return Program(given).named(names)
    except InvalidError as error:
        message = str(error)
        if given is None:
            message += "; --app names those of a control plane"
        elif option != "--app":
            message = f"{option}: {message}"
        raise UsageError(message) from error
