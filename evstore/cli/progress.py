"""A progress bar on standard error, where a person sees it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from .session import on_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


@contextmanager
def progress(
    title: str, *, total: int, unit: Literal["bytes", "events"]
) -> Generator[Callable[[int], None]]:
    """Give a function that takes how much of `total` is done; it goes when all is."""
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
        rich.TimeElapsedColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(title, total=total)
        yield lambda done: shown.update(task, completed=done)
