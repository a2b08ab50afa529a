"""Options and arguments that several commands have, each spelled once."""

from __future__ import annotations

from typing import Annotated

import typer

from .output.tables import Format

Type = Annotated[str, typer.Argument(metavar="TYPE", help="Type, such as Dataplane.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the resource.")]
Output = Annotated[
    Format,
    typer.Option(
        "-o",
        "--format",
        metavar="FORMAT",
        help="table, json (one document a line) or yaml.",
        case_sensitive=False,
    ),
]
AppName = Annotated[
    str | None,
    typer.Option(
        "--app",
        metavar="MODULE:FACTORY",
        envvar="EVSTORE_APP",
        show_envvar=False,
        help="Function that returns the control plane's evstore.App; else $EVSTORE_APP.",
    ),
]
OneMesh = Annotated[
    str | None,
    typer.Option(
        metavar="MESH",
        help="Mesh of the resource; without it, `default`, and none for global types.",
    ),
]
AnyType = Annotated[
    str | None, typer.Option("--type", metavar="TYPE", help="Only this type.")
]
AnyName = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Only this name.")
]
AnyActor = Annotated[
    str | None,
    typer.Option("--actor", metavar="WHO", help="Only changes of this actor."),
]
AnyMesh = Annotated[
    str | None, typer.Option(metavar="MESH", help="Only this mesh; '' is none.")
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="KEY=VALUE",
        help="Only what has this label; may be repeated.",
    ),
]
NameContains = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only names with this in them.")
]
When = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help="A position, a time, `2h` ago, `today 9:00`."),
]
At = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN",
        help="As it was then: a position, a time, `2h` ago, `yesterday 14:00`.",
    ),
]
Actor = Annotated[
    str | None,
    typer.Option(
        metavar="WHO",
        help="Who makes the change; else store.evstore.actor, else the user here.",
    ),
]
Reason = Annotated[str, typer.Option(metavar="WHY", help="Why; kept with each event.")]
ShowSecrets = Annotated[
    bool,
    typer.Option(
        "--show-secrets", help="Show the values of Secret and GlobalSecret in tables."
    ),
]
