"""A migration that a running instance could not survive is refused, unless by force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

import anyio
import pytest

import evstore
from command import Command
from evstore.errors import SchemaError
from evstore.log import Instance
from evstore.log.postgres.migrating import left_behind
from evstore.log.postgres.migrations import Migration
from evstore.maintenance import migrate_up
from fault.history import adjusted
from migration.databases import (
    KNOWS,
    NEEDED,
    blocked,
    execute,
    holding,
    is_there,
    seen,
    version_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from evstore import Config
    from migration.databases import Files

NEXT: Final = NEEDED + 1
EXTRA: Final = "CREATE TABLE evstore.extra (id integer PRIMARY KEY);"


def _migration(version: int, readable: int, writable: int) -> Migration:
    return Migration(
        version=version,
        name="step",
        sql="",
        checksum="",
        locks=(),
        readable_from=readable,
        writable_from=writable,
    )


@pytest.mark.parametrize(
    ("knows", "needs", "reads"),
    [
        (1, (1, 1), []),
        (1, (1, 2), [True]),
        (1, (2, 2), [False]),
        (1, (2, 1), [False]),  # who cannot read cannot write
        (2, (1, 2), []),
        (2, (2, 2), []),
        (2, (3, 3), [False]),
        (3, (1, 3), []),
    ],
)
def test_an_instance_is_left_behind_that_knows_less_than_is_needed(
    knows: int, needs: tuple[int, int], reads: list[bool]
) -> None:
    instance = Instance(
        id=uuid4(), position=0, digest=b"", code_version="", knows=knows
    )
    done = [_migration(1, 1, 1)]
    (behind,) = left_behind([instance], done, [_migration(2, *needs)])
    assert [each.reads for each in behind] == reads
    assert all(each.instance is instance for each in behind)


def test_an_instance_is_left_behind_by_the_step_that_takes_something_from_it() -> None:
    instance = Instance(id=uuid4(), position=0, digest=b"", code_version="", knows=1)
    needs = [(1, 2), (1, 2), (1, 1), (2, 2), (2, 4)]
    steps = [_migration(2 + index, *each) for index, each in enumerate(needs)]
    found = left_behind([instance], [_migration(1, 1, 1)], steps)
    assert [[each.reads for each in step] for step in found] == [
        *([True], [], [], [False], [])
    ]
    # What it had lost before, it cannot lose again.
    (again,) = left_behind([instance], steps[:1], steps[1:2])
    assert again == []


async def test_a_step_that_a_running_instance_cannot_survive_is_refused(
    postgres_config: Config, files: Files
) -> None:
    config = adjusted(postgres_config, heartbeat_interval=0.05)
    async with evstore.open(config) as running:
        version = files.add(EXTRA, readable_from=NEXT, writable_from=NEXT)
        while not (instances := await running.instances()):
            await anyio.lowlevel.checkpoint()
        with pytest.raises(SchemaError) as caught:
            await migrate_up(postgres_config)
        # Nothing has changed, and it goes on.
        assert await version_of(postgres_config) == NEEDED
        assert not await is_there(postgres_config, "extra")
        await running.create("Mesh", "default", spec={})
    message = str(caught.value)
    assert f"migration {version} (extra)" in message
    assert f"{instances[0].id} (evstore {instances[0].code_version}" in message
    assert f"knows version {NEEDED}) could not read" in message
    assert "--force" in message
    assert f"The database is at version {NEEDED}" in message
    assert not caught.value.retryable


async def test_force_leaves_it_behind(postgres_config: Config, files: Files) -> None:
    files.add(EXTRA, readable_from=NEXT, writable_from=NEXT)
    await seen(postgres_config)
    with pytest.raises(SchemaError):
        await migrate_up(postgres_config)
    report = await migrate_up(postgres_config, force=True)
    assert (report.version, [each.name for each in report.applied]) == (NEXT, ["extra"])
    assert await is_there(postgres_config, "extra")


async def test_steps_before_it_are_applied(
    postgres_config: Config, files: Files
) -> None:
    files.add(KNOWS, name="expand")
    files.add(EXTRA, name="contract", writable_from=NEXT + 1)
    await seen(postgres_config)
    with pytest.raises(SchemaError, match=rf"contract.*at version {NEXT}"):
        await migrate_up(postgres_config)
    assert await version_of(postgres_config) == NEXT
    assert not await is_there(postgres_config, "extra")
    # As soon as it has become a newer one, or has not been seen for a minute.
    update = f"UPDATE evstore.instances SET knows = {NEXT + 1}"
    await execute(postgres_config, update)
    assert (await migrate_up(postgres_config)).version == NEXT + 1


async def test_one_that_was_not_seen_for_a_minute_does_not_count(
    postgres_config: Config, files: Files
) -> None:
    files.add(EXTRA, readable_from=NEXT, writable_from=NEXT)
    await seen(postgres_config, seconds_ago=61)
    assert (await migrate_up(postgres_config)).version == NEXT


async def test_the_instances_are_those_that_run_once_the_step_has_its_lock(
    postgres_config: Config, files: Files
) -> None:
    files.add(EXTRA, writable_from=NEXT)
    refused = False

    async def migrate() -> None:
        nonlocal refused
        with pytest.raises(SchemaError, match="could not write"):
            await migrate_up(postgres_config)
        refused = True

    lock = "SELECT pg_advisory_xact_lock(1702261620, 3)"
    async with anyio.create_task_group() as tasks, holding(postgres_config, lock):
        tasks.start_soon(migrate)
        await blocked(postgres_config)
        await seen(postgres_config)
    assert refused


async def test_many_are_counted_and_not_all_named(
    postgres_config: Config, files: Files
) -> None:
    files.add(EXTRA, writable_from=NEXT)
    for _ in range(5):
        await seen(postgres_config)
    with pytest.raises(SchemaError, match="and 2 more") as caught:
        await migrate_up(postgres_config)
    assert str(caught.value).count("could not write") == 3


def test_the_command_refuses_in_a_line_and_takes_force(
    postgres_config: Config, files: Files, tmp_path: Path
) -> None:
    files.add(EXTRA, writable_from=NEXT)
    instance = anyio.run(seen, postgres_config)
    command = Command(postgres_config, tmp_path)
    done = command("migrate", "up")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: migration {NEXT} (extra) would leave")
    assert done.err.count("\n") == 1
    assert str(instance) in done.err
    assert command("migrate", "up", "--force") == (
        0,
        f"migrated to version {NEXT}\n",
        "",
    )
