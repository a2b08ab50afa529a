"""`evstore watch`: what happens, as it happens."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .options import AnyMesh, AnyName, AnyType, Output
from .output.documents import event_document, local_time
from .output.tables import Format, print_document, printable
from .resources import parse_labels
from .session import UsageError, config_of, open_store, run

if TYPE_CHECKING:
    from evstore.bookmark import Bookmark
    from evstore.model import Event

_POSITION_DIGITS_MAX: Final = 18  # positions are 64-bit integers
# A table cannot be laid out before its rows are known: these fit most of them.
_ROW: Final = "{:<7}  {:<19}  {:<12}  {:<8}  {}"
_HEAD: Final = _ROW.format("POS", "TIME", "ACTOR", "CHANGE", "RESOURCE")


def watch(
    context: typer.Context,
    type_: AnyType = None,
    mesh: AnyMesh = None,
    name: AnyName = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Only what has this label, or had it before; may be repeated.",
        ),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Begin after this position (0: with the first event) or bookmark.",
        ),
    ] = None,
    initial: Annotated[
        bool,
        typer.Option("--initial", help="Begin with the last event of all that exists."),
    ] = False,
    bookmarks: Annotated[
        bool,
        typer.Option("--bookmarks", help="Show bookmarks as well, to go on from."),
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show what happens, as it happens, until Ctrl-C.

    Without --after and --initial it begins now. Tables show no specs: -o json has all.
    """
    config = config_of(context)
    labels = parse_labels(label)
    if initial and after is not None:
        raise UsageError("--initial goes without --after")
    place = None if after is None else _place(after)

    async def work() -> None:
        async with open_store(config) as store:
            watching = store.watch(
                type=type_,
                mesh=mesh,
                name=name,
                labels=labels,
                after=place,
                initial=initial,
                bookmarks=bookmarks,
            )
            # Behind the call: what it refuses is told without a table.
            if output is Format.TABLE:
                _show(_HEAD)
            async for each in watching:
                if output is Format.TABLE:
                    _show(_line(each))
                else:
                    print_document(_document(each), output)
                    sys.stdout.flush()

    run(work)


def _place(text: str) -> int | Bookmark:
    from evstore.bookmark import Bookmark
    from evstore.errors import InvalidError

    if text.isascii() and text.isdigit() and len(text) <= _POSITION_DIGITS_MAX:
        return int(text)
    try:
        return Bookmark.parse(text)
    except InvalidError as error:
        message = f"--after: {text!r} is neither a position nor a bookmark: {error}"
        raise UsageError(message) from error


def _document(each: Event | Bookmark) -> dict[str, Any]:
    from evstore.model import Event

    if isinstance(each, Event):
        return event_document(each)
    return {"bookmark": str(each), "position": each.position}


def _line(each: Event | Bookmark) -> str:
    from evstore.model import Event

    if not isinstance(each, Event):
        return f"{each.position:<7}  bookmark {each}"
    resource = f"{each.type} {each.mesh}/{each.name}".replace(" /", " ")
    first, _, more = each.reason.partition("\n")
    row = _ROW.format(
        each.position,
        local_time(each.recorded_at),
        printable(each.actor),
        each.operation.value,
        resource,
    )
    reason = printable(f"{first} ..." if more.strip() else first)
    return f"{row}  {reason}" if reason else row


def _show(line: str) -> None:
    print(line, flush=True)
