"""`migrate up`: from nothing, again, together, interrupted, and what it refuses."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

import evstore
from evstore.errors import ConfigError, SchemaError, StoreError, UnavailableError
from evstore.log.postgres import migrating, migrations
from evstore.maintenance import migrate_up, migration_status
from migration.databases import NEEDED, blocked, execute, holding

if TYPE_CHECKING:
    from pathlib import Path

    from evstore import Config
    from evstore.embedded import EmbeddedServer
    from migration.databases import Files

HEADER = "-- evstore: readable_from 1, writable_from 1\n"
SECOND = """\
CREATE TABLE evstore.extra (id integer PRIMARY KEY);
SELECT pg_advisory_xact_lock(77);
"""


@pytest.fixture
def two_files(files: Files) -> Path:
    """Have evstore bring a migration more; return the folder."""
    assert files.add(SECOND) == NEEDED + 1
    return files.folder


async def test_an_empty_database_is_brought_to_the_version_that_is_needed(
    unmigrated_config: Config,
) -> None:
    report = await migrate_up(unmigrated_config)
    assert [each.version for each in report.applied] == list(range(1, NEEDED + 1))
    assert report.version == NEEDED
    async with evstore.open(unmigrated_config) as store:
        assert await store.head() == 0
        assert (await store.create("Mesh", "default", spec={})).version == 1


async def test_migrating_again_changes_nothing(postgres_config: Config) -> None:
    tables = "SELECT string_agg(oid::text || relname, ',' ORDER BY oid) FROM pg_class"
    rows = "SELECT string_agg(m::text, ',') FROM evstore.schema_migration AS m"
    async with evstore.open(postgres_config) as store:
        await store.create("Mesh", "default", spec={})
    before = (
        await execute(postgres_config, tables),
        await execute(postgres_config, rows),
    )
    report = await migrate_up(postgres_config)
    assert report.applied == []
    assert report.version == NEEDED
    after = await execute(postgres_config, tables), await execute(postgres_config, rows)
    assert before == after
    async with evstore.open(postgres_config) as store:
        assert await store.head() == 1


async def test_what_was_applied_is_recorded(postgres_config: Config) -> None:
    columns = await execute(
        postgres_config,
        "SELECT string_agg(attname || ' ' || format_type(atttypid, -1), ', '"
        " ORDER BY attnum) FROM pg_attribute WHERE attnum > 0"
        " AND attrelid = 'evstore.schema_migration'::regclass",
    )
    assert columns == (
        "version integer, name text, checksum text,"
        " applied_at timestamp with time zone, dirty boolean,"
        " readable_from integer, writable_from integer"
    )
    status = await migration_status(postgres_config)
    assert status.pending == []
    for done, migration in zip(status.applied, migrations.available(), strict=True):
        assert done.version == migration.version
        assert done.name == migration.name
        assert done.checksum == sha256(migration.sql.encode()).hexdigest()
        assert not done.dirty
        assert done.applied_at.tzinfo is not None


@pytest.mark.usefixtures("two_files")
async def test_a_second_migration_is_applied_to_a_database_in_use(
    postgres_config: Config,
) -> None:
    with pytest.raises(SchemaError, match="evstore migrate up"):
        async with evstore.open(postgres_config):
            pytest.fail("the database is too old")
    assert len((await migration_status(postgres_config)).pending) == 1
    report = await migrate_up(postgres_config)
    assert [each.name for each in report.applied] == ["extra"]
    assert report.version == NEEDED + 1
    async with evstore.open(postgres_config) as store:
        await store.create("Mesh", "default", spec={})


async def test_an_applied_file_must_not_change(
    postgres_config: Config, two_files: Path
) -> None:
    await migrate_up(postgres_config)
    (two_files / f"{NEEDED + 1:04}_extra.sql").write_text(HEADER + SECOND + "--\n")
    with pytest.raises(SchemaError, match=rf"migration {NEEDED + 1} \(extra\).*other"):
        await migrate_up(postgres_config)
    with pytest.raises(SchemaError, match=r"\(extra\)"):
        async with evstore.open(postgres_config):
            pytest.fail("the file was edited")


async def test_a_dirty_database_is_refused(postgres_config: Config) -> None:
    await execute(postgres_config, "UPDATE evstore.schema_migration SET dirty = true")
    with pytest.raises(SchemaError, match="dirty"):
        await migrate_up(postgres_config)
    with pytest.raises(SchemaError, match="dirty"):
        async with evstore.open(postgres_config):
            pytest.fail("the database is dirty")


async def test_an_unmigrated_database_is_refused_with_both_versions_and_the_command(
    unmigrated_config: Config,
) -> None:
    with pytest.raises(SchemaError) as caught:
        async with evstore.open(unmigrated_config):
            pytest.fail("the database is empty")
    message = str(caught.value)
    assert "version 0" in message
    assert f"version {NEEDED}" in message
    assert "evstore migrate up" in message


async def _add_newer(config: Config, *, readable: int, writable: int) -> None:
    await execute(
        config,
        "INSERT INTO evstore.schema_migration"
        " (version, name, checksum, readable_from, writable_from)"
        f" VALUES ({NEEDED + 1}, 'newer', 'x', {readable}, {writable})",
    )


def _tolerant(config: Config) -> Config:
    return msgspec.structs.replace(
        config,
        postgres=msgspec.structs.replace(
            config.postgres, tolerate_newer_db_versions=True
        ),
    )


async def test_a_newer_database_is_refused_with_both_versions(
    postgres_config: Config,
) -> None:
    async def start(config: Config) -> None:
        async with evstore.open(config):
            pytest.fail("the database is newer")

    await _add_newer(postgres_config, readable=1, writable=1)
    for action in (start, migrate_up):
        with pytest.raises(SchemaError) as caught:
            await action(postgres_config)
        message = str(caught.value)
        assert f"version {NEEDED + 1}" in message
        assert f"version {NEEDED} " in message
        assert "evstore" in message


async def test_migrate_up_refuses_a_newer_database_even_when_tolerant(
    postgres_config: Config,
) -> None:
    await _add_newer(postgres_config, readable=1, writable=1)
    with pytest.raises(SchemaError):
        await migrate_up(_tolerant(postgres_config))


async def test_a_newer_database_that_declares_itself_compatible_is_tolerated(
    postgres_config: Config,
) -> None:
    await _add_newer(postgres_config, readable=NEEDED, writable=NEEDED)
    async with evstore.open(_tolerant(postgres_config)) as store:
        await store.create("Mesh", "default", spec={})


@pytest.mark.parametrize(
    ("readable", "writable"),
    [(NEEDED, NEEDED + 1), (NEEDED + 1, NEEDED), (NEEDED + 1, NEEDED + 1)],
)
async def test_a_newer_database_that_declares_nothing_is_not_tolerated(
    postgres_config: Config, readable: int, writable: int
) -> None:
    await _add_newer(postgres_config, readable=readable, writable=writable)
    with pytest.raises(SchemaError, match=f"version {NEEDED + 1}"):
        async with evstore.open(_tolerant(postgres_config)):
            pytest.fail("this version may not write it")


async def test_two_migrators_at_once_apply_everything_once(
    unmigrated_config: Config,
) -> None:
    applied: list[int] = []

    async def migrate() -> None:
        report = await migrate_up(unmigrated_config)
        assert report.version == NEEDED
        applied.extend(each.version for each in report.applied)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(migrate)
    assert sorted(applied) == list(range(1, NEEDED + 1))


async def _killed_while(config: Config, blocker: str) -> None:
    """Begin to migrate, and end the migrator's session while `blocker` holds it up."""
    raised: list[StoreError] = []

    async def migrate() -> None:
        with pytest.raises(UnavailableError) as caught:
            await migrate_up(config)
        raised.append(caught.value)

    async with anyio.create_task_group() as tasks, holding(config, blocker):
        tasks.start_soon(migrate)
        process = await blocked(config)
        query = f"SELECT pg_terminate_backend({process}, 5000)"
        await execute(config, query, user="postgres")
        with anyio.fail_after(5):
            while not raised:  # noqa: ASYNC110
                await anyio.sleep(0.005)


