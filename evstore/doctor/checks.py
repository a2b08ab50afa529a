"""A check: one thing that a doctor looks at, how it is, and what to do about it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, TypeVar

import msgspec

from .facts import Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_T = TypeVar("_T")


class Status(enum.StrEnum):
    """How a check came out; `fail` is what keeps a store from working or being safe."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at: its name, how it is, and what to do about it."""

    check: str
    status: Status
    found: str
    advice: str = ""


def ok(check: str, found: str, advice: str = "") -> Check:
    """Return that all is well."""
    return Check(check=check, status=Status.OK, found=found, advice=advice)


def warn(check: str, found: str, advice: str) -> Check:
    """Return that something should be otherwise."""
    return Check(check=check, status=Status.WARN, found=found, advice=advice)


def fail(check: str, found: str, advice: str) -> Check:
    """Return that something must be otherwise."""
    return Check(check=check, status=Status.FAIL, found=found, advice=advice)


def untold(check: str, fact: Unknown) -> Check:
    """Return that nobody knows, and why."""
    advice = "see to the other lines, and ask again"
    return warn(check, f"cannot be told: {fact.reason}", advice)


def told(
    check: str, fact: _T | Unknown | None, rule: Callable[[_T], Check]
) -> Iterator[Check]:
    """Yield what a rule says of a fact, where there is one."""
    if isinstance(fact, Unknown):
        yield untold(check, fact)
    elif fact is not None:
        yield rule(fact)
