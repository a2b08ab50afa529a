"""`evstore migrate`: bring a database to the version and rights that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .options import Output
from .output.migrating import (
    plan_document,
    print_kinds,
    print_plan,
    print_status,
    status_document,
)
from .output.tables import Format, print_document, printable
from .session import UsageError, config_of, run, say

if TYPE_CHECKING:
    from evstore.config import Config

app = typer.Typer(help="Bring the database to the version it needs.")


@app.callback(invoke_without_command=True)
def _migrate(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())
        raise typer.Exit(2)


@app.command()
def plan(
    context: typer.Context,
    output: Output = Format.TABLE,
) -> None:
    """Show what `up` would do, and whom it would leave behind.

    The migrations that are new, the locks that each takes, and the running instances that could not write or read any more
    after it. Nothing is changed and nobody has to wait.
    """
    from evstore.maintenance import migration_plan

    config = _database(context)
    found = run(lambda: migration_plan(config))
    if output is Format.TABLE:
        print_plan(found)
    else:
        print_document(plan_document(found), output)


@app.command()
def up(
    context: typer.Context,
    force: Annotated[
        bool,
        typer.Option("--force", help="Leave running instances behind, if need be."),
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Apply the migrations that are new, or install the kinds.

    Of a database, each runs in a transaction of its own; of a cluster, the kinds are those that the log needs. Says `migrated to
    version N` or `already at version N`. Any number of these may run at the same time. A migration that an instance seen in the last minute could not live with is refused, unless with --force;
    `plan` names both.
    """
    from evstore.maintenance import migrate_up

    config = _migrated(context)
    report = run(lambda: migrate_up(config, force=force))
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
    """Show which migrations are applied, and which instances run.

    An instance runs if it was seen in the last minute, by the clock of the server.
    """
    from evstore.maintenance import migration_status

    config = _migrated(context)
    if config.type == "kubernetes":
        _status_of_cluster(config, output, check=check)
        return
    found = run(lambda: migration_status(config))
    if output is Format.TABLE:
        print_status(found)
    else:
        print_document(status_document(found), output)
    if check and (found.pending or any(each.dirty for each in found.applied)):
        raise typer.Exit(1)


@app.command()
def manifests(
    context: typer.Context,
    account: Annotated[
        str,
        typer.Option(help="Service account, in the log's namespace, of the instances."),
    ] = "kuma-control-plane",
) -> None:
    """Print kinds and roles of a cluster, for `kubectl apply`.

    No cluster is reached. The role of the runtime can append and read, and neither change nor remove what was appended; the
    roles of the owner, for restoring and redacting, and of the compactor are bound to nobody.
    """
    from evstore.maintenance import cluster_manifests

    config = config_of(context)
    print(cluster_manifests(config, account=account), end="")


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


def _status_of_cluster(config: Config, output: Format, *, check: bool) -> None:
    from evstore.maintenance import cluster_status

    found = run(lambda: cluster_status(config))
    if output is Format.TABLE:
        print_kinds(found)
    else:
        for each in found:
            print_document({"name": each.name, "version": each.version}, output)
    if check and any(each.version == 0 for each in found):
        raise typer.Exit(1)


def _migrated(context: typer.Context) -> Config:
    config = config_of(context)
    return config if config.type == "kubernetes" else _database(context)


def _database(context: typer.Context) -> Config:
    config = config_of(context)
    if config.type != "postgres":
        message = f"store.type is {config.type}: there is nothing to migrate"
        raise UsageError(f"{message}; set it to postgres")
    return config
