"""Migrations that a test may add to and change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evstore.log.postgres import migrations
from migration.databases import Files
from migration.debian import Databases
from servers import short_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from evstore import Config


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Have this process bring migrations from a folder of the test's own."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    made = Files(folder)
    monkeypatch.setattr(migrations, "_folder", lambda: folder)
    return made


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Return a server of Debian's package, for databases that are dumped."""
    with short_folder() as folder:
        made = Databases(folder)
        try:
            yield made
        finally:
            made.server.stop()


@pytest.fixture
def make(databases: Databases) -> Iterator[Callable[[], Config]]:
    """Return a maker of empty databases, which are dropped after the test."""
    made: list[Config] = []

    def one_more() -> Config:
        made.append(databases.make())
        return made[-1]

    yield one_more
    for config in made:
        databases.drop(config)
