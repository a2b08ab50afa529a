"""What is public: exactly this, and all of it documented."""

from __future__ import annotations

import inspect

import pytest

import evstore

PUBLIC = [
    "AlreadyExistsError",
    "App",
    "Blame",
    "BlamedLeaf",
    "Bookmark",
    "CompactedError",
    "Config",
    "ConfigError",
    "Conflict",
    "ConflictError",
    "Diff",
    "Difference",
    "DivergedError",
    "Event",
    "Finding",
    "Health",
    "InvalidError",
    "Key",
    "Lease",
    "NotFoundError",
    "Operation",
    "OutcomeUnknownError",
    "Page",
    "Projection",
    "ProjectionStatus",
    "Redaction",
    "Resource",
    "ResourceChange",
    "Revert",
    "Schema",
    "SchemaError",
    "Stopped",
    "Store",
    "StoreError",
    "Transaction",
    "UnavailableError",
    "Upcaster",
    "Verification",
    "Version",
    "load_config",
    "open",
    "upcaster",
]


def members() -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name in evstore.__all__:
        thing = getattr(evstore, name)
        found.append((name, thing))
        if inspect.isclass(thing):
            for base in reversed(thing.__mro__):
                if base.__module__.startswith("evstore"):
                    found += [
                        (f"{name}.{member}", value)
                        for member, value in vars(base).items()
                        if not member.startswith("_")
                        and (callable(value) or isinstance(value, property))
                    ]
    return found


def test_the_public_names_are_exactly_these() -> None:
    assert evstore.__all__ == PUBLIC


def test_the_public_names_are_sorted() -> None:
    assert evstore.__all__ == sorted(evstore.__all__)


def test_nothing_else_of_ours_is_at_the_top() -> None:
    others = {
        name
        for name, value in vars(evstore).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and name not in evstore.__all__
    }
    assert others <= {"annotations"}


@pytest.mark.parametrize(
    ("name", "thing"), dict(members()).items(), ids=dict(members()).keys()
)
def test_everything_public_is_documented(name: str, thing: object) -> None:
    text = inspect.getdoc(thing)
    assert text, name
    first = text.splitlines()[0]
    assert first.endswith((".", ";", ":", ",")) or len(text.splitlines()) > 1, name


def test_every_method_that_raises_says_what() -> None:
    for name in ("create", "update", "delete", "upsert", "get", "list", "watch"):
        text = inspect.getdoc(getattr(evstore.Store, name)) or ""
        assert "Raises:" in text, name


def test_the_errors_are_one_tree() -> None:
    errors = [
        getattr(evstore, name) for name in evstore.__all__ if name.endswith("Error")
    ]
    assert all(issubclass(error, evstore.StoreError) for error in errors)
