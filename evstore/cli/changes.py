"""What changed between two versions: the leaves that differ, by path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import orjson

from .documents import MASK

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][\w-]*")


class Absent:
    """Nothing there, which is not the same as null."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()


class Difference(msgspec.Struct, frozen=True):
    """A leaf that differs; an empty object or list is a leaf as well."""

    path: str
    old: Any
    new: Any

    def document(self) -> dict[str, Any]:
        """Return the difference for JSON: `old` and `new` only where there is one."""
        found: dict[str, Any] = {"path": self.path}
        if self.old is not ABSENT:
            found["old"] = self.old
        if self.new is not ABSENT:
            found["new"] = self.new
        return found

    def line(self, *, secret: bool) -> str:
        """Return the difference for people; values under spec may be secret."""
        hidden = secret and self.path.startswith("spec")
        old, new = (
            MASK
            if hidden
            else orjson.dumps(value).decode()
            if value is not ABSENT
            else ""
            for value in (self.old, self.new)
        )
        if self.old is ABSENT:
            return f"+{self.path}: {new}"
        if self.new is ABSENT:
            return f"-{self.path}: {old}"
        return f"~{self.path}: {old} -> {new}"


def differences(old: Any, new: Any, path: str = "") -> Iterator[Difference]:
    """Yield the leaves that differ, in the order of their paths' keys."""
    if _same(old, new):
        return
    before, after = _members(old), _members(new)
    same_kind = type(old) is type(new) or ABSENT in (old, new)
    if before is None or after is None or not same_kind or not (before or after):
        yield Difference(path, old, new)
        return
    for name in before | after:
        below = _below(path, name)
        yield from differences(before.get(name, ABSENT), after.get(name, ABSENT), below)


def _same(old: Any, new: Any) -> bool:
    # Python takes 1, 1.0 and True for the same; JSON does not.
    if old is ABSENT or new is ABSENT:
        return old is new
    return orjson.dumps(old, option=_SORTED) == orjson.dumps(new, option=_SORTED)


_SORTED: Final = orjson.OPT_SORT_KEYS


def _members(value: Any) -> dict[str | int, Any] | None:
    """Return what is below a value; None for a leaf."""
    match value:
        case dict():
            return dict(cast("dict[str | int, Any]", value))
        case list():
            return dict(enumerate(cast("list[object]", value)))
        case Absent():
            return {}
        case _:
            return None


def _below(path: str, name: str | int) -> str:
    if isinstance(name, int):
        return f"{path}[{name}]"
    if not _PLAIN_KEY.fullmatch(name):
        name = orjson.dumps(name).decode()
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name
