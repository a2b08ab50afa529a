"""`evstore migrate`: bring a database to the version and rights that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .options import Output
from .output.documents import local_time, rfc3339
from .output.tables import (
    Column,
    Format,
    print_document,
    print_table,
    printable,
)
from .session import UsageError, config_of, run, say

if TYPE_CHECKING:
    from evstore.config import Config
    from evstore.maintenance import MigrationStatus

app = typer.Typer(help="Bring the database to the version it needs.")


@app.callback(invoke_without_command=True)
def _migrate(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())
        raise typer.Exit(2)


@app.command()
def up(
    context: typer.Context,
    output: Output = Format.TABLE,
) -> None:
    """Apply the migrations that are new.

    Each runs in a transaction of its own. Says `migrated to version N` or `already at version N`. Any number of these may run
    at the same time.
    """
    from evstore.maintenance import migrate_up

    config = _database(context)
    report = run(lambda: migrate_up(config))
    if output is not Format.TABLE:
        applied = [each.name for each in report.applied]
        print_document({"version": report.version, "applied": applied}, output)
    elif report.applied:
        print(f"migrated to version {report.version}")
    else:
        print(f"already at version {report.version}")


@app.command()
def status(
    context: typer.Context,
    output: Output = Format.TABLE,
    check: Annotated[
        bool,
        typer.Option("--check", help="End with exit code 1 if `up` has work to do."),
    ] = False,
) -> None:
    """Show which migrations are applied and which are not."""
    from evstore.maintenance import migration_status

    config = _database(context)
    found = run(lambda: migration_status(config))
    if output is Format.TABLE:
        _print_status(found)
    else:
        _print_documents(found, output)
    if check and (found.pending or any(each.dirty for each in found.applied)):
        raise typer.Exit(1)


@app.command()
def grant(
    context: typer.Context,
    role: Annotated[
        str,
        typer.Argument(metavar="ROLE", help="Role that instances are to run as."),
    ],
    apply: Annotated[
        bool,
        typer.Option("--apply", help="Run the statements instead of printing them."),
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Print what a role needs to run the store, or grant it.

    For a role that does not own the tables, and so cannot drop what guards them. Printing needs no database; --apply is for
    the owner of the tables, and grants all or nothing. The role must be there.
    """
    from evstore import maintenance

    if apply:
        config = _database(context)
        statements = run(lambda: maintenance.grant(config, role))
    else:
        statements = maintenance.grants(role)
    if output is not Format.TABLE:
        document = {"role": role, "applied": apply, "statements": statements}
        print_document(document, output)
    elif apply:
        print(f"granted to {printable(role)}")
    else:
        print("\n".join(statements))


def _database(context: typer.Context) -> Config:
    config = config_of(context)
    if config.type != "postgres":
        message = f"store.type is {config.type}: there is nothing to migrate"
        raise UsageError(f"{message}; set it to postgres")
    return config


def _print_status(found: MigrationStatus) -> None:
    rows = [
        (
            str(each.version),
            each.name,
            "dirty" if each.dirty else "applied",
            local_time(each.applied_at),
        )
        for each in found.applied
    ]
    rows += [(str(each.version), each.name, "pending", "") for each in found.pending]
    titles = ("VERSION", "NAME", "STATE", "APPLIED AT")
    print_table([Column(title) for title in titles], rows)


def _print_documents(found: MigrationStatus, output: Format) -> None:
    for done in found.applied:
        state = "dirty" if done.dirty else "applied"
        at = rfc3339(done.applied_at)
        print_document(
            {
                "version": done.version,
                "name": done.name,
                "state": state,
                "applied_at": at,
            },
            output,
        )
    for new in found.pending:
        print_document(
            {
                "version": new.version,
                "name": new.name,
                "state": "pending",
                "applied_at": None,
            },
            output,
        )
