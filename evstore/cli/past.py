"""`evstore diff` and `evstore blame`: what changed, and who did it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .input.times import past_moment
from .options import (
    AnyMesh,
    AnyName,
    AnyType,
    At,
    Name,
    OneMesh,
    Output,
    ShowSecrets,
    Type,
)
from .output.differences import change_cell, change_document, is_secret, shown
from .output.documents import local_time, rfc3339
from .output.tables import Column, Format, print_document, print_table, printable
from .scope import mesh_of, note_floor
from .session import config_of, open_store, run, say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evstore.past.blame import Blame, BlamedLeaf
    from evstore.past.changed import Diff, ResourceChange

    from .output.tables import Cell

CHANGE_COLUMNS = (Column("VERSIONS"), Column("CHANGE", least=20))
_BLAME_COLUMNS = (
    Column("POS"),
    Column("TIME"),
    Column("ACTOR", least=7, cut=True),
    Column("FIELD", least=16),
    Column("VALUE", least=8),
    Column("REASON", least=8),
)


def diff(
    context: typer.Context,
    from_: Annotated[
        str, typer.Argument(metavar="FROM", help="A position, a time, `2h` ago.")
    ],
    to: Annotated[
        str, typer.Argument(metavar="TO", help="The same; without it, now.")
    ] = "now",
    type_: AnyType = None,
    mesh: AnyMesh = None,
    name: AnyName = None,
    show_secrets: ShowSecrets = False,
    output: Output = Format.TABLE,
) -> None:
    """Show which resources differ between two moments, and how.

    What changed and changed back is not shown. Where TO is the earlier one, it is what going back would
    change. The exit code is 0 whether anything differs or not. -o json has a JSON Patch for each.
    """
    config = config_of(context)
    before, after = past_moment(from_, "FROM"), past_moment(to, "TO")

    async def work() -> Diff:
        async with open_store(config) as store:
            return await store.diff(
                await store.head() if before is None else before,
                after,
                type=type_,
                mesh=mesh,
                name=name,
            )

    found = run(work)
    print_changes(found.changes, output, show_secrets=show_secrets)
    if not found.changes and output is Format.TABLE:
        say(f"nothing differs between the positions {found.before} and {found.after}")


def print_changes(
    changes: Iterable[ResourceChange], output: Format, *, show_secrets: bool
) -> None:
    """Print what changed of each resource."""
    if output is Format.TABLE:
        rows = (change_cell(each, show_secrets=show_secrets) for each in changes)
        print_table(CHANGE_COLUMNS, rows)
        return
    for each in changes:
        print_document(change_document(each), output)


def blame(
    context: typer.Context,
    type_: Type,
    name: Name,
    mesh: OneMesh = None,
    at: At = None,
    show_secrets: ShowSecrets = False,
    output: Output = Format.TABLE,
) -> None:
    """Show who last changed each field of a resource, and why.

    An element of a list that only moved keeps its own change. Without --mesh, and where the default mesh
    never had one, it is the only one of that name in any mesh.
    """
    config = config_of(context)
    moment = past_moment(at, "--at")

    async def work() -> tuple[Blame, int]:
        async with open_store(config) as store:
            where = await mesh_of(store, type_, name, mesh)
            found = await store.blame(type_, name, mesh=where, at=moment)
            return found, store.floor

    found, floor = run(work)
    if any(leaf.or_before for leaf in found.leaves):
        note_floor(floor, "<= is the change at that position, or one before it")
    if output is Format.TABLE:
        secret = is_secret(type_, show=show_secrets)
        rows = (_blame_row(each, secret=secret) for each in found.leaves)
        print_table(_BLAME_COLUMNS, rows)
        return
    for each in found.leaves:
        print_document(_blame_document(each), output)


def _blame_row(leaf: BlamedLeaf, *, secret: bool) -> tuple[Cell, ...]:
    from evstore.values.diff import readable

    event = leaf.event
    # Of what was compacted nobody knows who it was, and when.
    known = not leaf.or_before
    return (
        str(event.position) if known else f"<={event.position}",
        local_time(event.recorded_at) if known else "",
        printable(event.actor) if known else "",
        printable(readable(leaf.path)),
        shown(leaf.value, leaf.path, secret=secret),
        printable(event.reason) if known else "",
    )


def _blame_document(leaf: BlamedLeaf) -> dict[str, Any]:
    event = leaf.event
    return {
        "path": leaf.path,
        "value": leaf.value,
        "position": event.position,
        "recorded_at": None if leaf.or_before else rfc3339(event.recorded_at),
        "actor": None if leaf.or_before else event.actor,
        "reason": None if leaf.or_before else event.reason,
        "or_before": leaf.or_before,
    }
