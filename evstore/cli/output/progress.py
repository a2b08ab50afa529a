"""A progress bar on standard error, where a person sees it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from evstore.cli.session import on_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.progress import ProgressColumn, Task


@contextmanager
def progress(
    title: str, *, total: int, unit: Literal["bytes", "events"]
) -> Generator[Callable[[int], None]]:
    """Give a function that takes how much of `total` is done; it goes when all is.

    Shows how many events a second that is, and the time that is left. What was done
    before counts for neither: the first call says where work begins.
    """
    if not on_terminal():
        yield lambda _: None
        return
    from rich import progress as rich
    from rich.console import Console

    count: rich.ProgressColumn = (
        rich.DownloadColumn() if unit == "bytes" else rich.MofNCompleteColumn()
    )
    columns = (
        rich.TextColumn(title),
        rich.BarColumn(),
        count,
        *([] if unit == "bytes" else [_rate()]),
        rich.TimeElapsedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(title, total=total)
        yield lambda done: shown.update(task, completed=done)


def _rate() -> ProgressColumn:
    """Return a column with the events that are done in a second."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f} events/s" if task.speed else "")

    return Rate()
