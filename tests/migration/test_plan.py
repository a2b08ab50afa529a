"""`migrate plan` and `migrate status`: what would be done, and who runs meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from command import Command
from doctoring import as_user, role_of
from evstore.errors import ConfigError, SchemaError
from evstore.log.postgres import migrations
from evstore.maintenance import grant, migrate_up, migration_plan, migration_status
from fault.history import adjusted
from migration.databases import KNOWS, NEEDED, execute, holding, seen

if TYPE_CHECKING:
    from pathlib import Path

    from evstore import Config
    from migration.databases import Files

LOCKS = ("evstore.instances: ACCESS EXCLUSIVE, for a moment", "evstore.log: SHARE")


async def test_an_empty_database_gets_everything_and_nothing_is_done(
    unmigrated_config: Config,
) -> None:
    plan = await migration_plan(unmigrated_config)
    assert (plan.version, plan.head, plan.instances) == (0, 0, [])
    assert [each.migration for each in plan.steps] == migrations.available()
    assert not any(each.left_behind for each in plan.steps)
    exists = "SELECT count(*) FROM pg_namespace WHERE nspname = 'evstore'"
    assert await execute(unmigrated_config, exists) == 0


async def test_a_database_that_is_up_to_date_gets_nothing(
    postgres_config: Config,
) -> None:
    plan = await migration_plan(postgres_config)
    assert (plan.version, plan.steps) == (NEEDED, [])


async def test_what_is_pending_is_planned_with_its_locks(
    postgres_config: Config, files: Files
) -> None:
    version = files.add("SELECT 1;", name="first", locks=LOCKS)
    files.add("-- locks: none of this\nSELECT 2;", name="second", writable_from=version)
    plan = await migration_plan(postgres_config)
    assert plan.version == NEEDED
    first, second = (each.migration for each in plan.steps)
    assert (first.version, first.name, first.locks) == (version, "first", LOCKS)
    assert (second.readable_from, second.writable_from) == (1, version)
    await migrate_up(postgres_config)
    assert (await migration_plan(postgres_config)).steps == []


async def test_planning_waits_for_nobody_and_changes_nothing(
    postgres_config: Config, files: Files
) -> None:
    files.add("CREATE TABLE evstore.extra ();")
    everything = (
        "SELECT (SELECT string_agg(oid::text || relname, ',' ORDER BY oid) FROM pg_class)"
        " || (SELECT string_agg(m::text, ',') FROM evstore.schema_migration AS m)"
    )
    before = await execute(postgres_config, everything)
    async with holding(postgres_config, "SELECT pg_advisory_xact_lock(1702261620, 3)"):
        with anyio.fail_after(10):
            assert len((await migration_plan(postgres_config)).steps) == 1
            assert len((await migration_status(postgres_config)).pending) == 1
    assert await execute(postgres_config, everything) == before


async def test_the_role_of_an_instance_may_ask(
    postgres_config: Config, files: Files
) -> None:
    files.add("SELECT 1;")
    async with role_of(postgres_config) as role:
        await grant(postgres_config, role)
        config = as_user(postgres_config, role)
        assert len((await migration_plan(config)).steps) == 1
        assert (await migration_status(config)).head == 0


async def test_a_database_that_cannot_be_migrated_has_no_plan(
    postgres_config: Config,
) -> None:
    await execute(postgres_config, "UPDATE evstore.schema_migration SET dirty = true")
    with pytest.raises(SchemaError, match="dirty"):
        await migration_plan(postgres_config)
    # But its status can be asked for.
    assert all(each.dirty for each in (await migration_status(postgres_config)).applied)


async def test_the_memory_store_has_no_plan() -> None:
    with pytest.raises(ConfigError, match="memory"):
        await migration_plan(evstore.Config())


async def test_those_seen_in_the_last_minute_run(postgres_config: Config) -> None:
    await seen(postgres_config, seconds_ago=61)
    older = await seen(postgres_config, seconds_ago=40)
    newer = await seen(postgres_config, seconds_ago=20)
    for found in (
        await migration_plan(postgres_config),
        await migration_status(postgres_config),
    ):
        assert [each.id for each in found.instances] == [newer, older]
        assert {each.knows for each in found.instances} == {1}


async def test_a_store_that_is_open_runs(postgres_config: Config) -> None:
    config = adjusted(postgres_config, heartbeat_interval=0.05)
    async with evstore.open(config) as store:
        await store.create("Mesh", "default", spec={})
        found = await migration_status(postgres_config)
        with anyio.fail_after(10):
            while [each.position for each in found.instances] != [1]:
                found = await migration_status(postgres_config)
    (instance,) = found.instances
    assert found.head == 1
    assert instance.knows == NEEDED
    assert instance.seen_at is not None


async def test_a_plan_says_whom_each_step_leaves_behind(
    postgres_config: Config, files: Files
) -> None:
    files.add(KNOWS, name="expand")
    await migrate_up(postgres_config)
    number = NEEDED + 1
    old, new = (
        await seen(postgres_config, knows=number),
        await seen(postgres_config, knows=number + 1),
    )
    for readable, writable in ((1, number), (1, number + 1), (number + 1, number + 1)):
        files.add("SELECT 1;", readable_from=readable, writable_from=writable)
    plan = await migration_plan(postgres_config)
    assert {each.id: each.knows for each in plan.instances} == {
        old: number,
        new: number + 1,
    }
    behind = [
        [(each.instance.id, each.reads) for each in step.left_behind]
        for step in plan.steps
    ]
    assert behind == [[], [(old, True)], [(old, False)]]


def _table(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_command_shows_a_plan(
    postgres_config: Config, files: Files, tmp_path: Path
) -> None:
    command = Command(postgres_config, tmp_path)
    assert command("migrate", "plan").out == (
        f"the database is at version {NEEDED}: nothing to do\n\n"
        "no instance was seen in the last minute\n"
    )
    instance = str(anyio.run(seen, postgres_config))
    files.add("SELECT 1;", name="first", locks=LOCKS)
    version = files.add("SELECT 1;", name="second", writable_from=NEEDED + 1)
    lines = command("migrate", "plan").out.splitlines()
    assert lines[0] == f"the database is at version {NEEDED}"
    assert lines[2].split() == ["VERSION", "NAME", "LOCKS", "LEAVES", "BEHIND"]
    assert "; ".join(LOCKS) in lines[3]
    assert lines[4].split() == [
        *(str(version), "second", "none"),
        *(instance, "cannot", "write"),
    ]
    assert lines[7].split()[:5] == [instance, "0.0.7", "1", "0", "0"]
    assert f"stops before version {version} (second)" in lines[-1]
    (document,) = command("migrate", "plan", "-o", "json").documents
    assert document["version"] == NEEDED
    assert [each["name"] for each in document["steps"]] == ["first", "second"]
    assert document["steps"][0]["locks"] == list(LOCKS)
    assert document["steps"][1]["left_behind"] == [{"id": instance, "reads": True}]
    (found,) = document["instances"]
    assert found.pop("seen_at").endswith("Z")
    assert found == {
        "id": instance,
        "code_version": "0.0.7",
        "knows": 1,
        "position": 0,
        "behind": 0,
    }


def test_the_command_plans_for_an_empty_database(
    unmigrated_config: Config, tmp_path: Path
) -> None:
    command = Command(unmigrated_config, tmp_path)
    lines = command("migrate", "plan").out.splitlines()
    assert lines[0] == "the database is empty"
    assert lines[3].split() == ["1", "log", "none"]
    done = command("migrate", "plan", "-o", "yaml")
    assert "version: 0\n" in done.out


def test_the_command_shows_who_runs_and_how_far_it_is_behind(
    postgres_config: Config, tmp_path: Path
) -> None:
    command = Command(postgres_config, tmp_path)
    meshes = "---\n".join(f"type: Mesh\nname: {name}\n" for name in ("a", "b", "c"))
    assert command("apply", "-f", "-", stdin=meshes).code == 0
    instance = anyio.run(seen, postgres_config)
    *_, titles, row = command("migrate", "status").out.splitlines()
    assert titles.split() == [
        *("INSTANCE", "EVSTORE", "KNOWS", "POSITION", "BEHIND", "SEEN", "AT")
    ]
    assert row.split()[:5] == [str(instance), "0.0.7", "1", "0", "3"]
    (document,) = command("migrate", "status", "-o", "json").documents
    assert document["head"] == 3
    (found,) = document["instances"]
    assert (found["id"], found["behind"]) == (str(instance), 3)
