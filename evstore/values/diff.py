"""What differs between two JSON values: leaf by leaf, by path, and as a JSON Patch.

Values are compared as JSON has them: 1, 1.0 and true are three different ones. Elements of
lists are matched before they are compared, so that one that is put in front of others is
one addition, and not a change of all of them.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, cast

import jsonpatch
import msgspec
import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# What tells elements of one list apart; the first one counts that all of them have,
# each with a value of its own.
IDENTIFYING: Final = ("id", "name", "key", "targetRef")

_PLACE: Final = re.compile(r"\d+|-")
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][\w-]*")


class Difference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A leaf that differs; an empty object or list is a leaf as well.

    `path` is a JSON pointer (RFC 6901): into the old value where something was removed,
    into the new one otherwise. `old` and `new` are UNSET where there was or is nothing.
    An element that only changed its place among its neighbours has neither, and
    `moved_from` is where it was.
    """

    path: str
    old: Any = msgspec.UNSET
    new: Any = msgspec.UNSET
    moved_from: str | None = None

    def __repr__(self) -> str:
        # The values stay out: they may be secrets, and reprs end up in logs.
        return f"Difference(path={self.path!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("path", self.path)]


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON, for which 1 is neither 1.0 nor true."""
    if one is msgspec.UNSET or other is msgspec.UNSET:
        return one is other
    return one is other or fingerprint(one) == fingerprint(other)


def fingerprint(value: Any) -> bytes:
    """Return bytes that are equal for the same JSON, and for it alone."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def below(pointer: str, name: str | int) -> str:
    """Return the JSON pointer to a member or an element of what `pointer` points to."""
    return f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}"


def readable(pointer: str) -> str:
    """Return a pointer as people write it: `spec.to[0].port`, `labels["k.io/a"]`."""
    path = ""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        path = f"{path}[{name}]" if _PLACE.fullmatch(name) else _member(path, name)
    return path


def _member(path: str, name: str) -> str:
    if not _PLAIN_KEY.fullmatch(name):
        return f"{path}[{orjson.dumps(name).decode()}]"
    return f"{path}.{name}" if path else name


def patch(old: Any, new: Any) -> list[dict[str, Any]]:
    """Return the JSON Patch (RFC 6902) that makes `new` of `old`."""
    return jsonpatch.make_patch(old, new).patch


def differences(old: Any, new: Any, path: str = "") -> Iterator[Difference]:
    """Yield the leaves that differ, in the order of the members and elements."""
    yield from _differences(old, new, path, path)


def _differences(old: Any, new: Any, old_path: str, path: str) -> Iterator[Difference]:
    if same(old, new):
        return
    match old, new:
        case dict(), dict():
            yield from _of_objects(
                cast("dict[str, Any]", old), cast("dict[str, Any]", new), old_path, path
            )
        case list(), list():
            yield from _of_lists(
                cast("list[object]", old), cast("list[object]", new), old_path, path
            )
        case msgspec.UNSET, _:
            for pointer, value in leaves(new, path):
                yield Difference(path=pointer, new=value)
        case _, msgspec.UNSET:
            for pointer, value in leaves(old, old_path):
                yield Difference(path=pointer, old=value)
        case _:
            yield Difference(path=path, old=old, new=new)


def _of_objects(
    old: dict[str, Any], new: dict[str, Any], old_path: str, path: str
) -> Iterator[Difference]:
    for name in old | new:
        yield from _differences(
            old.get(name, msgspec.UNSET),
            new.get(name, msgspec.UNSET),
            below(old_path, name),
            below(path, name),
        )


