"""What tests of migrations share: statements past the store, files, and who runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import anyio
import psycopg

from evstore.log.postgres import migrations

if TYPE_CHECKING:
    from pathlib import Path

    from evstore import Config
    from evstore.log.postgres.migrations import Migration

NEEDED: Final = len(migrations.available())
# So that a test can say what an instance knows, whichever migrations there are.
KNOWS: Final = """\
ALTER TABLE evstore.instances
    ADD COLUMN IF NOT EXISTS knows integer NOT NULL DEFAULT 1;
"""


class Files:
    """The migrations that evstore brings, in a folder that a test may change."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self._count = 0
        for each in migrations.available():
            self.path(each).write_text(each.sql, encoding="utf-8")
            self._count += 1

    def path(self, migration: Migration) -> Path:
        """Return where a migration lies."""
        return self.folder / f"{migration.version:04}_{migration.name}.sql"

    def add(
        self,
        sql: str,
        *,
        name: str = "extra",
        readable_from: int = 1,
        writable_from: int = 1,
        locks: tuple[str, ...] = (),
    ) -> int:
        """Add a migration; return its version."""
        self._count += 1
        lines = [
            f"-- evstore: readable_from {readable_from}, writable_from {writable_from}",
            *(f"-- locks: {lock}" for lock in locks),
            sql,
        ]
        path = self.folder / f"{self._count:04}_{name}.sql"
        path.write_text("\n".join(lines), encoding="utf-8")
        return self._count


def connect(config: Config, *, user: str = "kuma") -> Any:
    """Connect past the store, without autocommit."""
    return psycopg.AsyncConnection.connect(
        host=config.postgres.host,
        port=config.postgres.port,
        user=user,
        dbname=config.postgres.db_name,
    )


async def execute(config: Config, query: str, *, user: str = "kuma") -> Any:
    """Execute one statement past the store, and return the first value of it."""
    async with await connect(config, user=user) as connection:
        await connection.set_autocommit(True)
        cursor = await connection.execute(query.encode())
        row = await cursor.fetchone() if cursor.description else None
        return row and row[0]


async def blocked(config: Config, *, user: str = "postgres") -> int:
    """Return the process id of the migrator once it waits for a lock."""
    query = (
        "SELECT max(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND application_name = 'evstore migrate' AND datname = current_database()"
    )
    with anyio.fail_after(20):
        while True:
            found = await execute(config, query, user=user)
            if found is not None:
                return int(found)
            await anyio.sleep(0.01)


async def seen(
    config: Config, *, knows: int | None = None, seconds_ago: float = 0
) -> UUID:
    """Record the heartbeat of an instance; return its id."""
    instance = uuid4()
    await execute(
        config,
        "INSERT INTO evstore.instances (id, position, digest, code_version, seen_at)"
        f" VALUES ('{instance}', 0, sha256(''), '0.0.7',"
        f" clock_timestamp() - interval '{seconds_ago} s')",
    )
    if knows is not None:
        await execute(
            config,
            f"UPDATE evstore.instances SET knows = {knows} WHERE id = '{instance}'",
        )
    return instance


async def version_of(config: Config) -> int:
    """Return the version that a database is at."""
    query = "SELECT max(version) FROM evstore.schema_migration"
    return int(await execute(config, query))


async def is_there(config: Config, table: str) -> bool:
    """Return whether a table of schema evstore exists."""
    query = f"SELECT to_regclass('evstore.{table}') IS NOT NULL"
    return bool(await execute(config, query))
