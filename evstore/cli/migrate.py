"""`evstore migrate`: bring a database to the version and rights that it needs."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from .input.app import app_of
from .options import AppName, Output
from .output.migrating import (
    note_left_out,
    plan_document,
    print_plan,
    print_report,
    print_status,
    report_document,
    status_document,
)
from .output.progress import folding
from .output.tables import Format, print_document, printable
from .session import UsageError, config_of, prompt, run, say

if TYPE_CHECKING:
    import anyio

    from evstore import App
    from evstore.config import Config
    from evstore.maintenance import MigrationReport

_INTERRUPTED = 130

app = typer.Typer(help="Bring the database, or the cluster, to the version it needs.")


@app.callback(invoke_without_command=True)
def _migrate(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())
        raise typer.Exit(2)


@app.command()
def plan(
    context: typer.Context,
    app: AppName = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what `up` would do, and whom it would leave behind.

    The migrations that are new, the locks that each takes, the running instances that could not write or read any more after
    it, and the projections that are to be folded again, with the instances that fold them by other code. Nothing is changed
    and nobody has to wait.
    """
    from evstore.maintenance import migration_plan

    program = app_of(app)
    config = _migrated(context)
    found = run(lambda: migration_plan(config, app=program))
    if output is Format.TABLE:
        what = "cluster" if config.type == "kubernetes" else "database"
        print_plan(found, what=what)
    else:
        print_document(plan_document(found), output)
    note_left_out(found.left_out)


@app.command()
def up(
    context: typer.Context,
    app: AppName = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Leave running instances behind, if need be."),
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Apply the migrations that are new, and rebuild projections.

    Each migration runs in a transaction of its own; into a cluster the kinds are installed that the log needs. Says `migrated to
    version N` or `already at version N`. Any number of these may run at the same time. A migration that an instance seen in the
    last minute could not live with is refused, unless with --force; `plan` names both.

    Then the projections of --app are folded, so that a start need not: those that only other code has stored, and those that
    are far behind. Ctrl-C stores what is folded by then, and the next run goes on from there. Exit code 1 where one stops.
    """
    program = app_of(app)
    config = _migrated(context)
    try:
        report = run(lambda: _up(config, program, force=force))
    except KeyboardInterrupt:
        say("interrupted: what is done stays, and the next run goes on from there")
        raise typer.Exit(_INTERRUPTED) from None
    if output is Format.TABLE:
        print_report(report)
    else:
        print_document(report_document(report), output)
    note_left_out(report.left_out)
    stopped = [each for each in report.rebuilt if each.stopped is not None]
    for each in stopped:
        assert each.stopped is not None
        say(
            f"error: projection {each.name} stopped at position"
            f" {each.stopped.position}: {each.stopped.cause}; correct it and raise its"
            " version"
        )
    if not report.complete:
        say(
            f"interrupted at position {report.position:,} of {report.head:,}; the next"
            " run, or a start, goes on from there"
        )
        raise typer.Exit(_INTERRUPTED)
    if stopped:
        raise typer.Exit(1)


async def _up(config: Config, program: App | None, *, force: bool) -> MigrationReport:
    """Migrate and rebuild; the first Ctrl-C has what is folded stored, another none."""
    import anyio

    from evstore.background import background
    from evstore.maintenance import migrate_up

    enough = anyio.Event()
    folds = anyio.Event()
    report: MigrationReport | None = None
    with anyio.CancelScope() as scope:
        async with background() as tasks:
            if threading.current_thread() is threading.main_thread():
                # Signals come to no other, nor does Ctrl-C.
                await tasks.start(_listen, scope, folds, enough)
            with folding("rebuilding") as told:

                def advance(done: int, total: int) -> None:
                    folds.set()
                    told(done, total)

                report = await migrate_up(
                    config, force=force, app=program, advance=advance, enough=enough
                )
    if report is None:
        raise KeyboardInterrupt
    return report


async def _listen(
    scope: anyio.CancelScope,
    folds: anyio.Event,
    enough: anyio.Event,
    *,
    task_status: anyio.abc.TaskStatus[None],
) -> None:
    import anyio

    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            if enough.is_set() or not folds.is_set():
                scope.cancel()
            else:
                say("storing what is folded by now; Ctrl-C again ends at once")
                enough.set()


@app.command()
def status(
    context: typer.Context,
    app: AppName = None,
    output: Output = Format.TABLE,
    check: Annotated[
        bool,
        typer.Option("--check", help="End with exit code 1 if `up` has work to do."),
    ] = False,
) -> None:
    """Show migrations, projections, snapshots and instances.

    Of each projection how far it is stored, by which code, and who runs that. An instance runs if it was seen in the last
    minute, by the clock of the server, and was not closed since.
    """
    from evstore.maintenance import migration_status

    program = app_of(app)
    config = _migrated(context)
    found = run(lambda: migration_status(config, app=program))
    if output is Format.TABLE:
        print_status(found)
    else:
        print_document(status_document(found), output)
    dirty = any(each.dirty for each in found.applied)
    missing = any(each.version == 0 for each in found.kinds)
    if check and (found.pending or dirty or missing or found.due):
        raise typer.Exit(1)


@app.command()
def manifests(
    context: typer.Context,
    account: Annotated[
        str,
        typer.Option(
            metavar="[NAMESPACE:]NAME",
            help="Service account of the instances; without a namespace in the log's.",
        ),
    ] = "kuma-control-plane",
    admission_policy: Annotated[
        bool,
        typer.Option(
            "--admission-policy",
            help="Also a policy by which changes stay as they are, whatever rights"
            " somebody has; for Kubernetes 1.30 and later.",
        ),
    ] = False,
    exempt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER",
            help="User whom that policy lets redact and compact, as `kubectl auth"
            " whoami` names them. May be given several times.",
        ),
    ] = None,
) -> None:
    """Print kinds and roles of a cluster, for `kubectl apply`.

    No cluster is reached. The role of the runtime can append and read, and neither change nor remove what was appended; the
    roles of the owner, for restoring and redacting, and of the compactor are bound to nobody.
    """
    from evstore.maintenance import cluster_manifests

    if exempt and not admission_policy:
        message = "--exempt says whom the policy lets pass: it takes --admission-policy"
        raise UsageError(message)
    config = config_of(context)
    printed = cluster_manifests(
        config, account=account, admission_policy=admission_policy, exempt=exempt or ()
    )
    print(printed, end="")


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

    config = config_of(context)
    if config.type == "kubernetes":
        message = "store.type is kubernetes: a cluster binds roles instead of granting"
        raise UsageError(
            f"{message}; `evstore migrate manifests --account NAME` prints them"
        )
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


def _migrated(context: typer.Context) -> Config:
    config = config_of(context)
    return prompt(config) if config.type == "kubernetes" else _database(context)


def _database(context: typer.Context) -> Config:
    config = config_of(context)
    if config.type != "postgres":
        message = f"store.type is {config.type}: there is nothing to migrate"
        raise UsageError(f"{message}; set it to postgres or kubernetes")
    return prompt(config)
