"""The step from version 1 to 2, on a database in use: who runs goes on, and is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import anyio
import pytest

import evstore
from events import History, creations
from evstore.errors import SchemaError, UnavailableError
from evstore.log import open_log
from evstore.log.postgres import migrations
from evstore.maintenance import migrate_up, migration_status
from fault.history import adjusted, checked_history, connected, value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evstore import Config
    from fault.history import Connection

# As the program at version 1 has it, to the letter.
OLD_BEAT: Final = b"""
WITH old AS (
    DELETE FROM evstore.instances
    WHERE seen_at < clock_timestamp() - interval '1 day' AND id <> %(id)s::uuid
),
renewed AS (
    UPDATE evstore.instances SET
        position = %(position)s,
        digest = %(digest)s,
        code_version = %(code_version)s,
        seen_at = clock_timestamp()
    WHERE id = %(id)s::uuid
    RETURNING id
),
joined AS (
    INSERT INTO evstore.instances (id, position, digest, code_version, seen_at)
    SELECT %(id)s::uuid, %(position)s, %(digest)s, %(code_version)s, clock_timestamp()
    WHERE NOT %(renewal)s::boolean AND NOT EXISTS (SELECT FROM renewed)
    ON CONFLICT (id) DO UPDATE SET
        position = excluded.position,
        digest = excluded.digest,
        code_version = excluded.code_version,
        seen_at = excluded.seen_at
    RETURNING id
)
SELECT EXISTS (SELECT FROM renewed) OR EXISTS (SELECT FROM joined)
"""
OLD_INSTANCES: Final = b"""
SELECT id, position, digest, code_version, seen_at
FROM evstore.instances
ORDER BY seen_at DESC
"""


@pytest.fixture
async def bring(
    unmigrated_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], None]:
    """Return what sets how many migrations evstore brings; the database is at 1."""
    every = migrations.available()
    files = {
        each.version: (f"{each.version:04}_{each.name}.sql", each.sql) for each in every
    }

    def bring(count: int) -> None:
        for number in range(1, count + 1):
            name, text = files[number]
            (tmp_path / name).write_text(text, encoding="utf-8")

    monkeypatch.setattr(migrations, "_folder", lambda: tmp_path)
    bring(1)
    assert (await migrate_up(unmigrated_config)).version == 1
    return bring


async def beat(connection: Connection, identity: UUID, *, renewal: bool = True) -> bool:
    """Beat as a program at version 1 does, by a statement prepared in this session."""
    binds: dict[str, Any] = {
        "id": identity,
        "position": 3,
        "digest": bytes(32),
        "code_version": "old",
        "renewal": renewal,
    }
    cursor = await connection.execute(OLD_BEAT, binds, prepare=True)
    row = await cursor.fetchone()
    assert row is not None
    return bool(row[0])


async def test_who_runs_goes_on_beating_and_is_known_as_older(
    unmigrated_config: Config, bring: Callable[[int], None]
) -> None:
    mine, late = uuid4(), uuid4()
    async with connected(unmigrated_config) as old:
        assert await beat(old, mine, renewal=False)
        before = await (await old.execute(OLD_INSTANCES, prepare=True)).fetchall()
        bring(2)
        assert [
            each.version for each in (await migrate_up(unmigrated_config)).applied
        ] == [2]
        assert await beat(old, mine)
        assert await beat(old, late, renewal=False)
        after = await (await old.execute(OLD_INSTANCES, prepare=True)).fetchall()
    assert [row[:4] for row in after][1:] == [row[:4] for row in before]
    quick = adjusted(unmigrated_config, heartbeat_interval=0.05)
    async with evstore.open(quick) as store:
        with anyio.fail_after(10):
            while len(await store.instances()) < 3:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        seen = {each.id: each for each in await store.instances()}
    for each in (mine, late):
        assert (seen[each].knows, seen[each].projections) == (1, ())
        assert seen[each].code_version == "old"
    (own,) = set(seen) - {mine, late}
    assert seen[own].knows == 2


async def test_who_runs_goes_on_appending_meanwhile(
    unmigrated_config: Config, bring: Callable[[int], None]
) -> None:
    async with open_log(unmigrated_config) as log:
        await log.connect()
        history = History(log.genesis)

        async def append(name: str) -> None:
            after = history.head
            await log.append(creations(history, [name]), after=after)

        await append("before")
        bring(2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(migrate_up, unmigrated_config)
            for number in range(20):
                await append(f"n-{number}")
        await append("after")
    assert len(await checked_history(unmigrated_config)) == 22


async def test_a_new_program_does_not_start_before_the_step(
    unmigrated_config: Config, bring: Callable[[int], None]
) -> None:
    bring(2)
    with pytest.raises(SchemaError, match="evstore migrate up"):
        async with evstore.open(unmigrated_config):
            pytest.fail("the tables of snapshots are missing")
    async with connected(unmigrated_config) as connection:
        query = "SELECT to_regclass('evstore.snapshots') IS NULL"
        assert await value(connection, query)
    await migrate_up(unmigrated_config)
    async with open_log(unmigrated_config) as log:
        assert await log.snapshots() == []


async def test_a_step_that_heartbeats_would_have_to_wait_for_gives_up(
    unmigrated_config: Config, bring: Callable[[int], None]
) -> None:
    bring(2)
    async with connected(unmigrated_config) as other:
        await other.execute("BEGIN")
        await other.execute("SELECT FROM evstore.instances")  # as pg_dump does
        with (
            anyio.fail_after(15),
            pytest.raises(UnavailableError, match="lock timeout"),
        ):
            await migrate_up(unmigrated_config)
        await other.execute("ROLLBACK")
        status = await migration_status(unmigrated_config)
        assert [each.version for each in status.applied] == [1]
        query = "SELECT to_regclass('evstore.snapshots') IS NULL"
        assert await value(other, query)
    assert (await migrate_up(unmigrated_config)).version == 2


def test_each_step_after_the_first_says_which_locks_it_takes() -> None:
    for migration in migrations.available()[1:]:
        _, second, *_ = migration.sql.splitlines()
        assert second.startswith("-- locks: "), migration.name
