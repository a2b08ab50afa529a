"""`evstore log` and `evstore history`: what happened, and what it changed."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .input.times import moment
from .options import (
    AnyActor,
    AnyMesh,
    AnyName,
    AnyType,
    Name,
    OneMesh,
    Output,
    ShowSecrets,
    Type,
    When,
)
from .output.differences import block, difference_document, difference_lines, is_secret
from .output.documents import event_document, local_time
from .output.tables import Column, Format, Table, print_document, print_table, printable
from .scope import mesh_of, note_floor, range_of, version_at
from .session import UsageError, config_of, open_store, run, say

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from datetime import datetime

    from evstore.model import Event
    from evstore.past.changed import Version
    from evstore.store.facade import Store

    from .output.tables import Cell

_LOG_COLUMNS: Final = (
    Column("POS"),
    Column("TIME"),
    Column("ACTOR", least=7, cut=True),
    Column("CHANGE"),
    Column("RESOURCE", least=18),
    Column("REASON", least=12),
)
_DIFF_COLUMNS: Final = (Column("POS"), Column("CHANGE", least=20))
_RETRY_SECONDS: Final = 0.5


def log(
    context: typer.Context,
    type_: AnyType = None,
    mesh: AnyMesh = None,
    name: AnyName = None,
    actor: AnyActor = None,
    operation: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT", help="Only created, updated, deleted or redacted."
        ),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only reasons with this in them."),
    ] = None,
    since: When = None,
    until: When = None,
    after: Annotated[
        int | None,
        typer.Option(metavar="POSITION", help="Only after this position.", min=0),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Only the newest N.", min=1)
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Newest first.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what happens, until Ctrl-C.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what each event changed.")
    ] = False,
    show_secrets: ShowSecrets = False,
    output: Output = Format.TABLE,
) -> None:
    """Show what happened, newest last.

    All filters must pass. --since and --until include what they name. Without --diff, tables show no specs: -o json has all.
    """
    config = config_of(context)
    if follow and (reverse or until is not None):
        raise UsageError("--follow goes without --reverse and --until")
    where = {
        "type": type_,
        "mesh": mesh,
        "name": name,
        "actor": actor,
        "operation": operation,
        "reason": reason,
    }
    first, last = moment(since, "--since"), moment(until, "--until")

    async def work() -> int:
        async with open_store(config) as store:
            bounds, floor = range_of(store, since=first, until=last, after=after)
            log_ = _Log(store, where, diff=diff)
            rows = _Rows(output, diff=diff, show_secrets=show_secrets)
            if follow:
                bounds["until"] = await store.head()
            found = log_.past(bounds, limit=limit, reverse=reverse)
            async with aclosing(found):
                async for each in found:
                    rows.add(each)
            rows.flush()
            note_floor(floor, whole=rows.count == limit)
            if follow:
                async for each in log_.following(bounds["until"], bounds=bounds):
                    rows.add(each)
                    rows.flush()
            return rows.count

    if not run(work) and output is Format.TABLE:
        say("there are no such events")


class _Log:
    """The events that the filters let through, as versions where `diff` is asked for."""

    def __init__(self, store: Store, where: dict[str, Any], *, diff: bool) -> None:
        self._store = store
        self._where = where
        self._diff = diff

    async def past(
        self, bounds: dict[str, Any], *, limit: int | None, reverse: bool
    ) -> AsyncGenerator[Event | Version]:
        # The newest N, newest last, are read from the end and turned.
        turned = limit is not None and not reverse
        read = self._store.history if self._diff else self._store.events
        found: AsyncIterator[Event | Version] = read(
            **self._where, **bounds, reverse=reverse or turned, limit=limit
        )
        if turned:
            for each in reversed([each async for each in found]):
                yield each
        else:
            async for each in found:
                yield each

    async def following(
        self, head: int, *, bounds: dict[str, Any]
    ) -> AsyncGenerator[Event | Version]:
        """Yield what comes behind `head` and not before `bounds`."""
        from evstore.model import Filter, Operation

        where = self._where
        operation = where["operation"]
        rest = Filter(
            actor=where["actor"],
            reason=where["reason"],
            operation=None if operation is None else Operation(operation),
        )
        async for event in self._store.watch(
            type=where["type"], mesh=where["mesh"], name=where["name"], after=head
        ):
            if rest.accepts(event.stored) and _is_within(event, bounds):
                yield await self._version(event) if self._diff else event

    async def _version(self, event: Event) -> Version:
        """Return an event with what was there before it.

        A log that cannot be reached is waited for, as the watch does.
        """
        import anyio

        from evstore.errors import UnavailableError

        while True:
            own = self._store.history(after=event.position - 1, until=event.position)
            try:
                return await anext(own)
            except UnavailableError:
                await anyio.sleep(_RETRY_SECONDS)
            finally:
                await own.aclose()


def _is_within(event: Event, bounds: dict[str, Any]) -> bool:
    if event.position <= bounds["after"]:
        return False
    since: int | datetime | None = bounds["since"]
    if since is None:
        return True
    if isinstance(since, int):
        return event.position >= since
    return event.recorded_at >= since


class _Rows:
    """Prints events or versions as they come, in one form."""

    def __init__(self, output: Format, *, diff: bool, show_secrets: bool) -> None:
        self._output = output
        self._show_secrets = show_secrets
        self._table = Table(_DIFF_COLUMNS if diff else _LOG_COLUMNS)
        self.count = 0

    def add(self, each: Event | Version) -> None:
        from evstore.model import Event

        self.count += 1
        if self._output is not Format.TABLE:
            document = (
                event_document(each)
                if isinstance(each, Event)
                else version_document(each)
            )
            print_document(document, self._output)
        elif isinstance(each, Event):
            self._table.add(*_log_row(each))
        else:
            heading = _heading(each.event, resource=True)
            self._table.add(
                str(each.event.position),
                _version_cell(each, heading, show_secrets=self._show_secrets),
            )

    def flush(self) -> None:
        """Show what has been added."""
        self._table.finish()
        sys.stdout.flush()


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


def version_document(version: Version) -> dict[str, Any]:
    """Return an event for JSON, with its incarnation and what it changed."""
    return {
        **event_document(version.event),
        "created_version": version.created_version,
        "changes": [difference_document(each) for each in version.differences],
        "patch": version.patch,
    }


def _version_cell(version: Version, heading: str, *, show_secrets: bool) -> Cell:
    secret = is_secret(version.event.type, show=show_secrets)
    return block(heading, difference_lines(version.differences, secret=secret))


def _heading(event: Event, *, resource: bool = False) -> str:
    what = f" {event.key}" if resource else ""
    reason = f": {event.reason}" if event.reason else ""
    actor = f"  {event.actor}" if event.actor else " "
    when = local_time(event.recorded_at)
    return f"{when}{actor} {event.operation.value}{what}{reason}"


def history(
    context: typer.Context,
    type_: Type,
    name: Name,
    mesh: OneMesh = None,
    since: When = None,
    until: When = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="Only the newest N versions.", min=1),
    ] = None,
    show_secrets: ShowSecrets = False,
    output: Output = Format.TABLE,
) -> None:
    """Show what each version of a resource changed.

    Newest last. A resource that was deleted and created again has several incarnations, each called by
    the version that it began with. Without --mesh, and where the default mesh never had one, it is the only
    one of that name in any mesh.
    """
    config = config_of(context)
    first, last = moment(since, "--since"), moment(until, "--until")

    async def work() -> tuple[list[Version], int, str]:
        async with open_store(config) as store:
            bounds, floor = range_of(store, since=first, until=last)
            where = await mesh_of(store, type_, name, mesh)
            found = store.history(
                type_, name, mesh=where, **bounds, reverse=True, limit=limit
            )
            versions = [each async for each in found][::-1]
            return versions, floor, await version_at(store, floor, type_, name, where)

    versions, floor, left = run(work)
    if output is not Format.TABLE:
        for each in versions:
            print_document(version_document(each), output)
    elif versions:
        _print_history(versions, show_secrets=show_secrets)
    else:
        say("there are no such versions")
    note_floor(floor, left, whole=len(versions) == limit)


_HISTORY_COLUMNS: Final = (
    Column("VERSION"),
    Column("INCARNATION"),
    Column("CHANGE", least=20),
)


def _print_history(versions: list[Version], *, show_secrets: bool) -> None:
    several = len({each.created_version for each in versions}) > 1
    print_table(
        _HISTORY_COLUMNS,
        (
            (
                str(each.event.position),
                str(each.created_version) if several else "",
                _version_cell(each, _heading(each.event), show_secrets=show_secrets),
            )
            for each in versions
        ),
    )
