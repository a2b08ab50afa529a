"""`evstore redact`: take a secret out of the log, for good."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .input.manifests import default_mesh
from .options import Actor, Name, OneMesh, Output, Type
from .output.documents import key_document
from .output.tables import Format, print_document
from .session import UsageError, actor_of, config_of, confirmed, open_store, run, say

if TYPE_CHECKING:
    from evstore.proof.redactor import Redaction

_SHOWN_MAX = 20


def redact(
    context: typer.Context,
    type_: Type,
    name: Name,
    version: Annotated[
        int,
        typer.Option(metavar="N", help="The version that has the secret.", min=1),
    ],
    reason: Annotated[
        str, typer.Option(metavar="WHY", help="Why; kept for good, so not the secret.")
    ],
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD",
            help="What goes: spec.users[0].password, or a JSON Pointer; may be repeated.",
        ),
    ] = None,
    body: Annotated[
        bool, typer.Option("--body", help="All of spec, status and labels goes.")
    ] = False,
    all_versions: Annotated[
        bool,
        typer.Option(
            "--all-versions",
            help="Of all other versions as well that have an equal value there.",
        ),
    ] = False,
    mesh: OneMesh = None,
    actor: Actor = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Take a secret out of the log, for good.

    An event of its own says who, when, why and what; then the stored body is replaced, and every read of it says so. The
    log still verifies. Only the owner of the tables can do this, or the role evstore-owner of a cluster.
    """
    config = config_of(context)
    if bool(field) == body:
        raise UsageError("give --field, or --body for all of it")
    where = default_mesh(type_) if mesh is None else mesh
    what = ", ".join(field) if field else "spec, status and labels"
    if not yes:
        _ask(f"Redact {what} of {type_} {name}, version {version}, for good?")

    async def work() -> tuple[Redaction, int | None]:
        from evstore.errors import NotFoundError

        async with open_store(config) as store:
            found = await store.redact(
                type_,
                name,
                mesh=where,
                version=version,
                fields=field or (),
                everywhere=all_versions,
                actor=actor_of(config, actor),
                reason=reason,
            )
            try:
                current = await store.get(type_, name, mesh=where)
            except NotFoundError:
                return found, None
            return found, current.version

    found, current = run(work)
    for position, fields in found.fields.items():
        if output is Format.TABLE:
            print(f"redacted  {found.key} at {position}: {', '.join(fields)}")
        else:
            done = {"version": position, "fields": list(fields)}
            print_document(
                {**key_document(found.key), "result": "redacted", **done}, output
            )
    _remarks(found, current)


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; give --yes")
    if not confirmed(question):
        say("nothing was done")
        raise typer.Exit(1)


def _remarks(found: Redaction, current: int | None) -> None:
    """Say what is left to do."""
    if found.holding:
        shown = ", ".join(map(str, found.holding[:_SHOWN_MAX]))
        more = len(found.holding) - _SHOWN_MAX
        shown += f" and {more} more" if more > 0 else ""
        say(f"warning: an equal value is still in the versions {shown}")
    if current in found.fields:
        say(f"warning: {current} is the current version: give it a new value")
