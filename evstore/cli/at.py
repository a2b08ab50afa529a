"""`evstore at WHEN list|get`: the commands that look, at any moment of the past."""

from __future__ import annotations

from typing import Annotated

import typer

from . import resources
from .input.times import past_moment
from .options import (
    AnyMesh,
    Labels,
    Name,
    NameContains,
    OneMesh,
    Output,
    ShowSecrets,
    Type,
)
from .output.tables import Format

app = typer.Typer(
    help="List or get resources as they were at a position or a time.",
    no_args_is_help=False,
)


@app.callback()
def at(
    context: typer.Context,
    when: Annotated[
        str,
        typer.Argument(
            metavar="WHEN",
            help="A position, a time, `2h` ago, `yesterday 14:00`.",
        ),
    ],
) -> None:
    """List or get resources as they were at a position or a time."""
    context.meta[_WHEN] = past_moment(when, "WHEN")


_WHEN = "evstore.when"


@app.command(name="get")
def get(
    context: typer.Context,
    type_: Type,
    name: Name,
    mesh: OneMesh = None,
    show_secrets: ShowSecrets = False,
    output: Output = Format.TABLE,
) -> None:
    """Show one resource as it was; see `evstore get`."""
    moment = context.meta[_WHEN]
    resources.show_one(
        context, type_, name, mesh, moment, show_secrets=show_secrets, output=output
    )


@app.command(name="list")
def list_(
    context: typer.Context,
    type_: Type,
    mesh: AnyMesh = None,
    label: Labels = None,
    name_contains: NameContains = None,
    output: Output = Format.TABLE,
) -> None:
    """List the resources of a type as they were; see `evstore list`."""
    moment = context.meta[_WHEN]
    resources.show_all(
        context,
        type_,
        mesh,
        moment,
        label=label,
        name_contains=name_contains,
        output=output,
    )
