"""What commands print: tables that fit the terminal, JSON lines, YAML documents."""

from __future__ import annotations

import enum
import os
import sys
from itertools import compress
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.text import Text

    Cell = str | Text

_BATCH_ROWS: Final = 500
_GAP: Final = 2
_LEAST: Final = 4
_UNLIMITED: Final = 1_000_000


class Format(enum.StrEnum):
    """How a command prints its result."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class Column(msgspec.Struct, frozen=True):
    """A column of a table.

    Where the terminal is too narrow for all, it may become as narrow as `least`, None
    for its content's width: its cells are then folded onto more lines, or cut.
    """

    title: str
    least: int | None = None
    cut: bool = False


def print_documents(documents: Iterable[dict[str, Any]], format_: Format) -> None:
    """Print documents as JSON, one a line, or as YAML, one after another."""
    for document in documents:
        print_document(document, format_)


def print_document(document: dict[str, Any], format_: Format) -> None:
    """Print one document as JSON on one line, or as YAML."""
    if format_ is Format.JSON:
        print(orjson.dumps(document).decode())
    else:
        from evstore.cli.yaml_text import dump

        print(f"---\n{dump(document)}", end="")


def printable(text: str) -> str:
    """Return a text as one line that does nothing to a terminal but show itself."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else repr(letter)[1:-1] for letter in text
    )


def print_table(
    columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, header: bool = True
) -> None:
    """Print a whole table without its empty columns; nothing where it has no rows.

    A cell is a text, or one of rich's, whose colours are used on a terminal.
    """
    whole = list(rows)
    used = [any(row[index] for row in whole) for index in range(len(columns))]
    table = Table(list(compress(columns, used)), header=header)
    for row in whole:
        table.add(*compress(row, used))
    table.finish()


class Table:
    """A table that is printed as its rows come, some hundreds at a time.

    The first rows decide how wide the columns are. Off a terminal nothing is folded
    or cut: each row is one line, for grep.
    """

    def __init__(self, columns: Sequence[Column], *, header: bool = True) -> None:
        self._columns = columns
        self._header = header
        self._rows: list[Sequence[Cell]] = []
        self._widths: list[int] = []
        self._console: Console | None = None

    def add(self, *cells: Cell) -> None:
        """Add a row."""
        assert len(cells) == len(self._columns), "a cell a column"
        self._rows.append(cells)
        if len(self._rows) == _BATCH_ROWS:
            self._flush()

    def finish(self) -> None:
        """Print what is left."""
        if self._rows:
            self._flush()

    def _flush(self) -> None:
        from rich.table import Table as RichTable
        from rich.text import Text

        first = self._console is None
        console = self._console = self._console or _console()
        if first or not _bounded():
            self._widths = self._layout(console.width)
        grid = RichTable(
            box=None,
            show_header=first and self._header,
            padding=(0, _GAP, 0, 0),
            # rich has a gap behind the last column as well.
            width=sum(self._widths) + _GAP * len(self._widths),
        )
        for column, width in zip(self._columns, self._widths, strict=True):
            grid.add_column(
                column.title,
                width=width,
                no_wrap=column.cut or column.least is None,
                overflow="ellipsis" if column.cut else "fold",
                header_style="bold",
            )
        for row in self._rows:
            grid.add_row(
                *(Text(each) if isinstance(each, str) else each for each in row)
            )
        self._rows = []
        with console.capture() as capture:
            console.print(grid, crop=False, no_wrap=True)
        lines = capture.get().splitlines()
        if not console.is_terminal:
            lines = [line.rstrip() for line in lines]
        print("\n".join(lines))

    def _layout(self, width: int) -> list[int]:
        """Return the width of each column so that all fit, if at all they can."""
        from rich.cells import cell_len

        natural = [
            cell_len(column.title) if self._header else 0 for column in self._columns
        ]
        for row in self._rows:
            for index, cell in enumerate(row):
                widest = max(map(cell_len, str(cell).split("\n")))
                natural[index] = max(natural[index], widest)
        if not self._widths:
            return shrink(natural, self._columns, width)
        return [max(pair) for pair in zip(natural, self._widths, strict=True)]


def shrink(natural: list[int], columns: Sequence[Column], width: int) -> list[int]:
    """Narrow the columns that may be until the row fits into `width`, widest first.

    Where that is not enough, those columns become narrower still.
    """
    widths = list(natural)
    for bound in (None, _LEAST):
        least = [
            each if column.least is None else min(each, bound or column.least)
            for column, each in zip(columns, natural, strict=True)
        ]
        _narrow(widths, least, width)
    return widths


def _narrow(widths: list[int], least: list[int], width: int) -> None:
    excess = sum(widths) + _GAP * len(widths) - width
    while excess > 0:
        spare = [each - bound for each, bound in zip(widths, least, strict=True)]
        widest = max(
            range(len(widths)), key=lambda index: (spare[index] > 0, widths[index])
        )
        if spare[widest] <= 0:
            break
        widths[widest] -= 1
        excess -= 1


def _bounded() -> bool:
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def _width() -> int | None:
    """Return the width to force upon rich; None leaves it to the terminal."""
    return None if _bounded() else _UNLIMITED


def _console() -> Console:
    """Return a console that leaves a broken pipe to whoever ends the command."""
    import rich.console

    class _Console(rich.console.Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return _Console(width=_width())
