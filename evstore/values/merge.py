"""Three-way merges of JSON values: one change carried over to another version.

`base` became `wanted` by one change and `current` by others. What only one side changed
is taken from it; what both changed in different ways is a conflict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from .diff import below, in_order, match_elements, same

if TYPE_CHECKING:
    from collections.abc import Sequence


class Clash(msgspec.Struct, frozen=True, kw_only=True):
    """A place that both sides changed; UNSET where there was or would be nothing.

    `path` is a JSON pointer into the current value, or to where it would have been.
    """

    path: str
    base: Any
    wanted: Any
    current: Any


# An element of one of three lists: one of the base, or one that a side has added.
_Token = tuple[str, int]


def merge(
    base: Any,
    wanted: Any,
    current: Any,
    *,
    path: str = "",
    clashes: list[Clash],
    force: bool = False,
) -> Any:
    """Return `current` with the change from `base` to `wanted` made in it as well.

    What clashes is added to `clashes`; there the result is what is current, or with
    `force` what is wanted. UNSET means that there is nothing.
    """
    return _Merge(clashes, force=force).of(base, wanted, current, path)


class _Merge:
    def __init__(self, clashes: list[Clash], *, force: bool) -> None:
        self._clashes = clashes
        self._force = force

    def of(self, base: Any, wanted: Any, current: Any, path: str) -> Any:
        if same(base, wanted) or same(wanted, current):
            return current
        if same(base, current):
            return wanted
        match base, wanted, current:
            case dict(), dict(), dict():
                return self._objects(
                    cast("dict[str, Any]", base),
                    cast("dict[str, Any]", wanted),
                    cast("dict[str, Any]", current),
                    path,
                )
            case list(), list(), list():
                return self._lists(
                    cast("list[object]", base),
                    cast("list[object]", wanted),
                    cast("list[object]", current),
                    path,
                )
            case _:
                return self._clash(base, wanted, current, path)

    def _clash(self, base: Any, wanted: Any, current: Any, path: str) -> Any:
        self._clashes.append(
            Clash(path=path, base=base, wanted=wanted, current=current)
        )
        return wanted if self._force else current

    def _objects(
        self,
        base: dict[str, Any],
        wanted: dict[str, Any],
        current: dict[str, Any],
        path: str,
    ) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name in current | wanted:
            value = self.of(
                base.get(name, msgspec.UNSET),
                wanted.get(name, msgspec.UNSET),
                current.get(name, msgspec.UNSET),
                below(path, name),
            )
            if value is not msgspec.UNSET:
                made[name] = value
        return made

    def _lists(
        self,
        base: Sequence[object],
        wanted: Sequence[object],
        current: Sequence[object],
        path: str,
    ) -> Any:
        """Merge what is in all three, put in and take out the other elements.

        The order is that of the side that changed it, additions behind whatever they
        stood behind. Where both changed it, the whole list is a clash.
        """
        ours = match_elements(base, wanted)
        theirs = match_elements(base, current)
        if _reordered(ours) and _reordered(theirs):
            return self._clash(base, wanted, current, path)
        mine, its = _tokens(wanted, ours, "wanted"), _tokens(current, theirs, "current")
        _share_additions(wanted, mine, current, its)
        values_wanted = dict(zip(mine, wanted, strict=True))
        values_current = dict(zip(its, current, strict=True))
        places = {token: index for index, token in enumerate(its)}
        values = {
            token: self.of(
                base[token[1]] if token[0] == "base" else msgspec.UNSET,
                values_wanted.get(token, msgspec.UNSET),
                values_current.get(token, msgspec.UNSET),
                below(path, places.get(token, "-")),
            )
            for token in values_current | values_wanted
        }
        order = _joined(mine, its) if _reordered(ours) else _joined(its, mine)
        return [values[token] for token in order if values[token] is not msgspec.UNSET]


def _reordered(matched: Sequence[int | None]) -> bool:
    return len(in_order(matched)) < sum(origin is not None for origin in matched)


def _tokens(
    elements: Sequence[object], matched: Sequence[int | None], side: str
) -> list[_Token]:
    return [
        (side, index) if matched[index] is None else ("base", matched[index] or 0)
        for index in range(len(elements))
    ]


def _share_additions(
    wanted: Sequence[object],
    mine: list[_Token],
    current: Sequence[object],
    its: list[_Token],
) -> None:
    """Let what both sides added be one element: what is equal, or identified so."""
    added = [index for index, (side, _) in enumerate(mine) if side == "wanted"]
    there = [index for index, (side, _) in enumerate(its) if side == "current"]
    pairs = match_elements(
        [wanted[index] for index in added],
        [current[index] for index in there],
        neighbours=False,
    )
    for index, origin in zip(there, pairs, strict=True):
        if origin is not None:
            its[index] = mine[added[origin]]


def _joined(first: Sequence[_Token], second: Sequence[_Token]) -> list[_Token]:
    """Return all of `first`, and what only `second` has behind its predecessor there."""
    joined = list(first)
    present = set(first)
    for index, token in enumerate(second):
        if token not in present:
            place = joined.index(second[index - 1]) + 1 if index else 0
            joined.insert(place, token)
    return joined
