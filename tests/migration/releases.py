"""Releases of evstore: copies of this program with migrations of their own."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anyio import to_thread

import evstore
from command import Command, Done
from migration.databases import NEEDED, Files

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from evstore import Config

PACKAGE: Final = Path(evstore.__file__).parent


class Release:
    """A release of evstore: this program, with these migrations after those it has."""

    def __init__(self, config: Config, folder: Path, further: Sequence[str]) -> None:
        self.version: Final = NEEDED + len(further)
        self.config: Final = config
        self._command = Command(config, folder)
        shutil.copytree(
            PACKAGE,
            folder / "evstore",
            ignore=shutil.ignore_patterns("__pycache__", "_migrations"),
        )
        packaged = folder / "evstore" / "_migrations"
        packaged.mkdir()
        self.files: Final = Files(packaged)
        for text in further:
            self.files.put(text, name="step")

    async def run(self, *words: str, stdin: str = "", tolerant: bool = True) -> Done:
        """Run a command of this release, as a process."""
        work = partial(
            self._command.process,
            *words,
            stdin=stdin.encode(),
            PYTHONPATH=str(self._command.folder),
            KUMA_STORE_POSTGRES_TOLERATE_NEWER_DB_VERSIONS=str(tolerant).lower(),
        )
        return await to_thread.run_sync(work)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command of this release; the caller ends it."""
        return self._command.start(*words, PYTHONPATH=str(self._command.folder))

    async def apply(self, name: str, *, tolerant: bool = True) -> Done:
        """Start, and create a mesh."""
        manifest = f"type: Mesh\nname: {name}\n"
        return await self.run("apply", "-f", "-", stdin=manifest, tolerant=tolerant)

    async def names(self) -> list[str]:
        """Start, and return the meshes that there are."""
        done = await self.run("list", "Mesh", "-o", "json")
        assert done.code == 0, done.err
        return [each["name"] for each in done.documents]
