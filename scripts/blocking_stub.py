"""Writes evstore/blocking.pyi: what the methods of the blocking store look like.

The class takes its methods from the asynchronous one at run time; this makes their
signatures from the same source. With --check it only says whether the file is current.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[1] / "evstore"
STORE: Final = PACKAGE / "store"
STUB: Final = PACKAGE / "blocking.pyi"
SOURCES: Final = (
    "queries.py",
    "views.py",
    "past.py",
    "reverting.py",
    "integrity.py",
    "facade.py",
)
HEADER: Final = """\
# Made by scripts/blocking_stub.py from the classes of the store; do not edit.
import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Literal, TypeVar, overload
from uuid import UUID

import msgspec

from .anchors import Anchor
from .commit.arguments import Spec, Typed
from .past.blame import Blame
from .bookmark import Bookmark
from .past.changed import Diff, Version
from .config import Config
from .folds.projection import Projection
from .instances.health import Health
from .past.history import At
from .instances.lease import Lease
from .log import Instance
from .model import Event, Key, Page, Resource
from .proof.chain import Verification
from .proof.redactor import Redaction
from .schemas import Schema, Upcaster
from .past.revert import OnConflict, Revert
from .store.transaction import Transaction

S = TypeVar("S")
State = TypeVar("State")

__all__ = ["Store", "open"]

def open(
    config: Config | None = None,
    *,
    types: Iterable[type[Any] | Schema] = (),
    upcasters: Iterable[Upcaster] = (),
    projections: Iterable[Projection[Any]] = (),
) -> AbstractContextManager[Store]: ...

class Store:
"""


def methods() -> list[str]:
    """Return the public methods, as a stub for threads has them."""
    found: list[str] = []
    for name in SOURCES:
        tree = ast.parse((STORE / name).read_text())
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        found += [
            _stub(node)
            for node in classes[-1].body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and not node.name.startswith("_")
            and not _implements_overloads(node, classes[-1])
        ]
    return found


def _implements_overloads(
    node: ast.FunctionDef | ast.AsyncFunctionDef, of: ast.ClassDef
) -> bool:
    namesakes = [
        each
        for each in of.body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
        and each.name == node.name
    ]
    return len(namesakes) > 1 and node is namesakes[-1]


def _stub(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    assert node.returns is not None, f"{node.name} says what it returns"
    decorators = [ast.unparse(each) for each in node.decorator_list]
    returns = ast.unparse(node.returns)
    if "asynccontextmanager" in decorators:
        decorators.remove("asynccontextmanager")
        returns = returns.replace("AsyncGenerator[", "AbstractContextManager[")
    returns = returns.replace("AsyncGenerator[", "Iterator[")
    lines = [f"    @{each}" for each in decorators]
    lines.append(f"    def {node.name}({ast.unparse(node.args)}) -> {returns}: ...")
    return "\n".join(lines)


def stub() -> str:
    """Return the text of the file."""
    return HEADER + "\n".join(methods()) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(STUB.read_text() != stub() and "run scripts/blocking_stub.py")
    STUB.write_text(stub())
