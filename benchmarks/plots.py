"""The pictures of docs/benchmarks.md, as SVG."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from figures import number
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, ScalarFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    Rows = Sequence[Mapping[str, Any]]

# The same figures give the same file: no dates, no random ids.
mpl.rcParams["svg.hashsalt"] = "evstore"
mpl.rcParams["svg.fonttype"] = "none"
OURS, OTHERS = "#0b5fa5", "#9aa5b1"


def draw(results: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write a picture for each result that has one; return the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, str] = {}
    for name, picture in PICTURES.items():
        if "results" not in results.get(name, {}):
            continue
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.add_subplot()
        picture(axes, results[name]["results"])
        title = results[name]["question"]
        axes.set_title(f"{title} (QUICK)" if results[name]["quick"] else title)
        names[name] = f"{name}.svg"
        figure.savefig(folder / names[name], metadata={"Date": None})
    return names


def _append(axes: Axes, rows: Rows) -> None:
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if row["clients"] is not None:
            lines[row["what"]].append((row["clients"], row["changes/s"]["median"]))
    for what, points in lines.items():
        ours = what == "evstore"
        axes.plot(
            *zip(*points, strict=True),
            label=what,
            marker="o",
            linewidth=3 if ours else 1,
            **({"color": OURS} if ours else {}),
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sorted({clients for each in lines.values() for clients, _ in each}))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("callers, clients")
    axes.set_ylabel("changes a second")
    axes.grid(visible=True, alpha=0.3)
    if lines:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _kubernetes(axes: Axes, rows: Rows) -> None:
    _append(axes, [row for row in rows if isinstance(row["changes/s"], dict)])


def _instances(axes: Axes, rows: Rows) -> None:
    labels = [str(row["instances"]) for row in rows]
    bars = axes.bar(labels, [row["changes/s"]["median"] for row in rows], color=OURS)
    axes.bar_label(bars, fmt="{:,.0f}")
    axes.set_xlabel("instances")
    axes.set_ylabel("changes a second, all together")


def _watch(axes: Axes, rows: Rows) -> None:
    labels = [f"{row['watcher']}: {row['load']}" for row in rows]
    _across(axes, labels, [row["p50 ms"]["median"] for row in rows])
    axes.set_xlabel("milliseconds, median, logarithmic")


def _read(axes: Axes, rows: Rows) -> None:
    labels = [row["what"] for row in rows]
    _across(axes, labels, [row["times a second"]["median"] for row in rows])
    axes.set_xlabel("times a second, logarithmic")


def _start(axes: Axes, rows: Rows) -> None:
    lengths = [row["events"] for row in rows]
    for what, color in (
        ("the whole log", OTHERS),
        ("a snapshot and its tail", OURS),
    ):
        seconds = [row[what]["median"] for row in rows]
        axes.plot(lengths, seconds, label=what, marker="o", linewidth=3, color=color)
    axes.set_xlabel("events in the log")
    axes.set_ylabel("seconds")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)


def _across(axes: Axes, labels: Sequence[str], values: Sequence[float]) -> None:
    colors = [OURS if label.startswith("evstore") else OTHERS for label in labels]
    bars = axes.barh(labels, values, color=colors)
    axes.bar_label(bars, fmt=number, padding=3)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.invert_yaxis()


PICTURES: dict[str, Callable[[Axes, Rows], None]] = {
    "append": _append,
    "instances": _instances,
    "watch": _watch,
    "read": _read,
    "start": _start,
    "kubernetes": _kubernetes,
}
