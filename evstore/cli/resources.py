"""`evstore get`, `list` and `delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from evstore.model import SECRET_TYPES

from .input.manifests import default_mesh
from .input.times import past_moment
from .options import (
    Actor,
    AnyMesh,
    At,
    Labels,
    Name,
    NameContains,
    OneMesh,
    Output,
    Reason,
    ShowSecrets,
    Type,
)
from .output import documents
from .output.tables import (
    Column,
    Format,
    print_document,
    print_documents,
    print_table,
    printable,
)
from .session import UsageError, actor_of, config_of, open_store, run, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from evstore.model import Event, Resource
    from evstore.store.facade import Store


def get(
    context: typer.Context,
    type_: Type,
    name: Name,
    mesh: OneMesh = None,
    at: At = None,
    show_secrets: ShowSecrets = False,
    output: Output = Format.TABLE,
) -> None:
    """Show one resource, as it is or as it was.

    Without --mesh, and where the default mesh has none, it is the only one of that
    name in any mesh. What `-o yaml` prints can be given to `apply`.
    """
    moment = past_moment(at, "--at")
    show_one(
        context, type_, name, mesh, moment, show_secrets=show_secrets, output=output
    )


def show_one(
    context: typer.Context,
    type_: str,
    name: str,
    mesh: str | None,
    moment: int | datetime | None,
    *,
    show_secrets: bool,
    output: Format,
) -> None:
    """Show one resource, as it is or as it was."""
    config = config_of(context)

    async def work() -> Resource[Any]:
        async with open_store(config) as store:
            if mesh is not None:
                return await store.get(type_, name, mesh=mesh, at=moment)
            return await _get_anywhere(store, type_, name, at=moment)

    found = run(work)
    if output is Format.TABLE:
        print_table(
            [Column(""), Column("", least=20)],
            _fields(found, show_secrets),
            header=False,
        )
    else:
        print_document(documents.resource_document(found), output)


def list_(
    context: typer.Context,
    type_: Type,
    mesh: AnyMesh = None,
    at: At = None,
    label: Labels = None,
    name_contains: NameContains = None,
    output: Output = Format.TABLE,
) -> None:
    """List the resources of a type.

    They are ordered by name, then mesh; without --mesh, those of all meshes are listed.
    """
    show_all(
        context,
        type_,
        mesh,
        past_moment(at, "--at"),
        label=label,
        name_contains=name_contains,
        output=output,
    )


def show_all(
    context: typer.Context,
    type_: str,
    mesh: str | None,
    moment: int | datetime | None,
    *,
    label: Iterable[str] | None,
    name_contains: str | None,
    output: Format,
) -> None:
    """List the resources of a type, as they are or as they were."""
    config = config_of(context)
    labels = parse_labels(label)

    async def work() -> Sequence[Resource[Any]]:
        async with open_store(config) as store:
            page = await store.list(
                type_, mesh=mesh, at=moment, labels=labels, name_contains=name_contains
            )
        return page.items

    found = run(work)
    if output is not Format.TABLE:
        print_documents(map(documents.resource_document, found), output)
    elif found:
        print_table(_LIST_COLUMNS, map(_list_row, found))
    else:
        say(f"there is no such {type_}")


def delete(
    context: typer.Context,
    type_: Type,
    name: Name,
    mesh: OneMesh = None,
    version: Annotated[
        int | None,
        typer.Option(metavar="N", help="Only if it is at this version.", min=1),
    ] = None,
    actor: Actor = None,
    reason: Reason = "",
    output: Output = Format.TABLE,
) -> None:
    """Delete a resource and all that it owns.

    It is one transaction. Everything that was deleted is printed. It all stays in the history.
    """
    config = config_of(context)
    where = default_mesh(type_) if mesh is None else mesh

    async def work() -> list[Event]:
        async with open_store(config) as store:
            try:
                await store.delete(
                    type_,
                    name,
                    mesh=where,
                    version=version,
                    actor=actor_of(config, actor),
                    reason=reason,
                )
            except NotFoundError as error:
                raise await _with_hint(error, store, type_, name) from None
            return await _deletion(store, type_, name, where)

    from evstore.errors import NotFoundError

    for event in run(work):
        if output is Format.TABLE:
            print(f"deleted   {event.key}")
        else:
            deleted = documents.key_document(event.key)
            print_document(
                {**deleted, "result": "deleted", "version": event.position}, output
            )


async def _get_anywhere(
    store: Store, type_: str, name: str, *, at: int | datetime | None
) -> Resource[Any]:
    """Return the resource of the default mesh, else the only one of any mesh."""
    from evstore.errors import NotFoundError

    try:
        return await store.get(type_, name, mesh=default_mesh(type_), at=at)
    except NotFoundError as error:
        page = await store.list(type_, at=at, where=lambda each: each.name == name)
        if not page.items:
            raise
        if len(page.items) > 1:
            meshes = ", ".join(each.mesh or "''" for each in page.items)
            message = f"{error}, but in several other meshes: {meshes}; give --mesh"
            raise UsageError(message) from None
        return page.items[0]


async def _with_hint(
    error: Exception, store: Store, type_: str, name: str
) -> Exception:
    """Return the error that nothing was found; it names where there is such a one."""
    from evstore.errors import NotFoundError

    page = await store.list(type_, where=lambda each: each.name == name)
    if not page.items:
        return error
    meshes = " or ".join(f"--mesh {each.mesh or chr(39) * 2}" for each in page.items)
    return NotFoundError(f"{error}; there is one with {meshes}")


async def _deletion(store: Store, type_: str, name: str, mesh: str) -> list[Event]:
    """Return the events of the deletion that was just made, in their order."""
    found: list[Event] = []
    last = None
    async for event in store.events(type=type_, mesh=mesh, name=name, reverse=True):
        if event.operation == "deleted":
            last = event
            break
    assert last is not None, "it was deleted"
    async for event in store.events(until=last.position, reverse=True):
        if event.commit != last.commit:
            break
        found.append(event)
    return found[::-1]


def parse_labels(given: Iterable[str] | None) -> dict[str, str]:
    """Return the labels that `--label` names.

    Raises:
        UsageError: one of them is not KEY=VALUE.
    """
    return dict(map(_pair, given or ()))


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise UsageError(f"--label: {text!r} is not KEY=VALUE")
    return name, value


_LIST_COLUMNS = (
    Column("MESH"),
    Column("NAME", least=16),
    Column("VERSION"),
    Column("MODIFIED"),
    Column("LABELS", least=12),
)


def _list_row(resource: Resource[Any]) -> tuple[str, ...]:
    return (
        resource.mesh,
        resource.name,
        str(resource.version),
        documents.local_time(resource.modified_at),
        _labels(resource.labels),
    )


def _labels(labels: dict[str, str]) -> str:
    return printable(",".join(f"{name}={value}" for name, value in labels.items()))


def _fields(resource: Resource[Any], show_secrets: bool) -> list[tuple[str, str]]:
    from .yaml_text import dump

    hidden = resource.type in SECRET_TYPES and not show_secrets
    spec = documents.masked(resource.spec) if hidden else resource.spec
    created = documents.local_time(resource.created_at)
    modified = documents.local_time(resource.modified_at)
    rows = [
        ("type", resource.type),
        ("mesh", resource.mesh),
        ("name", resource.name),
        ("labels", _labels(resource.labels)),
        ("owner", str(resource.owner or "")),
        ("redacted", printable(", ".join(resource.redacted))),
        ("version", f"{resource.version}, at {modified}"),
        ("created", f"{resource.created_version}, at {created}"),
        ("spec", dump(spec).rstrip("\n")),
    ]
    if resource.status is not None:
        rows.append(("status", dump(resource.status).rstrip("\n")))
    return [row for row in rows if row[1]]