async def test_a_migrator_killed_at_the_start_leaves_nothing_behind(
    unmigrated_config: Config,
) -> None:
    await _killed_while(unmigrated_config, "CREATE SCHEMA evstore")
    exists = "SELECT count(*) FROM pg_namespace WHERE nspname = 'evstore'"
    assert await execute(unmigrated_config, exists) == 0
    assert (await migrate_up(unmigrated_config)).version == NEEDED


@pytest.mark.usefixtures("two_files")
async def test_a_migrator_killed_in_the_middle_is_finished_by_the_next(
    unmigrated_config: Config,
) -> None:
    await _killed_while(unmigrated_config, "SELECT pg_advisory_xact_lock(77)")
    # The first step is whole, the second has left nothing and the next run does it.
    status = await migration_status(unmigrated_config)
    assert [each.version for each in status.applied] == list(range(1, NEEDED + 1))
    assert not any(each.dirty for each in status.applied)
    extra = "SELECT to_regclass('evstore.extra') IS NULL"
    assert await execute(unmigrated_config, extra) is True
    report = await migrate_up(unmigrated_config)
    assert [each.name for each in report.applied] == ["extra"]


@pytest.mark.usefixtures("two_files")
async def test_the_lock_of_a_migrator_ends_with_each_step(
    unmigrated_config: Config,
) -> None:
    # Behind a pooler the session may be another one after the commit: a lock of the
    # session would then stay for ever.
    lock = "SELECT pg_try_advisory_lock(1702261620, 3)"
    steps = 0
    async for _ in migrating.migrate(unmigrated_config.postgres):
        steps += 1
        assert await execute(unmigrated_config, lock) is True
    assert steps == NEEDED + 1


