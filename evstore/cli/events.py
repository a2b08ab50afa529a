"""`evstore log` and `evstore history`: what happened, and what it changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from .changes import ABSENT, Difference, differences
from .documents import SECRET_TYPES, event_document, local_time
from .manifests import default_mesh
from .options import AnyMesh, Name, OneMesh, Output, ShowSecrets, Type
from .output import (
    Column,
    Format,
    Table,
    print_document,
    print_documents,
    print_table,
    printable,
)
from .session import UsageError, config_of, open_store, run, say
from .times import moment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from evstore.model import Event
    from evstore.store import Store

_CHANGES_SHOWN_MAX: Final = 12
_LOG_COLUMNS: Final = (
    Column("POS"),
    Column("TIME"),
    Column("ACTOR", least=7, cut=True),
    Column("CHANGE"),
    Column("RESOURCE", least=18),
    Column("REASON", least=12),
)

When = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help="A position, a time, `2h` ago, `today 9:00`."),
]


def log(
    context: typer.Context,
    type_: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Only this type.")
    ] = None,
    mesh: AnyMesh = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this name.")
    ] = None,
    actor: Annotated[
        str | None, typer.Option(metavar="WHO", help="Only changes of this actor.")
    ] = None,
    since: When = None,
    until: When = None,
    after: Annotated[
        int, typer.Option(metavar="POSITION", help="Only after this position.", min=0)
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Only the newest N.", min=1)
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Newest first.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show what happened, newest last.

    --since and --until include what they name. Tables show no specs: -o json has all.
    """
    config = config_of(context)
    first, last = moment(since, "--since"), moment(until, "--until")

    async def work() -> int:
        async with open_store(config) as store:
            found: AsyncIterator[Event] = store.events(
                type=type_,
                mesh=mesh,
                name=name,
                actor=actor,
                since=first,
                until=last,
                after=after,
                reverse=reverse or limit is not None,
                limit=limit,
            )
            if limit is not None and not reverse:
                found = _turned(found)
            return await _print_log(found, output)

    if not run(work) and output is Format.TABLE:
        say("there are no such events")


async def _turned(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    for event in reversed([event async for event in events]):
        yield event


async def _print_log(events: AsyncIterator[Event], output: Format) -> int:
    table, count = Table(_LOG_COLUMNS), 0
    async for event in events:
        count += 1
        if output is Format.TABLE:
            table.add(*_log_row(event))
        else:
            print_document(event_document(event), output)
    table.finish()
    return count


def _log_row(event: Event) -> tuple[str, ...]:
    first, _, more = event.reason.partition("\n")
    return (
        str(event.position),
        local_time(event.recorded_at),
        printable(event.actor),
        event.operation.value,
        f"{event.type} {event.mesh}/{event.name}".replace(" /", " "),
        printable(f"{first} ..." if more.strip() else first),
    )


class Version(msgspec.Struct, frozen=True):
    """One event of a resource: in which of its lives, and what it changed."""

    event: Event
    incarnation: int
    changes: list[Difference]

    def document(self) -> dict[str, Any]:
        """Return the event with its changes."""
        return {
            **event_document(self.event),
            "incarnation": self.incarnation,
            "changes": [each.document() for each in self.changes],
        }


def history(
    context: typer.Context,
    type_: Type,
    name: Name,
    mesh: OneMesh = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="Only the newest N versions.", min=1),
    ] = None,
    show_secrets: ShowSecrets = False,
    output: Output = Format.TABLE,
) -> None:
    """Show what each version of a resource changed.

    Newest last. A resource that was deleted and created again has several incarnations, which are
    counted. Without --mesh, and where the default mesh never had one, it is the only
    one of that name in any mesh.
    """
    config = config_of(context)

    async def work() -> list[Event]:
        async with open_store(config) as store:
            return await _events_of(store, type_, name, mesh)

    versions = list(follow(run(work)))[-(limit or 0) :]
    if output is Format.TABLE:
        secret = type_ in SECRET_TYPES and not show_secrets
        _print_history(versions, secret=secret)
    else:
        print_documents((each.document() for each in versions), output)


async def _events_of(
    store: Store, type_: str, name: str, mesh: str | None
) -> list[Event]:
    from evstore.errors import NotFoundError
    from evstore.model import Key

    where = default_mesh(type_) if mesh is None else mesh
    found = [event async for event in store.events(type=type_, mesh=where, name=name)]
    if not found and mesh is None:
        found = [event async for event in store.events(type=type_, name=name)]
        meshes = sorted({event.mesh for event in found})
        if len(meshes) > 1:
            listed = ", ".join(each or "''" for each in meshes)
            message = f"{type_} {name} is in several meshes: {listed}; give --mesh"
            raise UsageError(message)
    if not found:
        key = Key(type=type_, mesh=where, name=name)
        raise NotFoundError(f"{key} never existed")
    return found


def follow(events: Iterable[Event]) -> Iterator[Version]:
    """Yield the versions that the events of one resource make."""
    before: dict[str, Any] = {}
    incarnation = 0
    for event in events:
        after = before
        match event.operation.value:
            case "created":
                incarnation += 1
                after = _content(event)
            case "updated":
                after = _content(event)
            case "deleted":
                after = {}
            case _:
                pass  # a redaction changes no version
        yield Version(event, incarnation, _changes(before, after, event))
        before = after


def _content(event: Event) -> dict[str, Any]:
    content = {"spec": event.spec, "labels": event.labels, "status": event.status}
    return {
        name: value
        for name, value in content.items()
        if value not in ({}, None) or name == "spec"
    }


def _changes(
    before: dict[str, Any], after: dict[str, Any], event: Event
) -> list[Difference]:
    if event.operation.value == "deleted":
        return []  # all of it: what the version before had
    return [
        each
        for name in ("spec", "labels", "status")
        for each in differences(before.get(name, ABSENT), after.get(name, ABSENT), name)
    ]


_HISTORY_COLUMNS: Final = (Column("VERSION"), Column("CHANGE", least=20))


def _print_history(versions: list[Version], *, secret: bool) -> None:
    lives = versions[-1].incarnation if versions else 0
    print_table(
        _HISTORY_COLUMNS,
        (
            (
                str(each.event.position),
                "\n".join(_lines(each, lives=lives, secret=secret)),
            )
            for each in versions
        ),
    )


def _lines(version: Version, *, lives: int, secret: bool) -> Iterator[str]:
    event = version.event
    which = f" (incarnation {version.incarnation})" if lives > 1 else ""
    reason = f": {event.reason}" if event.reason else ""
    when = local_time(event.recorded_at)
    yield printable(f"{when}  {event.actor} {event.operation.value}{which}{reason}")
    for each in version.changes[:_CHANGES_SHOWN_MAX]:
        yield "  " + printable(each.line(secret=secret))
    more = len(version.changes) - _CHANGES_SHOWN_MAX
    if more > 0:
        yield f"  and {more} more (-o json has all)"
