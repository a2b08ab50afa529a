"""The commands of docs/howto/history.md, run as they stand on the page."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import anyio
import pytest

import evstore
from command import Command
from docs.blocks import ROOT, blocks
from evstore import Key

if TYPE_CHECKING:
    from pathlib import Path

    from evstore import Config

PAGE: Final = ROOT / "docs" / "howto" / "history.md"
SLOW: Final = Key(type="MeshTimeout", mesh="default", name="slow")
_STEP: Final = re.compile(r"^\$ evstore (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


async def rollout(config: Config) -> None:
    """Make the six events that the page is about."""
    async with evstore.open(config) as store:
        who = {"actor": "alice", "reason": "set up"}
        backend = {"name": "backend", "timeout": "15s"}
        await store.create("Mesh", "default", spec={}, **who)
        spec = {"idle": "1h", "to": [backend]}
        await store.create("MeshTimeout", "slow", mesh="default", spec=spec, **who)
        spec = {"address": "10.0.0.1"}
        await store.create("Dataplane", "web-1", mesh="default", spec=spec, **who)
        to = [{"name": "admin", "timeout": "1s"}, {"name": "backend", "timeout": "1s"}]
        async with store.transaction(actor="bob", reason="rollout 42") as tx:
            tx.delete("Dataplane", "web-1", mesh="default")
            tx.update(SLOW, spec={"idle": "1h", "to": to})
        who = {"actor": "carol", "reason": "shorter idle"}
        await store.update(SLOW, spec={"idle": "30m", "to": to}, **who)


def pattern(text: str) -> str:
    """Return a pattern for what is printed: `...` is anything, spaces are not counted."""
    parts = text.strip().split("...")
    return ".*".join(r"\s+".join(map(re.escape, re.split(r"\s+", p))) for p in parts)


@pytest.mark.slow
def test_the_commands_print_what_stands_on_the_page(
    postgres_config: Config, tmp_path: Path
) -> None:
    anyio.run(rollout, postgres_config)
    command = Command(postgres_config, tmp_path)
    command.write("slow.yaml", blocks(PAGE, "yaml")[0].text)
    steps = [
        each for block in blocks(PAGE, "console") for each in _STEP.findall(block.text)
    ]
    assert len(steps) == PAGE.read_text(encoding="utf-8").count("\n$ ")
    for line, expected in steps:
        done = command(*shlex.split(line))
        printed = (done.out + done.err).strip()
        told = f"evstore {line}\nprinted\n{printed}"
        assert re.fullmatch(pattern(expected), printed, re.DOTALL), told
        assert done.code == ("error:" in expected), told
