"""The page of `evstore stats --html`: plots as inline SVG, in one file. Pure.

It loads nothing from anywhere, follows the reader's light or dark scheme, and each plot
is a table as well, for those who cannot see it.
"""

from __future__ import annotations

from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Final

from .charts import fewer
from .figures import per_day, summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from evstore.past.stats import Stats

_WIDTH: Final = 760
_HEIGHT: Final = 180
_LEFT: Final = 64
_BOTTOM: Final = 22
_BARS_MAX: Final = 180
_ROW: Final = 26
_NAME: Final = 300
_NAME_CHARACTERS: Final = 42
_OPERATIONS: Final = ("created", "updated", "deleted", "redacted")

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2733; --dim: #5a6875; --paper: #ffffff;
  --line: #d5dce3; --bar: #1f77b4; --created: #2a8f4e; --updated: #1f77b4;
  --deleted: #c8452f; --redacted: #7a5195; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --dim: #9aa7b4;
  --paper: #12181f; --line: #2f3b47; --bar: #5aa9e6; --created: #58c27d;
  --updated: #5aa9e6; --deleted: #f0806c; --redacted: #b893d6; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); max-width: 800px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .4rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--dim); font: 12px system-ui, sans-serif; }
svg text.name { fill: var(--ink); }
svg line { stroke: var(--line); }
details { margin-top: .3rem; color: var(--dim); }
table { border-collapse: collapse; color: var(--ink); }
th, td { padding: .1rem 1rem .1rem 0; text-align: right; overflow-wrap: anywhere; }
th:first-child, td:first-child { text-align: left; }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em; }
"""


def page(found: Stats) -> str:
    """Return the page."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>evstore: log {found.log}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>What happens in the log</h1>\n{_summary(found)}\n"
        f"{''.join(_plots(found))}</main>\n</body>\n</html>\n"
    )


def _summary(found: Stats) -> str:
    rows = (
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"
        for name, text in summary(found)
    )
    return f"<dl>{''.join(rows)}</dl>"


def _plots(found: Stats) -> Iterator[str]:
    activity = found.activity
    if not activity.events:
        return
    days = per_day(found)
    counts = fewer([count for _, count in days], _BARS_MAX)
    together = -(-len(days) // len(counts))
    unit = "day" if together == 1 else f"{together} days"
    labels = [
        str(days[0][0] + timedelta(days=index * together))
        for index in range(len(counts))
    ]
    bars = list(zip(labels, counts, strict=True))
    yield _section(f"Events by {unit} (UTC)", _columns(bars, "days"), _rows(bars))
    total, grown = float(found.first - 1), list[tuple[str, float]]()
    for label, count in bars:
        total += count
        grown.append((label, total))
    yield _section("Growth: position of the head", _curve(grown), _rows(grown))
    hours = [(f"{hour:02}", float(count)) for hour, count in enumerate(activity.hours)]
    title = "Events by hour of the day (UTC)"
    yield _section(title, _columns(hours, "hours"), _rows(hours))
    types = sorted(activity.types.items(), key=lambda item: (-item[1].events, item[0]))
    stacked = [
        (name, [getattr(each, operation) for operation in _OPERATIONS])
        for name, each in types
    ]
    legend = "".join(
        f'<span class="key" style="background: var(--{each})"></span>{each}'
        for each in _OPERATIONS
    )
    table = _table(("Type", *_OPERATIONS), [(n, *c) for n, c in stacked])
    yield _section("Events by type", f"<p>{legend}</p>{_bars(stacked)}", table)
    actors = [(each.actor or "-", [each.events]) for each in activity.actors]
    title = _top("Busiest actors", len(actors), activity.actors_count)
    yield _section(title, _bars(actors), _rows((n, c[0]) for n, c in actors))
    busy = [(str(each.key), [each.events]) for each in activity.resources]
    title = _top("Busiest resources", len(busy), activity.resources_count)
    yield _section(title, _bars(busy), _rows((n, c[0]) for n, c in busy))


def _top(title: str, shown: int, count: int) -> str:
    return f"{title}, {shown} of {count:,}" if count > shown else title


def _section(title: str, plot: str, table: str) -> str:
    return (
        f"<section>\n<h2>{escape(title)}</h2>\n{plot}\n"
        f"<details><summary>As a table</summary>{table}</details>\n</section>\n"
    )


def _rows(values: Iterable[tuple[str, float]]) -> str:
    return _table(("", "events"), [(name, value) for name, value in values if value])


def _table(
    titles: Sequence[str], rows: Iterable[tuple[str, *tuple[float, ...]]]
) -> str:
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in titles)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{value:,.0f}</td>" for value in values)
        + "</tr>"
        for name, *values in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _svg(height: int, label: str, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">'
        f"{content}</svg>"
    )


