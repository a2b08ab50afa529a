"""The fingerprint of a function: what it is made of, as far as that can be told.

Functions count with their code, constants, names and defaults, and with what they name of
the same package: functions, classes, constants, also as attributes of its modules. An
object counts as its class: what it holds may be another thing in each process. Two
processes of the same code, run by the same Python, get the same; whoever gets another
replays more than he has to.
"""

from __future__ import annotations

import enum
import re
import sys
from collections.abc import Callable, Iterable
from datetime import date, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import partial
from hashlib import sha256
from types import CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from .upcasters import Upcaster

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CellType


def fingerprint(function: object) -> bytes:
    """Return a digest of a function that is the same in each process of its code."""
    package = _package(function)
    return _Walk(package).digest(function)


def _package(value: object) -> str:
    """Return the top package of a thing; of what runs as a program, what it is called.

    A command may import what a program runs.
    """
    name = str(getattr(value, "__module__", ""))
    if name == "__main__":
        spec = getattr(sys.modules.get(name), "__spec__", None)
        name = spec.name if spec is not None else name
    return name.partition(".")[0]


# Whose text tells all that they are, and is the same in each process.
_PLAIN: Final = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    range,
    date,
    time,
    timedelta,
    timezone,
    Decimal,
    Fraction,
    UUID,
)
# What stands in a class and says nothing of what it does, or depends on where it is.
_ASIDE: Final = {
    *("__module__", "__qualname__", "__doc__", "__firstlineno__", "__dict__"),
    *("__weakref__", "__static_attributes__", "__annotations__"),
}
_MEMBERS: Final = (FunctionType, staticmethod, classmethod, property, tuple, frozenset)


class _Walk:
    """One walk through all that a function is made of; what comes again counts once."""

    def __init__(self, package: str) -> None:
        self._package = package
        # By identity, which must not be given to another object meanwhile.
        self._seen: dict[int, tuple[int, object]] = {}

    def digest(self, value: object) -> bytes:
        content = self._content(value)
        kind = type(value).__name__.encode()
        return sha256(b"%b\0%b" % (kind, content)).digest()

    def _content(self, value: object) -> bytes:
        inside = _inside(value, _VALUES)
        if inside is not None:
            return self._each(inside)
        match value:
            case frozenset():
                return self._members(cast("frozenset[object]", value))
            case None:
                return b"None"
            case ModuleType():
                return b"" if self._is_ours(value) else value.__name__.encode()
            case _ if isinstance(value, _PLAIN):
                return repr(value).encode()
            case _:
                return self._once(value)

    def _once(self, value: object) -> bytes:
        before = self._seen.get(id(value))
        if before is not None:
            return b"again %d" % before[0]
        self._seen[id(value)] = (len(self._seen), value)
        inside = _inside(value, _HOLDERS)
        if inside is not None:
            return self._each(inside)
        match value:
            case set():
                return self._members(cast("set[object]", value))
            case FunctionType() if self._is_ours(value):
                return self._function(value)
            case type() if self._is_ours(cast("object", value)):
                return self._class(cast("type[Any]", value))
            case _:
                return self._other(value)

    def _other(self, value: object) -> bytes:
        """What wraps a function counts as that; any other object as what it is of."""
        inside = getattr(value, "__wrapped__", None)
        if isinstance(inside, FunctionType) and self._is_ours(inside):
            return self.digest(inside)
        if not isinstance(value, type) and self._is_ours(type(value)):
            return self.digest(type(value))
        return _called(
            value if hasattr(value, "__qualname__") else type(value)
        ).encode()

    def _is_ours(self, value: object) -> bool:
        if isinstance(value, ModuleType):
            return value.__name__.partition(".")[0] == self._package
        return _package(value) == self._package

    def _function(self, value: FunctionType) -> bytes:
        return self._each(
            (
                value.__code__,
                value.__defaults__,
                tuple(sorted((value.__kwdefaults__ or {}).items())),
                tuple(map(_held_by, value.__closure__ or ())),
                self._named_by(value),
            )
        )

    def _class(self, value: type[Any]) -> bytes:
        members: list[object] = [
            (name, cast("object", member))
            for name, member in sorted(vars(value).items())
            if name not in _ASIDE
            and (member is None or isinstance(member, (*_MEMBERS, *_PLAIN, re.Pattern)))
        ]
        return self._each(
            (
                value.__bases__,
                tuple(members),
                tuple(vars(value).get("__annotations__", {}).items()),
                tuple(getattr(value, "__members__", {}).items()),
                getattr(value, "__struct_fields__", None),
                getattr(value, "__struct_defaults__", None),
            )
        )

    def _named_by(self, function: FunctionType) -> tuple[tuple[str, object], ...]:
        """Return what a function names, by name: of its module, and of others of ours."""
        names: set[str] = set()
        codes = [function.__code__]
        while codes:
            code = codes.pop()
            names.update(code.co_names)
            codes += [each for each in code.co_consts if isinstance(each, CodeType)]
        found: list[tuple[str, object]] = []
        spaces = [("", function.__globals__)]
        seen: set[str] = set()
        while spaces:
            where, space = spaces.pop()
            for name in sorted(names & space.keys()):
                value = space[name]
                found.append((f"{where}{name}", value))
                if not isinstance(value, ModuleType) or value.__name__ in seen:
                    continue
                if self._is_ours(value):
                    seen.add(value.__name__)
                    spaces.append((f"{where}{name}.", vars(value)))
        return tuple(found)

    def _each(self, values: Iterable[object]) -> bytes:
        return b"".join([self.digest(value) for value in values])

    def _members(self, values: Iterable[object]) -> bytes:
        return b"".join(sorted(self.digest(value) for value in values))


def _called(value: object) -> str:
    return f"{value.__module__}.{getattr(value, '__qualname__', '')}"


def _inside(value: object, kinds: Sequence[_Kind]) -> Iterable[object] | None:
    """Return what a thing is made of, None where that is not known by its kind."""
    for kind, parts in kinds:
        if isinstance(value, kind):
            return parts(value)
    return None


def _held_by(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # nothing has been put into it yet
        return None


def _parts_of(code: CodeType) -> Sequence[object]:
    return (
        code.co_code,
        code.co_exceptiontable,
        code.co_consts,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_argcount,
        code.co_kwonlyargcount,
        code.co_posonlyargcount,
        code.co_flags,
    )


def _of_member(value: enum.Enum) -> Iterable[object]:
    return (_called(type(value)), value.name, value.value)


def _of_pattern(value: re.Pattern[str]) -> Iterable[object]:
    return (value.pattern, value.flags)


def _items(value: Mapping[object, object]) -> Iterable[object]:
    return value.items()


_Kind = tuple[type[Any] | tuple[type[Any], ...], Callable[[Any], Iterable[object]]]
# What never changes may be one object or two: that says nothing.
_VALUES: Final[tuple[_Kind, ...]] = (
    (enum.Enum, _of_member),
    (tuple, iter),
    (CodeType, _parts_of),
    (re.Pattern, _of_pattern),
)
_HOLDERS: Final[tuple[_Kind, ...]] = (
    (list, iter),
    ((dict, MappingProxyType), _items),
    ((staticmethod, classmethod), lambda value: (value.__func__,)),
    (property, lambda value: (value.fget, value.fset, value.fdel)),
    (MethodType, lambda value: (value.__func__, value.__self__)),
    (partial, lambda value: (value.func, value.args, value.keywords)),
    (Upcaster, lambda value: (value.function,)),
)
