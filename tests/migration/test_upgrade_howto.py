"""The commands of docs/howto/upgrade.md, run as they stand on the page."""

from __future__ import annotations

import re
import shlex
import textwrap
from typing import TYPE_CHECKING, Final

import anyio

import evstore
from command import Command
from docs.blocks import ROOT, blocks
from docs.test_history_howto import pattern
from evstore.cli.input.app import load_app
from evstore.config import SnapshotsConfig
from evstore.log.postgres import migrating, migrations
from evstore.maintenance import create_snapshots
from fault.history import adjusted
from migration.databases import execute

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from evstore import Config
    from migration.databases import Files

PAGE: Final = ROOT / "docs" / "howto" / "upgrade.md"
_BLOCK: Final = re.compile(r"^( *)```console\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_OLD: Final = "6f1c8c4e-1f0a-4f0e-9c43-5f0a9f6f4c55"
_NEW: Final = "0b9f6c1e-7f5d-4a52-8f0e-0e6b1c1d2a3f"
_EVENTS: Final = 6


def steps() -> list[tuple[str, str]]:
    """Return the commands of the page, and what each is to print."""
    found: list[tuple[str, str]] = []
    for _, text in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        first, _, printed = textwrap.dedent(text).partition("\n")
        found.append((first.removeprefix("$ evstore "), printed))
    return found


async def runs(config: Config, identity: str, values: str, columns: str) -> None:
    """Have one instance run, and no other."""
    await execute(config, "DELETE FROM evstore.instances")
    await execute(
        config,
        f"INSERT INTO evstore.instances (id, digest, seen_at, {columns})"
        f" VALUES ('{identity}', sha256(''), clock_timestamp(), {values})",
    )


async def filled(config: Config, folder: Path) -> None:
    """Have a log, and snapshots of the release before."""
    source = (folder / "control_plane.py").read_text(encoding="utf-8")
    before = source.replace("version = 2", "version = 1")
    assert before != source
    (folder / "control_plane_before.py").write_text(before, encoding="utf-8")
    quiet = adjusted(
        config, snapshots=SnapshotsConfig(every_events=0), heartbeat_interval=0
    )
    async with evstore.open(quiet) as store:
        for number in range(_EVENTS):
            await store.create("Zone", f"z-{number}", spec={"tags": ["a"]})
    await create_snapshots(quiet, app=load_app("control_plane_before:app"))


def test_the_commands_print_what_stands_on_the_page(
    unmigrated_config: Config,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = unmigrated_config
    second = migrations.available()[1]
    files.path(second).unlink()
    anyio.run(migrate_up_to_first, config)
    files.path(second).write_text(second.sql, encoding="utf-8")
    (module,) = (each.text for each in blocks(PAGE, "python"))
    (tmp_path / "control_plane.py").write_text(module, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    command = Command(config, tmp_path)
    done: list[str] = []
    for line, expected in steps():
        if line == "migrate plan":
            old = "48210, '0.1.0'"
            anyio.run(runs, config, _OLD, old, "position, code_version")
        if line == "migrate status":
            new = "48377, '0.2.0', 2, '{resources:1:}'"
            columns = "position, code_version, knows, projections"
            anyio.run(runs, config, _NEW, new, columns)
        if line == "migrate plan --app control_plane:app":
            anyio.run(filled, config, tmp_path)
        result = command(*shlex.split(line))
        printed = result.out.strip()
        told = f"evstore {line}\nprinted\n{printed}\n{result.err}"
        wanted = pattern(expected).replace("2026\\-.*", ".*")
        assert re.fullmatch(wanted, printed, re.DOTALL), told
        assert (result.code, result.err) == (0, ""), told
        done.append(line)
    assert [line.split()[1] for line in done] == [
        *("plan", "up", "status"),
        *("plan", "up", "list"),
    ]


async def migrate_up_to_first(config: Config) -> None:
    """Bring an empty database to version 1, as an old release has left it."""
    done = [each async for each in migrating.migrate(config.postgres)]
    assert len(done) == 1
