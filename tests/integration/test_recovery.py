"""The drills of docs/howto/recovery.md, run as they stand on the page."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio
import pytest

import evstore
from command import Command
from docs.blocks import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from evstore import Config
    from evstore.embedded import EmbeddedServer

PAGE: Final = ROOT / "docs" / "howto" / "recovery.md"
_SECONDS_MAX: Final = 30

STATE: Final = """\
type: Mesh
name: default
spec: {mtls: {enabledBackend: ca-1}}
---
type: Zone
name: east
---
type: MeshTimeout
name: all
spec: {seconds: 5}
---
type: Dataplane
name: web-1
spec: {address: 10.0.0.1}
"""
INSTANCE: Final = """
import anyio, evstore
async def main():
    async with evstore.open(evstore.load_config()) as store:
        print(store.digest().hex(), flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


class Step(NamedTuple):
    """A command of the page, and what it is to print; `...` is anything."""

    line: str
    output: str


def blocks(heading: str) -> list[list[Step]]:
    """Return the commands of a section, block by block."""
    text = "\n" + PAGE.read_text(encoding="utf-8")
    _, found, section = text.partition(f"\n{heading}\n")
    assert found, f"{PAGE} has no {heading!r}"
    section = section.partition("\n## ")[0]
    return [
        [
            Step(line, output.strip())
            for line, output in re.findall(
                r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE
            )
        ]
        for block in re.findall(
            r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL
        )
    ]


class Drill:
    """The command on a database, which the page's commands are run against."""

    def __init__(self, server: EmbeddedServer, config: Config, folder: Path) -> None:
        self._server = server
        self.config: Final = config
        self.name: Final = config.postgres.db_name
        self.evstore: Final = Command(config, folder)
        program = folder / "bin" / "evstore"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m evstore "$@"\n'
        )
        program.chmod(0o755)
        self._bin: Final = program.parent
        self.do("migrate", "up")
        self.apply(STATE, actor="alice", reason="set up")

    def do(self, *words: str) -> str:
        done = self.evstore(*words)
        assert done.code == 0, done.err
        return done.out

    def apply(self, text: str, *, actor: str = "alice", reason: str = "more") -> None:
        self.evstore.write("apply.yaml", text)
        self.do("apply", "-f", "apply.yaml", "--actor", actor, "--reason", reason)

    def run(self, steps: list[Step]) -> None:
        """Run commands of the page, through a shell; they print what stands there."""
        assert steps
        for step in steps:
            path = f"{self._bin}:/usr/bin:/bin"
            done = subprocess.run(
                ["/bin/bash", "-c", f"set -o pipefail; {step.line}"],
                capture_output=True,
                check=False,
                cwd=self.evstore.folder,
                env=self.evstore.environ(PATH=path),
                text=True,
                timeout=_SECONDS_MAX,
            )
            printed = done.stdout + done.stderr
            pattern = ".*".join(map(_pattern, step.output.split("...")))
            told = f"{step.line}\nprinted\n{printed}"
            assert re.fullmatch(pattern, printed.strip(), re.DOTALL), told
            assert done.returncode == step.output.startswith("error:"), told

    def lose(self) -> None:
        self._server.psql(f"DROP DATABASE {self.name} WITH (FORCE)")
        self._server.create_database(self.name)

    def back_up(self) -> str:
        backup = f"{self.name}_backup"
        self._server.create_database(backup, template=self.name)
        return backup

    def set_back(self, backup: str) -> None:
        self._server.psql(f"DROP DATABASE {self.name} WITH (FORCE)")
        self._server.create_database(self.name, template=backup)

    def remove(self, database: str) -> None:
        self._server.drop_database(database)


def _pattern(text: str) -> str:
    return r"\s+".join(map(re.escape, re.split(r"\s+", text)))


@pytest.fixture
def drill(server: EmbeddedServer, unmigrated_config: Config, tmp_path: Path) -> Drill:
    return Drill(server, unmigrated_config, tmp_path)


pytestmark = pytest.mark.slow


def test_an_export_beforehand(drill: Drill) -> None:
    (block,) = blocks("# Recover")[:1]
    drill.run(block)


def test_a_bad_change_is_taken_back(drill: Drill) -> None:
    drill.apply("{type: Zone, name: west}")
    bad = "{type: Mesh, name: default, spec: {mtls: {enabledBackend: ca-2}}}"
    drill.apply(bad, actor="mallory", reason="rollout")
    find, undo, bring_back = blocks("## A bad change")
    drill.run(find)
    drill.run(undo)
    drill.apply(bad, actor="mallory", reason="again")
    drill.run(bring_back)
    (mesh,) = drill.evstore("get", "Mesh", "default", "-o", "json").documents
    assert mesh["spec"] == {"mtls": {"enabledBackend": "ca-1"}}
    actors = [each["actor"] for each in drill.evstore("log", "-o", "json").documents]
    assert actors.count("mallory") == 2


def test_a_lost_state_is_made_anew(drill: Drill) -> None:
    drill.apply("{type: Zone, name: west}")
    digests: list[str] = []
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", INSTANCE],
            env=drill.evstore.environ(),
            stdout=subprocess.PIPE,
            text=True,
        ) as instance:
            assert instance.stdout is not None
            digests.append(instance.stdout.readline().strip())
            instance.send_signal(signal.SIGKILL)
    assert digests[0] == digests[1] != ""
    (block,) = blocks("## A lost state")
    drill.run(block)
    assert digests[0] in drill.do("replay")


def test_a_lost_database_is_restored_from_exports(drill: Drill) -> None:
    drill.do("export", "--output", "night.jsonl.zst")
    drill.apply("{type: Zone, name: west}")
    drill.do("export", "--since", "yesterday", "--output", "part.jsonl.zst")
    before = drill.do("log", "-o", "json")
    drill.lose()
    whole, part = blocks("## A lost database")
    drill.run(whole)
    drill.run(part)
    assert drill.do("log", "-o", "json") == before


def test_instances_notice_a_restored_backup_and_what_is_lost_comes_back(
    drill: Drill,
) -> None:
    backup = drill.back_up()
    try:
        anyio.run(_instance_behind_a_backup, drill, backup)
        missing, written, again = blocks(
            "## A restored backup behind running instances"
        )
        drill.run(missing)
        assert len(drill.evstore("log", "-o", "json").documents) == 5
        drill.set_back(backup)
        drill.apply("{type: Zone, name: north}")
        drill.run(written)
        drill.run(again)
        zones = drill.evstore("list", "Zone", "-o", "json").documents
        assert [each["name"] for each in zones] == ["east", "north", "west"]
    finally:
        drill.remove(backup)


async def _instance_behind_a_backup(drill: Drill, backup: str) -> None:
    """Set the database back behind a store that runs and a watch that follows it."""
    async with evstore.open(drill.config) as store:
        west = await store.create("Zone", "west", spec={})
        words = ("export", "--since", "yesterday", "--output", "part.jsonl.zst")
        await anyio.to_thread.run_sync(lambda: _outside(drill, *words))
        watch = store.watch(after=0)
        for _ in range(5):
            await anext(watch)
        await anyio.to_thread.run_sync(drill.set_back, backup)
        with anyio.fail_after(_SECONDS_MAX), pytest.raises(evstore.DivergedError):
            await anext(watch)
        with pytest.raises(evstore.NotFoundError):
            await store.get("Zone", "west", consistent=True)
        assert store.position == 4
        with pytest.raises(evstore.ConflictError):
            await store.update(west, spec={"late": True})


def _outside(drill: Drill, *words: str) -> None:
    done = drill.evstore.process(*words)
    assert done.code == 0, done.err
