"""`evstore stats`: what happens in the log, who is busy, and how it grows."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .input.files import written
from .input.times import moment
from .options import Output, When
from .output import charts
from .output.figures import document, per_day, summary
from .output.tables import Format, print_document, printable
from .session import config_of, quiet, run, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from evstore.past.stats import Stats

_HEIGHT: Final = 5
_HOUR_COLUMNS: Final = 3
_GAP: Final = 2
_NAME_WIDTH_LEAST: Final = 24
_BAR_WIDTH_LEAST: Final = 12
_BAR_WIDTH_MAX: Final = 60
_TYPES_SHOWN_MAX: Final = 20
_WIDTH_OFF_TERMINAL: Final = 100


def stats(
    context: typer.Context,
    since: When = None,
    until: When = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Write a page with plots there as well."
        ),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what happens in the log, who is busy, and how it grows.

    Counted by the server in one pass; days and hours are those of UTC. The page that
    --html writes holds everything itself: it loads nothing from anywhere.
    """
    config = config_of(context)
    first, last = moment(since, "--since"), moment(until, "--until")

    async def work() -> Stats:
        from evstore import maintenance

        return await maintenance.stats(quiet(config), since=first, until=last)

    found = run(work)
    if html is not None:
        from .output.page import page

        with written(str(html)) as file:
            file.write(page(found).encode())
    if output is Format.TABLE:
        _print(found)
        if html is not None:
            say(f"the page is in {html}")
    else:
        print_document(document(found), output)


def _print(found: Stats) -> None:
    from rich.console import Console

    console = Console(width=None if _bounded() else _WIDTH_OFF_TERMINAL)
    with console.capture() as capture:
        for part in _parts(found, console.width):
            console.print(part)
    lines = capture.get().splitlines()
    if not console.is_terminal:
        lines = [line.rstrip() for line in lines]
    print("\n".join(lines))


def _bounded() -> bool:
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def _parts(found: Stats, width: int) -> Iterator[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, text in summary(found):
        grid.add_row(Text(name, "bold"), Text(text))
    yield grid
    activity = found.activity
    if not activity.events:
        return
    yield from _days(found, width)
    yield _title("events by hour of the day (UTC)")
    for line in charts.columns(activity.hours, height=_HEIGHT, cell=_HOUR_COLUMNS):
        yield Text(line, "cyan", no_wrap=True)
    yield Text("".join(f"{hour:<{_HOUR_COLUMNS}}" for hour in range(24)), "dim")
    types = sorted(activity.types.items(), key=lambda item: (-item[1].events, item[0]))
    yield _title("events by type", min(len(types), _TYPES_SHOWN_MAX), len(types))
    yield _table(
        ("TYPE", "EVENTS", "CREATED", "UPDATED", "DELETED"),
        [
            (name, [each.events, each.created, each.updated, each.deleted])
            for name, each in types[:_TYPES_SHOWN_MAX]
        ],
        width,
    )
    yield _title("busiest actors", len(activity.actors), activity.actors_count)
    actors = [(printable(each.actor) or "-", [each.events]) for each in activity.actors]
    yield _table(("ACTOR", "EVENTS"), actors, width)
    yield _title("busiest resources", len(activity.resources), activity.resources_count)
    resources = [(str(each.key), [each.events]) for each in activity.resources]
    yield _table(("RESOURCE", "EVENTS"), resources, width)


def _title(text: str, shown: int = 0, count: int = 0) -> RenderableType:
    from rich.text import Text

    more = f", {shown} of {count:,}" if count > shown else ""
    return Text(f"\n{text}{more}", "bold")


def _days(found: Stats, width: int) -> Iterator[RenderableType]:
    from rich.text import Text

    days = per_day(found)
    counts = charts.fewer([count for _, count in days], width - 1)
    together = -(-len(days) // len(counts))
    unit = "day" if together == 1 else f"{together} days"
    yield _title(f"events by {unit} (UTC), {max(counts):,.0f} at most")
    cell = max(1, min(_HOUR_COLUMNS, (width - 1) // len(counts)))
    for line in charts.columns(counts, height=_HEIGHT, cell=cell):
        yield Text(line, "cyan", no_wrap=True)
    first, last = str(days[0][0]), str(days[-1][0])
    gap = len(counts) * cell - len(first) - len(last)
    yield Text(first + (" " * gap + last if gap > 0 else f" to {last}"), "dim")


def _table(
    titles: Sequence[str], rows: Sequence[tuple[str, list[int]]], width: int
) -> RenderableType:
    """Return a table of counts, the first of which is drawn as well."""
    from rich.table import Table
    from rich.text import Text

    counts = sum(
        _GAP + max(len(title), *(len(f"{numbers[index - 1]:,}") for _, numbers in rows))
        for index, title in enumerate(titles)
        if index
    )
    room = width - counts - 2 * _GAP
    widest = max(len(titles[0]), *(len(name) for name, _ in rows))
    named = min(widest, max(_NAME_WIDTH_LEAST, room - _BAR_WIDTH_LEAST))
    left = min(_BAR_WIDTH_MAX, max(_BAR_WIDTH_LEAST, room - named))
    table = Table(box=None, padding=(0, _GAP, 0, 0))
    table.add_column(titles[0], width=named, overflow="fold", header_style="bold")
    for title in titles[1:]:
        table.add_column(title, justify="right", header_style="bold", no_wrap=True)
    table.add_column("", width=left, no_wrap=True)
    largest = max(numbers[0] for _, numbers in rows)
    for name, numbers in rows:
        drawn = Text(charts.bar(numbers[0], largest, left), "cyan")
        table.add_row(Text(name), *(f"{each:,}" for each in numbers), drawn)
    return table