async def test_a_migration_that_fails_leaves_nothing_behind(
    postgres_config: Config, two_files: Path
) -> None:
    file = two_files / f"{NEEDED + 1:04}_extra.sql"
    file.write_text(HEADER + SECOND + "SELECT 1 / 0;\n")
    with pytest.raises(StoreError, match="division by zero") as caught:
        await migrate_up(postgres_config)
    assert not caught.value.retryable
    extra = "SELECT to_regclass('evstore.extra') IS NULL"
    assert await execute(postgres_config, extra) is True
    file.write_text(HEADER + SECOND)
    assert (await migrate_up(postgres_config)).version == NEEDED + 1


async def test_a_database_that_is_not_utf8_is_refused(
    server: EmbeddedServer, unmigrated_config: Config
) -> None:
    name = f"{unmigrated_config.postgres.db_name}_ascii"
    server.psql(
        f"CREATE DATABASE {name} OWNER kuma TEMPLATE template0"
        " ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'"
    )
    try:
        with pytest.raises((SchemaError, ConfigError), match="UTF8"):
            await migrate_up(server.config(name))
        exists = "SELECT count(*) FROM pg_namespace WHERE nspname = 'evstore'"
        assert await execute(server.config(name), exists) == 0
    finally:
        server.drop_database(name)


async def test_migrations_make_no_roles_and_no_extensions(
    server: EmbeddedServer, unmigrated_config: Config
) -> None:
    query = (
        "SELECT (SELECT count(*) FROM pg_roles) + (SELECT count(*) FROM pg_extension)"
    )
    before = await execute(unmigrated_config, query)
    await migrate_up(unmigrated_config)
    assert await execute(unmigrated_config, query) == before
    assert server.running


async def test_the_memory_store_has_nothing_to_migrate() -> None:
    with pytest.raises(ConfigError, match="memory"):
        await migrate_up(evstore.Config())
