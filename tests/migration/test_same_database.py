"""All migrations at once and one after another, with data in between: no difference."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

import evstore
from evstore.log.postgres import migrations
from evstore.maintenance import migrate_up, migration_plan, verify
from fault.history import connected
from migration.databases import NEEDED, execute, seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore import Config
    from evstore.log.postgres.migrations import Migration
    from migration.databases import Files
    from migration.debian import Databases

EXPAND: Final = """\
-- locks: evstore.instances, ACCESS EXCLUSIVE
ALTER TABLE evstore.instances ADD COLUMN zone text DEFAULT 'none';
CREATE INDEX extra_zone ON evstore.instances (zone);
"""
CONTRACT: Final = """\
-- locks: evstore.instances, ACCESS EXCLUSIVE
ALTER TABLE evstore.instances ALTER COLUMN zone DROP DEFAULT;
CREATE OR REPLACE FUNCTION evstore.extra() RETURNS integer LANGUAGE sql AS 'SELECT 1';
"""
EVENTS: Final = (
    "SELECT string_agg(e::text, '' ORDER BY position) FROM evstore.events AS e"
)
BEATS: Final = """
    SELECT string_agg(concat(id, position, digest, code_version, seen_at), ''
        ORDER BY id)
    FROM evstore.instances
"""
# Weaker ones keep nobody waiting but who changes a table.
MODES: Final = (
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)


@pytest.fixture
def history(files: Files, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what makes this program one that has the first migrations only.

    Without that it has all there are, and two more.
    """
    files.add(EXPAND, name="expand")
    files.add(CONTRACT, name="contract")
    whole = migrations.available()

    def first(count: int) -> None:
        monkeypatch.setattr(migrations, "available", lambda: whole[:count])

    return first


async def _copy(source: Config, target: Config) -> None:
    """Put the log of one database into another that is empty."""
    identity = await execute(source, "SELECT id FROM evstore.log")
    await execute(target, f"UPDATE evstore.log SET id = '{identity}'")
    columns = await execute(
        target,
        "SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute"
        " WHERE attnum > 0 AND attrelid = 'evstore.events'::regclass",
    )
    async with connected(source) as reader, connected(target) as writer:
        out = f"COPY (SELECT {columns} FROM evstore.events ORDER BY position) TO STDOUT"
        into = f"COPY evstore.events ({columns}) FROM STDIN"
        async with (
            reader.cursor() as read,
            writer.cursor() as written,
            read.copy(out.encode()) as rows,
            written.copy(into.encode()) as copy,
        ):
            async for row in rows:
                await copy.write(row)


async def _filled(config: Config) -> bytes:
    """Write some history; return the digest of the state that it comes to."""
    async with evstore.open(config) as store:
        mesh = await store.create("Mesh", "default", spec={"mtls": {"on": True}})
        for number in range(20):
            await store.create(
                "Dataplane", f"web-{number}", mesh="default", spec={}, owner=mesh
            )
        await store.update(mesh, spec={"mtls": {"on": False}}, reason="why not")
        await store.delete("Dataplane", "web-7", mesh="default")
        return store.digest()


async def test_step_by_step_gives_the_database_that_all_at_once_gives(
    history: Callable[[int], None],
    make: Callable[[], Config],
    databases: Databases,
) -> None:
    dumps: list[str] = []
    stepwise = make()
    for version in range(1, NEEDED + 3):
        history(version)
        at_once = make()
        assert (await migrate_up(at_once)).version == version
        assert len((await migrate_up(stepwise)).applied) == 1
        dumps.append(databases.dump(at_once))
        assert databases.dump(stepwise) == dumps[-1]
    # A dump that tells no difference would prove nothing.
    assert len(set(dumps)) == len(dumps)
    assert re.search(r"CREATE TABLE evstore\.events ", dumps[0])


async def test_what_is_there_survives_each_step(
    history: Callable[[int], None], make: Callable[[], Config]
) -> None:
    source, target = make(), make()
    history(NEEDED)
    await migrate_up(source)
    digest = await _filled(source)
    history(1)
    await migrate_up(target)
    await _copy(source, target)
    await seen(target)
    before = await execute(target, EVENTS), await execute(target, BEATS)
    assert before[0] == await execute(source, EVENTS)
    for version in range(2, NEEDED + 3):
        history(version)
        assert len((await migrate_up(target)).applied) == 1
        after = await execute(target, EVENTS), await execute(target, BEATS)
        assert after == before
        if version >= NEEDED:
            assert (await verify(target)).ok
    async with evstore.open(target) as store:
        assert store.position == 23
        assert store.digest() == digest
        mesh = await store.get("Mesh", "default")
        await store.update(mesh, spec={"mtls": {"on": True}})


@pytest.mark.parametrize("version", range(1, NEEDED + 3))
async def test_no_file_that_was_applied_may_change(
    files: Files, make: Callable[[], Config], databases: Databases, version: int
) -> None:
    files.add(EXPAND, name="expand")
    files.add(CONTRACT, name="contract")
    config = make()
    await migrate_up(config)
    dump = databases.dump(config)
    changed = migrations.available()[version - 1]
    files.path(changed).write_text(changed.sql + " ", encoding="utf-8")
    files.add("CREATE TABLE evstore.more ();", name="more")
    named = rf"migration {version} \({changed.name}\).*other content"
    for refused in (migrate_up, migration_plan):
        with pytest.raises(evstore.SchemaError, match=named):
            await refused(config)
    assert databases.dump(config) == dump
    files.path(changed).write_text(changed.sql, encoding="utf-8")
    assert (await migrate_up(config)).version == NEEDED + 3


async def test_each_migration_declares_the_locks_that_it_takes(
    history: Callable[[int], None], make: Callable[[], Config]
) -> None:
    whole = migrations.available()
    config = make()
    taken: list[dict[str, str]] = []
    for step in whole:
        history(step.version)
        if step.version > 1:
            taken.append(await _locks_of(config, step))
        await migrate_up(config)
        declared = [lock.casefold() for lock in step.locks]
        assert declared or step.version == 1, step.name
        for table, mode in (taken[-1] if taken else {}).items():
            assert any(table in each and mode in each for each in declared), step.name
    instances = {"evstore.instances": "access exclusive"}
    assert taken[-2:] == [instances, instances]


async def _locks_of(config: Config, step: Migration) -> dict[str, str]:
    """Return the locks of a step on tables that were there, if anybody waits for them."""
    tables = (
        "SELECT array_agg(oid) FROM pg_class WHERE relkind IN ('r', 'p')"
        " AND relnamespace = 'evstore'::regnamespace"
    )
    there = await execute(config, tables)
    async with (
        connected(config) as connection,
        connection.transaction(force_rollback=True),
    ):
        await connection.execute(step.sql.encode())
        cursor = await connection.execute(
            "SELECT relation::regclass::text, mode FROM pg_locks"
            " WHERE pid = pg_backend_pid() AND relation = ANY (%s::oid[])",
            (there,),
        )
        rows = await cursor.fetchall()
    found = [(MODES.index(mode), table) for table, mode in rows if mode in MODES]
    return {table: _words(MODES[rank]) for rank, table in sorted(found)}


def _words(mode: str) -> str:
    """Return a mode as SQL spells it, in small letters."""
    return re.sub(r"\B([A-Z])", r" \1", mode.removesuffix("Lock")).lower()