def _of_lists(
    old: Sequence[object], new: Sequence[object], old_path: str, path: str
) -> Iterator[Difference]:
    matched = match_elements(old, new)
    kept = set(matched)
    for index, element in enumerate(old):
        if index not in kept:
            yield from _differences(element, msgspec.UNSET, below(old_path, index), "")
    still = in_order(matched)
    for index, element in enumerate(new):
        origin = matched[index]
        here = below(path, index)
        if origin is None:
            yield from _differences(msgspec.UNSET, element, "", here)
            continue
        was = below(old_path, origin)
        if index not in still:
            yield Difference(path=here, moved_from=was)
        yield from _differences(old[origin], element, was, here)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a value with their JSON pointers, in order."""
    if isinstance(value, dict) and value:
        for name, member in cast("dict[str, Any]", value).items():
            yield from leaves(member, below(path, name))
    elif isinstance(value, list) and value:
        for index, element in enumerate(cast("list[object]", value)):
            yield from leaves(element, below(path, index))
    else:
        yield path, value


def match_elements(
    old: Sequence[Any], new: Sequence[Any], *, neighbours: bool = True
) -> list[int | None]:
    """Return for each element of `new` which one of `old` it was; None for a new one.

    Where a member tells the elements of both lists apart, those that share it are one.
    Otherwise those are that are equal; and with `neighbours`, what is left between two
    of these is paired in order, unless something identifies them as different ones.
    """
    found: list[int | None] = [None] * len(new)
    name = _identifying(old, new)
    if name is not None:
        _pair(found, old, new, lambda element: fingerprint(element[name]))
        return found
    _pair(found, old, new, fingerprint)
    if neighbours:
        _pair_neighbours(found, old, new)
    return found


def in_order(matched: Sequence[int | None]) -> set[int]:
    """Return which elements kept their order: as many as can be; the others moved.

    This is the longest increasing subsequence of the origins.
    """
    # For each length: the lowest origin that ends such a sequence, and the element.
    origins: list[int] = []
    ends: list[int] = []
    before: dict[int, int | None] = {}
    for index, origin in enumerate(matched):
        if origin is None:
            continue
        length = bisect_left(origins, origin)
        origins[length : length + 1] = [origin]
        ends[length : length + 1] = [index]
        before[index] = ends[length - 1] if length else None
    kept: set[int] = set()
    last = ends[-1] if ends else None
    while last is not None:
        kept.add(last)
        last = before[last]
    return kept


def _identifying(*lists: Sequence[Any]) -> str | None:
    """Return the member that tells the elements of each of the lists apart."""
    for name in IDENTIFYING:
        if all(_identifies(name, each) for each in lists):
            return name
    return None


def _identifies(name: str, elements: Sequence[Any]) -> bool:
    if not all(isinstance(each, dict) and name in each for each in elements):
        return False
    values = {fingerprint(each[name]) for each in elements}
    return len(values) == len(elements)


def _pair(
    found: list[int | None],
    old: Sequence[Any],
    new: Sequence[Any],
    key: Callable[[Any], bytes],
) -> None:
    """Pair elements with the same key: the first with the first, and so on."""
    places: defaultdict[bytes, list[int]] = defaultdict(list)
    for index in range(len(old) - 1, -1, -1):
        places[key(old[index])].append(index)
    for index, element in enumerate(new):
        there = places.get(key(element))
        if there:
            found[index] = there.pop()


def _pair_neighbours(
    found: list[int | None], old: Sequence[Any], new: Sequence[Any]
) -> None:
    """Pair in order what is left between two neighbours that kept their order."""
    still = in_order(found)
    taken, fixed = set(found), {found[index] for index in still}
    left: defaultdict[int, list[int]] = defaultdict(list)
    gap = 0
    for index in range(len(old)):
        gap += index in fixed
        if index not in taken:
            left[gap].append(index)
    gap = 0
    for index, element in enumerate(new):
        gap += index in still
        candidates = left[gap]
        if found[index] is None and candidates and _alike(old[candidates[0]], element):
            found[index] = candidates.pop(0)


def _alike(old: Any, new: Any) -> bool:
    """Whether one element can have become the other."""
    if isinstance(old, dict) and isinstance(new, dict):
        mine, theirs = cast("dict[str, Any]", old), cast("dict[str, Any]", new)
        return all(
            same(mine[name], theirs[name])
            for name in IDENTIFYING
            if name in mine and name in theirs
        )
    return not any(isinstance(old, k) != isinstance(new, k) for k in (dict, list))
