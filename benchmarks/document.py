"""What docs/benchmarks.md says: the template, with what was measured put into it. Pure.

`{{name}}` in the template stands for the table of that benchmark, `{{aims}}` and
`{{circumstances}}` for what all of them say together; the prose around is the template's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from figures import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Result = Mapping[str, Any]

QUICK = (
    "> **Quick run: these are no measurements.** The benchmarks ran for a moment each, to"
    " show that they work.\n\n"
)
VERDICTS = {True: "reached", False: "**not reached**", None: "not measured"}


def document(
    template: str, results: Mapping[str, Result], plots: Mapping[str, str]
) -> str:
    """Fill the template; `plots` are addresses of pictures, by name of benchmark.

    Raises:
        KeyError: the template names a benchmark that there is not, and vice versa.
    """
    parts = {
        "aims": aims(results),
        "circumstances": circumstances(results.values()),
        **{name: section(name, result, plots) for name, result in results.items()},
    }
    named = set(re.findall(r"\{\{(\w+)\}\}", template))
    if named != parts.keys():
        raise KeyError(*named.symmetric_difference(parts))
    whole = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)
    quick = any(result.get("quick") for result in results.values())
    title, _, rest = whole.partition("\n\n")
    return f"{title}\n\n{QUICK if quick else ''}{rest}"


def section(name: str, result: Result, plots: Mapping[str, str]) -> str:
    """Return the table of one benchmark, its notes, its picture and its command."""
    if "failed" in result:
        return f"Not measured: `{result['command']}` failed: {result['failed']}"
    rows = result["results"]
    parts = [
        table(list(rows[0]), [list(row.values()) for row in rows]),
        f"`{result['command']}`, commit {result['commit']}.",
    ]
    parts += ["\n".join(f"- {note}" for note in result["notes"])] * bool(
        result["notes"]
    )
    if name in plots:
        parts.append(f"![{result['question']}]({plots[name]})")
    return "\n\n".join(parts)


def aims(results: Mapping[str, Result]) -> str:
    """Return what was asked for beside what was measured."""
    rows = [
        [
            aim["what"],
            _asked(aim),
            "" if aim["measured"] is None else f"{text(aim['measured'])} {aim['unit']}",
            VERDICTS[aim["reached"]],
            f"`{result['command']}`",
        ]
        for result in results.values()
        for aim in result.get("aims", ())
    ]
    return table(["aim", "asked", "measured", "", "command"], rows)


def circumstances(results: Iterable[Result]) -> str:
    """Return the machine and the settings, each as often as they differ."""
    found: dict[str, None] = {}
    for result in results:
        if "failed" in result:
            continue
        settings = ", ".join(
            f"{name} {value}" for name, value in result["settings"].items()
        )
        machine, _, disk = result["machine"].rpartition(", fdatasync")
        found[f"{machine}. {settings}."] = None
        found.setdefault(f"fdatasync{disk} when the first benchmark ended.")
    return "\n".join(f"- {line}" for line in _first_of_a_kind(found))


def _first_of_a_kind(lines: Iterable[str]) -> list[str]:
    """Return the lines, less all fdatasync but the first: it varies a little."""
    kept: list[str] = []
    for line in lines:
        if line.startswith("fdatasync") and any(
            other.startswith("fdatasync") for other in kept
        ):
            continue
        kept.append(line)
    return kept


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown; all columns but the first are to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)]]
    lines += [[_cell(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _asked(aim: Mapping[str, Any]) -> str:
    bound = "at most" if aim["at_most"] else "at least"
    return f"{bound} {text(aim['asked'])} {aim['unit']}"


def _cell(cell: object) -> str:
    return text(cell).replace("|", "\\|")
