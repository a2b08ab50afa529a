"""What tests of migrations share: statements past the store, files, and who runs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import anyio

from evstore.log.postgres import migrations
from fault.history import connected

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable
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
        locks: Iterable[str] = (),
    ) -> int:
        """Add a migration; return its version."""
        lines = [
            f"-- evstore: readable_from {readable_from}, writable_from {writable_from}",
            *(f"-- locks: {lock}" for lock in locks),
            sql,
        ]
        return self.put("\n".join(lines), name=name)

    def put(self, text: str, *, name: str) -> int:
        """Add a migration that has its header; return its version."""
        self._count += 1
        path = self.folder / f"{self._count:04}_{name}.sql"
        path.write_text(text, encoding="utf-8")
        return self._count


@asynccontextmanager
async def holding(config: Config, statement: str) -> AsyncGenerator[None]:
    """Hold the locks of a statement; in the end it is as if it had not been."""
    async with (
        connected(config) as connection,
        connection.transaction(force_rollback=True),
    ):
        await connection.execute(statement.encode())
        yield


async def execute(config: Config, query: str, *, user: str = "kuma") -> Any:
    """Execute one statement past the store, and return the first value of it."""
    async with connected(config, user=user) as connection:
        cursor = await connection.execute(query.encode())
        row = await cursor.fetchone() if cursor.description else None
        return row and row[0]


async def blocked(config: Config, *, count: int = 1) -> int:
    """Return the process id of a migrator once so many wait for a lock."""
    query = (
        f"SELECT CASE WHEN count(*) >= {count} THEN max(pid) END FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND application_name = 'evstore migrate'"
        " AND datname = current_database()"
    )
    with anyio.fail_after(20):
        while True:
            found = await execute(config, query, user="postgres")
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