def _axes(largest: float, labels: Sequence[str]) -> str:
    bottom, middle = _HEIGHT - _BOTTOM, (_HEIGHT - _BOTTOM + 12) / 2
    marks = ((12.0, largest), (middle, largest / 2), (float(bottom), 0.0))
    lines = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,.0f}</text>'
        for y, value in marks
    )
    return lines + (
        f'<text x="{_LEFT}" y="{_HEIGHT - 5}">{escape(labels[0])}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 5}" text-anchor="end">'
        f"{escape(labels[-1])}</text>"
    )


def _columns(values: Sequence[tuple[str, float]], label: str) -> str:
    largest = max(value for _, value in values)
    step = (_WIDTH - _LEFT) / len(values)
    room = _HEIGHT - _BOTTOM - 12
    bars = "".join(
        f'<rect x="{_LEFT + index * step + step * 0.08:.2f}" width="{step * 0.84:.2f}"'
        f' y="{_HEIGHT - _BOTTOM - room * value / largest:.2f}"'
        f' height="{room * value / largest:.2f}" fill="var(--bar)">'
        f"<title>{escape(name)}: {value:,.0f}</title></rect>"
        for index, (name, value) in enumerate(values)
        if value
    )
    names = [name for name, _ in values]
    text = f"Columns: events by {label}, {largest:,.0f} at most"
    return _svg(_HEIGHT, text, _axes(largest, names) + bars)


def _curve(values: Sequence[tuple[str, float]]) -> str:
    largest = max(value for _, value in values)
    step = (_WIDTH - _LEFT) / max(1, len(values) - 1)
    room, bottom = _HEIGHT - _BOTTOM - 12, _HEIGHT - _BOTTOM
    points = [
        f"{_LEFT + index * step:.2f},{bottom - room * value / largest:.2f}"
        for index, (_, value) in enumerate(values)
    ]
    if len(points) == 1:
        points.append(f"{_WIDTH},{points[0].split(',')[1]}")
    line = (
        f'<polyline points="{" ".join(points)}" fill="none" stroke="var(--bar)"'
        ' stroke-width="2"/>'
    )
    text = f"A curve: the log grows to position {largest:,.0f}"
    return _svg(_HEIGHT, text, _axes(largest, [name for name, _ in values]) + line)


def _bars(rows: Sequence[tuple[str, list[int]]]) -> str:
    largest = max(sum(values) for _, values in rows)
    room = _WIDTH - _NAME - 70
    parts: list[str] = []
    for index, (name, values) in enumerate(rows):
        y, x = index * _ROW, float(_NAME)
        parts.append(
            f'<text class="name" x="{_NAME - 8}" y="{y + 17}" text-anchor="end">'
            f"<title>{escape(name)}</title>{escape(_short(name))}</text>"
        )
        for operation, value in zip(_OPERATIONS, values, strict=False):
            if value:
                width = room * value / largest
                colour = operation if len(values) > 1 else "bar"
                told = f"{operation} {value:,}" if len(values) > 1 else f"{value:,}"
                parts.append(
                    f'<rect x="{x:.2f}" y="{y + 4}" width="{width:.2f}" height="18"'
                    f' fill="var(--{colour})"><title>{escape(name)}: {told}</title>'
                    "</rect>"
                )
                x += width
        parts.append(f'<text x="{x + 6:.2f}" y="{y + 17}">{sum(values):,}</text>')
    text = f"Bars: {rows[0][0]} has the most, {largest:,} events"
    return _svg(len(rows) * _ROW, text, "".join(parts))


def _short(name: str) -> str:
    half = _NAME_CHARACTERS // 2
    if len(name) <= _NAME_CHARACTERS:
        return name
    return f"{name[: half - 1]}…{name[-half:]}"
