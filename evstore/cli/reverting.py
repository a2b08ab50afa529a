"""`evstore revert`: take changes back, by a new transaction."""

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from .input.manifests import default_mesh
from .input.times import moment
from .options import Actor, Output, Reason, ShowSecrets
from .output.differences import is_secret, shown
from .output.documents import key_document
from .output.tables import Column, Format, print_document, print_table, printable
from .past import print_changes
from .session import UsageError, actor_of, config_of, confirmed, open_store, run, say

if TYPE_CHECKING:
    from evstore.past.revert import Conflict, Revert

_CONFLICT_COLUMNS = (
    Column("CONFLICT", least=24),
    Column("FIELD", least=12),
    Column("NOW", least=8),
    Column("BEFORE", least=8),
)


class Choice(enum.StrEnum):
    """What becomes of what is in conflict."""

    FAIL = "fail"
    SKIP = "skip"
    FORCE = "force"


def revert(
    context: typer.Context,
    type_: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="Only this type.")
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this resource.")
    ] = None,
    commit: Annotated[
        int | None,
        typer.Option(
            metavar="POSITION",
            help="Take back the transaction that it is part of.",
            min=1,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Make it as it was: a version, a time."),
    ] = None,
    mesh: Annotated[
        str | None,
        typer.Option(
            metavar="MESH",
            help="Only this mesh; of one resource, `default` without it.",
        ),
    ] = None,
    on_conflict: Annotated[
        Choice,
        typer.Option(
            metavar="HOW",
            help="fail: apply nothing; skip: leave what is in conflict; force: overrule.",
            case_sensitive=False,
        ),
    ] = Choice.FAIL,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask, as one does on a terminal.")
    ] = False,
    actor: Actor = None,
    reason: Reason = "",
    show_secrets: ShowSecrets = False,
    output: Output = Format.TABLE,
) -> None:
    """Take changes back, by a new transaction.

    Either one transaction (--commit), or all that has happened since (--to). Of a transaction, what
    others have changed since stays; where that are the same fields there are conflicts. The past stays as it is.
    """
    config = config_of(context)
    if (commit is None) == (to is None):
        raise UsageError("give either --commit or --to")
    where = mesh
    if type_ is not None and name is not None and mesh is None:
        where = default_mesh(type_)
    what: dict[str, Any] = {
        "commit": commit,
        "to": moment(to, "--to"),
        "type": type_,
        "name": name,
        "mesh": where,
        "on_conflict": on_conflict.value,
    }

    async def work() -> Revert:
        async with open_store(config) as store:
            plan = await store.revert(**what, dry_run=True)
            _show(plan, output, show_secrets=show_secrets)
            if dry_run or plan.standing or not plan.changes:
                return plan
            if not yes:
                _ask(plan)
            return await store.revert(
                plan, actor=actor_of(config, actor), reason=reason
            )

    done = run(work)
    _conclude(done, dry_run=dry_run)


def _show(plan: Revert, output: Format, *, show_secrets: bool) -> None:
    print_changes(plan.changes, output, show_secrets=show_secrets)
    if output is not Format.TABLE:
        for each in plan.conflicts:
            print_document(_conflict_document(each), output)
    elif plan.conflicts:
        if plan.changes:
            print()
        print_table(
            _CONFLICT_COLUMNS,
            (_conflict_row(each, show_secrets=show_secrets) for each in plan.conflicts),
        )


def _ask(plan: Revert) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    if not confirmed(f"Make these changes? Resources: {len(plan.changes)}"):
        say("nothing was reverted")
        raise typer.Exit(1)


def _conclude(done: Revert, *, dry_run: bool) -> None:
    if done.commit is not None:
        met = len(done.conflicts)
        how = "left as it is" if done.on_conflict == "skip" else "overruled"
        more = f"; conflicts {how}: {met}" if met else ""
        say(f"reverted by the transaction at {done.commit}{more}")
    elif done.standing:
        say(f"error: nothing was reverted; conflicts: {len(done.standing)}")
        raise typer.Exit(1)
    elif not done.changes:
        say("nothing is left to revert")
    elif dry_run:
        say("dry run: nothing was reverted")


def _conflict_row(conflict: Conflict, *, show_secrets: bool) -> tuple[str, ...]:
    from evstore.values.diff import readable

    secret = is_secret(conflict.key.type, show=show_secrets)
    theirs, ours = (
        "" if value is msgspec.UNSET else shown(value, conflict.path, secret=secret)
        for value in (conflict.theirs, conflict.ours)
    )
    return (
        printable(f"{conflict.key} {conflict.message}"),
        printable(readable(conflict.path)),
        theirs,
        ours,
    )


def _conflict_document(conflict: Conflict) -> dict[str, Any]:
    values = {
        name: value
        for name in ("base", "ours", "theirs")
        if (value := getattr(conflict, name)) is not msgspec.UNSET
    }
    return {
        **key_document(conflict.key),
        "conflict": conflict.message,
        "path": conflict.path,
        "forcible": conflict.forcible,
        **values,
    }
