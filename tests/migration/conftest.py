"""Migrations that a test may add to and change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evstore.log.postgres import migrations
from migration.databases import Files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Have this process bring migrations from a folder of the test's own."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    made = Files(folder)
    monkeypatch.setattr(migrations, "_folder", lambda: folder)
    return made
