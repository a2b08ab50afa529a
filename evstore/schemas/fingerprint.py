"""The fingerprint of a function: what it is made of, as far as that can be told.

Functions count with their code, constants, names and defaults, and with the functions and
constants of the same package that they name. Two processes of the same code, run by the
same Python, get the same; whoever gets another replays more than he has to.
"""

from __future__ import annotations

from hashlib import sha256
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def fingerprint(function: object) -> bytes:
    """Return a digest of a function that is the same in each process of its code."""
    package = _package(function)
    return _Walk(package).digest(function)


def _package(function: object) -> str:
    return str(getattr(function, "__module__", "")).partition(".")[0]


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
        match value:
            case None | bool() | int() | float() | complex() | str() | bytes():
                return repr(value).encode()
            case tuple():
                return self._each(cast("tuple[object, ...]", value))
            case frozenset():
                return self._members(cast("frozenset[object]", value))
            case CodeType():
                return self._each(_parts_of(value))
            case list() | dict() | set() | FunctionType():
                return self._once(cast("object", value))
            case _:
                return _name(value)

    def _once(self, value: object) -> bytes:
        before = self._seen.get(id(value))
        if before is not None:
            return b"again %d" % before[0]
        self._seen[id(value)] = (len(self._seen), value)
        match value:
            case list():
                return self._each(cast("list[object]", value))
            case dict():
                return self._each(cast("dict[object, object]", value).items())
            case set():
                return self._members(cast("set[object]", value))
            case FunctionType() if _package(value) == self._package:
                cells = [cell.cell_contents for cell in value.__closure__ or ()]
                return self._each(
                    (
                        value.__code__,
                        value.__defaults__,
                        tuple(sorted((value.__kwdefaults__ or {}).items())),
                        tuple(cells),
                        _named_by(value),
                    )
                )
            case _:
                assert isinstance(value, FunctionType), "the caller has looked"
                return _name(value)

    def _each(self, values: Iterable[object]) -> bytes:
        return b"".join([self.digest(value) for value in values])

    def _members(self, values: Iterable[object]) -> bytes:
        return b"".join(sorted(self.digest(value) for value in values))


def _name(value: object) -> bytes:
    """Return what a thing is called, an object by its class: more is not certain."""
    if isinstance(value, ModuleType):
        return value.__name__.encode()
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{getattr(named, '__qualname__', '')}".encode()


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


def _named_by(function: FunctionType) -> tuple[tuple[str, object], ...]:
    """Return what of its module a function names, by name."""
    names: set[str] = set()
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
    space = function.__globals__
    return tuple((name, space[name]) for name in sorted(names) if name in space)
