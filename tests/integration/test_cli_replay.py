"""`evstore replay`: the state from the first event, and what it is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
import msgspec
import pytest

import evstore
from command import Command
from evstore.cli.replay import rebuild
from evstore.log import Instance, open_log

if TYPE_CHECKING:
    from pathlib import Path

    from evstore import Config


@pytest.fixture
def command(postgres_config: Config, tmp_path: Path) -> Command:
    return Command(postgres_config, tmp_path)


async def write(config: Config, *, count: int, record: bool) -> list[Instance]:
    """Make transactions of two events; return what an instance may record after each."""
    evstore_config = msgspec.structs.replace(config.evstore, heartbeat_interval=0)
    quiet = msgspec.structs.replace(config, evstore=evstore_config)
    recorded: list[Instance] = []
    async with evstore.open(quiet) as store:
        for number in range(count):
            async with store.transaction() as tx:
                tx.create("Mesh", f"a-{number}", spec={"number": number})
                tx.create("Mesh", f"b-{number}", spec={}, labels={"n": str(number)})
            recorded.append(
                Instance(
                    id=uuid4(),
                    position=store.position,
                    digest=store.digest(),
                    code_version="test",
                )
            )
    if record:
        async with open_log(config) as log:
            for each in recorded:
                await log.beat(each)
    return recorded


def test_every_digest_that_is_passed_is_compared(
    command: Command, postgres_config: Config
) -> None:
    recorded = anyio.run(lambda: write(postgres_config, count=5, record=True))
    (found,) = command("replay", "-o", "json").documents
    assert (found["events"], found["resources"]) == (10, 10)
    assert (found["compared"], found["different"], found["not_passed"]) == (5, 0, 0)
    assert found["digest"] == recorded[-1].digest.hex()
    assert "compared  with 5 of running instances: 5 equal" in command("replay").out

    part = command("replay", "--to", "5")  # inside the third transaction
    assert "events    6\n" in part.out
    assert "with 3 of running instances: 3 equal; 2 more at positions after" in part.out


def test_a_difference_ends_with_exit_code_1(
    command: Command, postgres_config: Config
) -> None:
    async def work() -> None:
        (_, second) = await write(postgres_config, count=2, record=False)
        wrong = msgspec.structs.replace(second, position=2)
        async with open_log(postgres_config) as log:
            await log.beat(wrong)

    anyio.run(work)
    done = command("replay")
    assert done.code == 1
    assert "with 1 of running instances: 0 equal, 1 different" in done.out
    assert "at position 2, but the log makes" in done.err


def test_nothing_compared_is_said(command: Command, postgres_config: Config) -> None:
    anyio.run(lambda: write(postgres_config, count=1, record=False))
    assert "with none: no instance has recorded a digest" in command("replay").out


def test_the_command_leaves_no_heartbeat(
    command: Command, postgres_config: Config
) -> None:
    assert command("log").code == 0
    assert command("replay", "-o", "json").documents[0]["compared"] == 0

    async def work() -> int:
        async with open_log(postgres_config) as log:
            return len(await log.instances())

    assert anyio.run(work) == 0


def test_the_state_is_written_in_order_and_whole(
    command: Command, postgres_config: Config
) -> None:
    anyio.run(lambda: write(postgres_config, count=2, record=False))
    assert command("replay", "--output", "state.jsonl", "--to", "2").code == 0
    assert (command.folder / "state.jsonl").read_text() == (
        '{"labels":{},"mesh":"","name":"a-0","spec":{"number":0},"type":"Mesh"}\n'
        '{"labels":{"n":"0"},"mesh":"","name":"b-0","spec":{},"type":"Mesh"}\n'
    )
    assert [each.name for each in command.folder.iterdir()] == ["state.jsonl"]
    beyond = command("replay", "--output", "no.jsonl", "--to", "5")
    assert (beyond.code, beyond.out) == (1, "")
    assert not (command.folder / "no.jsonl").exists()


async def test_parts_of_a_chunk_make_the_same_state(postgres_config: Config) -> None:
    recorded = await write(postgres_config, count=3, record=True)
    async with open_log(postgres_config) as log:
        found = await rebuild(log, None)
    assert [each.position for each in found.compared] == [2, 4, 6]
    assert not found.different
    assert found.projections.resources.digest() == recorded[-1].digest
