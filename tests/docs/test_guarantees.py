"""Every test that the documentation names exists, and every guarantee names one."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from docs.blocks import ROOT, pages

if TYPE_CHECKING:
    from pathlib import Path

NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
GUARANTEES = ROOT / "docs" / "guarantees.md"


def functions(file: str) -> set[str]:
    """Return the names of all functions and classes in a file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_named_tests_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [
        f"{file}::{name}"
        for file, name in NAMED.findall(text)
        if not (ROOT / file).exists() or (name and name not in functions(file))
    ]
    assert not missing


def test_every_guarantee_names_a_test() -> None:
    text = GUARANTEES.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    guarantees = [line for line in lines if not line.startswith("| guarantee")]
    assert guarantees
    without = [line for line in guarantees if not NAMED.search(line)]
    assert not without
