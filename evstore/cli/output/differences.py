"""Differences for people: a line a leaf, coloured on a terminal, secrets masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson

from evstore.model import SECRET_TYPES
from evstore.values.diff import Difference, readable

from .documents import MASK, key_document
from .tables import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.text import Text

    from evstore.past.changed import ResourceChange

LINES_MAX: Final = 12
_OWNER: Final = "/owner"
_STYLES: Final = {"+": "green", "-": "red", "~": "yellow", ">": "cyan"}


def is_secret(type_: str, *, show: bool) -> bool:
    """Whether the values of a type are masked in tables."""
    return type_ in SECRET_TYPES and not show


def shown(value: Any, path: str, *, secret: bool) -> str:
    """Return a value as a line has it; what is under spec may be secret."""
    if secret and (not path or f"{path}/".startswith("/spec/")):
        return MASK
    return printable(orjson.dumps(value).decode())


def difference_document(each: Difference) -> dict[str, Any]:
    """Return a difference for JSON: `old` and `new` only where there is one."""
    found: dict[str, Any] = msgspec.to_builtins(each)
    return found


def difference_lines(
    differences: Sequence[Difference],
    *,
    secret: bool,
    most: int = LINES_MAX,
    values: bool = True,
) -> Iterator[Text]:
    """Yield a line a difference; of very many, the first ones and how many more.

    Without `values` only what differs is told, and not from what to what.
    """
    from rich.text import Text

    told = [each for each in differences if not each.path.startswith(f"{_OWNER}/")]
    for each in told[:most]:
        yield _line(each, secret=secret, values=values)
    if len(told) > most:
        yield Text(f"and {len(told) - most} more (-o json has all)", style="dim")


def _line(each: Difference, *, secret: bool, values: bool) -> Text:
    from rich.text import Text

    path = printable(readable(each.path))
    if not values:
        sign = ">" if each.moved_from is not None else _sign(each)
        return Text(f"{sign}{path}", style=_STYLES[sign])
    if each.moved_from is not None:
        was = printable(readable(each.moved_from))
        return Text(f">{path}: was {was}", style=_STYLES[">"])
    old, new = (
        "" if value is msgspec.UNSET else shown(value, each.path, secret=secret)
        for value in (each.old, each.new)
    )
    sign = _sign(each)
    told = {"+": new, "-": old}.get(sign, f"{old} -> {new}")
    return Text(f"{sign}{path}: {told}", style=_STYLES[sign])


def _sign(each: Difference) -> str:
    if each.old is msgspec.UNSET:
        return "+"
    return "-" if each.new is msgspec.UNSET else "~"


def block(heading: str, lines: Iterable[Text]) -> Text:
    """Return a heading with lines below it, as one cell of a table."""
    from rich.text import Text

    found = Text(printable(heading))
    for line in lines:
        found.append("\n  ")
        found.append_text(line)
    return found


def change_cell(change: ResourceChange, *, show_secrets: bool) -> tuple[str, Text]:
    """Return the versions of a change, and what changed, as cells of a table."""
    secret = is_secret(change.key.type, show=show_secrets)
    before, after = change.before, change.after
    known = [
        str(each.version)
        for each in (before, after)
        if each is not None and each.version
    ]
    versions = " -> ".join(dict.fromkeys(known))  # other code: the same event
    again = (
        before is not None
        and after is not None
        and before.created_version != after.created_version
    )
    heading = (
        f"{change.operation.value} {change.key}{' (created again)' if again else ''}"
    )
    return versions, block(heading, difference_lines(change.differences, secret=secret))


def change_document(change: ResourceChange) -> dict[str, Any]:
    """Return a change of a resource for JSON, with its JSON Patch."""
    before, after = change.before, change.after
    return {
        **key_document(change.key),
        "operation": change.operation.value,
        "before_version": None if before is None else before.version,
        "after_version": (after.version or None) if after is not None else None,
        "changes": [difference_document(each) for each in change.differences],
        "patch": change.patch,
    }
