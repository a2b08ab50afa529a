"""The log in PostgreSQL: nothing in it can be changed, but by a redaction."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from psycopg import errors as pg

import evstore
from fault.history import checked_history, connected, superuser, value

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from evstore import Config

    Connection = psycopg.AsyncConnection[tuple[Any, ...]]

REFUSED: Final = pg.ObjectNotInPrerequisiteState
FIRST: Final = "evstore.events_0000000000000000001"
DIGEST: Final = "sha256(salt || convert_to(body::text, 'UTF8'))"
NEW: Final = """body = '{"redacted":true}', salt = decode(repeat('00', 16), 'hex')"""


@pytest.fixture
async def config(postgres_config: Config) -> Config:
    """Return the configuration of a log: two events of a key, one of another."""
    async with evstore.open(postgres_config) as store:
        secret = await store.create("Secret", "key", spec={"data": "hunter2"})
        await store.update(secret, spec={"data": "hunter3"})
        await store.create("Secret", "other", spec={"data": "x"})
    return postgres_config


@pytest.fixture
async def owner(config: Config) -> AsyncIterator[Connection]:
    async with connected(config) as connection:
        yield connection


async def content(config: Config) -> str:
    async with superuser(config) as admin:
        query = (
            "SELECT string_agg(e::text, ';' ORDER BY position) FROM evstore.events AS e"
        )
        return str(await value(admin, query))


CHANGES = [
    "UPDATE {table} SET actor = 'mallory'",
    "UPDATE {table} SET body = '{{}}' WHERE position = 1",
    "UPDATE {table} SET position = position + 100",
    "UPDATE {table} SET position = position",
    "UPDATE {table} SET recorded_at = now()",
    "DELETE FROM {table}",
    "DELETE FROM {table} WHERE position = 3",
    "TRUNCATE {table}",
    "TRUNCATE {table} CASCADE",
    """MERGE INTO {table} AS e USING (SELECT 1 AS p) AS s ON e.position = s.p
       WHEN MATCHED THEN DELETE""",
    """INSERT INTO {table} SELECT * FROM {table} WHERE position = 1
       ON CONFLICT (position) DO UPDATE SET actor = 'mallory'""",
    "WITH gone AS (DELETE FROM {table} RETURNING 1) SELECT count(*) FROM gone",
]


@pytest.mark.parametrize("table", ["evstore.events", FIRST])
@pytest.mark.parametrize(
    ("user", "replication_role"),
    [("kuma", "origin"), ("postgres", "origin"), ("postgres", "replica")],
)
async def test_no_statement_changes_an_event(
    config: Config, table: str, user: str, replication_role: str
) -> None:
    before = await content(config)
    async with connected(config, user=user) as connection:
        if replication_role != "origin":
            await connection.execute("SET session_replication_role = replica")
        for change in CHANGES:
            with pytest.raises(REFUSED, match="append-only"):
                await connection.execute(change.format(table=table).encode())
    assert await content(config) == before


@pytest.mark.parametrize("table", ["evstore.events", FIRST, "evstore.log"])
async def test_a_truncation_among_other_tables_is_refused(
    config: Config, owner: Connection, table: str
) -> None:
    before = await content(config)
    with pytest.raises(REFUSED):
        await owner.execute(f"TRUNCATE evstore.instances, {table}".encode())
    assert await content(config) == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE evstore.log SET id = gen_random_uuid()",
        "DELETE FROM evstore.log",
        "TRUNCATE evstore.log",
    ],
)
@pytest.mark.parametrize("user", ["kuma", "postgres"])
async def test_the_identity_of_a_log_with_events_stays(
    config: Config, change: str, user: str
) -> None:
    async with connected(config, user=user) as connection:
        if user == "postgres":
            await connection.execute("SET session_replication_role = replica")
        before = await value(connection, "SELECT id FROM evstore.log")
        with pytest.raises(REFUSED, match="identity"):
            await connection.execute(change.encode())
        assert await value(connection, "SELECT id FROM evstore.log") == before


async def test_a_second_identity_is_refused(owner: Connection) -> None:
    with pytest.raises(pg.UniqueViolation):
        await owner.execute("INSERT INTO evstore.log DEFAULT VALUES")


async def test_the_owner_may_change_the_size_of_partitions(owner: Connection) -> None:
    await owner.execute("UPDATE evstore.log SET partition_size = 7")
    assert await value(owner, "SELECT partition_size FROM evstore.log") == 7


async def test_a_later_partition_has_the_same_guards(
    config: Config, owner: Connection
) -> None:
    await owner.execute("UPDATE evstore.log SET partition_size = 10")
    async with owner.transaction():
        # As if the first partition were nearly full.
        await owner.execute("DROP TRIGGER append_only_rows ON evstore.events")
        await owner.execute("DELETE FROM evstore.events")
        await owner.execute(f"DROP TABLE {FIRST}".encode())
        await owner.execute("""
            CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON evstore.events
            FOR EACH ROW EXECUTE FUNCTION evstore.guard_events()
        """)
        await owner.execute(
            "ALTER TABLE evstore.events ENABLE ALWAYS TRIGGER append_only_rows"
        )
        await owner.execute("SELECT evstore.ensure_partition()")
    async with evstore.open(config) as store:
        for number in range(15):
            await store.create("Mesh", f"mesh-{number}", spec={})
    before = await content(config)
    later = "evstore.events_0000000000000000011"
    async with superuser(config) as admin:
        await admin.execute("SET session_replication_role = replica")
        for change in CHANGES:
            if "position = 1" in change or "position = 3" in change or "s.p" in change:
                continue
            with pytest.raises(REFUSED, match="append-only"):
                await admin.execute(change.format(table=later).encode())
    assert await content(config) == before


async def test_a_later_partition_is_nobody_elses(config: Config) -> None:
    async with superuser(config) as admin:
        query = (
            "SELECT count(*) FROM pg_class WHERE relacl IS NOT NULL AND relname LIKE"
        )
        assert await value(admin, f"{query} 'events\\_%%'") == 0


# Redaction.


@asynccontextmanager
async def _announced(owner: Connection, position: int = 4) -> AsyncGenerator[None]:
    """Announce a redaction of Secret/key at position 4, in a transaction."""
    async with owner.transaction(force_rollback=True):
        await owner.execute("""
            INSERT INTO evstore.events
            SELECT 4, 4, recorded_at, gen_random_uuid(), schema_version, size, actor,
                'redacted', type, mesh, name, salt, hash, NULL,
                json_build_object(
                    'position', 1,
                    'old_digest', encode(
                        sha256(salt || convert_to(body::text, 'UTF8')), 'hex'),
                    'new_digest', encode(sha256(
                        decode(repeat('00', 16), 'hex')
                        || convert_to('{"redacted":true}', 'UTF8')), 'hex')),
                body
            FROM evstore.events WHERE position = 1
        """)
        await owner.execute(f"SET LOCAL evstore.redaction = '{position}'".encode())
        yield


async def test_a_redaction_replaces_body_and_salt_and_keeps_their_digest(
    owner: Connection,
) -> None:
    expected = await value(owner, f"SELECT {DIGEST} FROM evstore.events LIMIT 1")
    async with _announced(owner):
        await owner.execute(
            f"UPDATE evstore.events SET {NEW}, body_digest = {DIGEST}"
            " WHERE position = 1".encode()
        )
        query = "SELECT body_digest FROM evstore.events WHERE position = 1"
        assert await value(owner, query) == expected
        # Once more: the digest stays that of the first body.
        await owner.execute(
            f"UPDATE evstore.events SET {NEW} WHERE position = 1".encode()
        )
        assert await value(owner, query) == expected


FORBIDDEN = {
    "without the digest": f"{NEW} WHERE position = 1",
    "with another digest": f"{NEW}, body_digest = sha256('x') WHERE position = 1",
    "of another resource": f"{NEW}, body_digest = {DIGEST} WHERE position = 3",
    "of another version": f"{NEW}, body_digest = {DIGEST} WHERE position = 2",
    "with a body that was not announced": (
        f"{NEW.replace('true', 'false')}, body_digest = {DIGEST} WHERE position = 1"
    ),
    "with a salt that was not announced": (
        f"{NEW.replace('00', '01')}, body_digest = {DIGEST} WHERE position = 1"
    ),
    "of the announcement": f"{NEW}, body_digest = {DIGEST} WHERE position = 4",
    **{
        f"with a change of {column}": (
            f"{NEW}, body_digest = {DIGEST}, {column} = {changed} WHERE position = 1"
        )
        for column, changed in {
            "position": "100",
            "commit": "100",
            "tx": "gen_random_uuid()",
            "recorded_at": "now()",
            "actor": "'mallory'",
            "operation": "'updated'",
            "type": "'Mesh'",
            "mesh": "'default'",
            "name": "'other'",
            "schema_version": "2",
            "metadata": "'{}'",
            "size": "1",
            "hash": "sha256('x')",
        }.items()
    },
}


@pytest.mark.parametrize("variation", FORBIDDEN)
async def test_a_redaction_changes_nothing_else(
    owner: Connection, variation: str
) -> None:
    async with _announced(owner):
        if variation == "with a change of metadata":
            # It is what it is changed to: make it differ.
            statement = FORBIDDEN[variation].replace("'{}'", """'{"reason":"x"}'""")
        else:
            statement = FORBIDDEN[variation]
        with pytest.raises(REFUSED):
            async with owner.transaction():
                await owner.execute(f"UPDATE evstore.events SET {statement}".encode())


@pytest.mark.parametrize("position", [1, 2, 3, 99])
async def test_a_redaction_must_be_announced_by_its_own_event(
    owner: Connection, position: int
) -> None:
    async with _announced(owner, position):
        with pytest.raises(REFUSED):
            async with owner.transaction():
                await owner.execute(
                    f"UPDATE evstore.events SET {NEW}, body_digest = {DIGEST}"
                    " WHERE position = 1".encode()
                )


async def test_a_redaction_is_no_way_to_delete(owner: Connection) -> None:
    async with _announced(owner):
        for statement in ("DELETE FROM evstore.events", "TRUNCATE evstore.events"):
            with pytest.raises(REFUSED):
                async with owner.transaction():
                    await owner.execute(statement.encode())


async def test_only_the_owner_redacts(config: Config, owner: Connection) -> None:
    async with superuser(config) as admin:
        await admin.execute("CREATE ROLE writer")
        try:
            await admin.execute("GRANT USAGE ON SCHEMA evstore TO writer")
            await admin.execute("GRANT ALL ON evstore.events TO writer")
            await admin.execute("GRANT writer TO kuma")
            async with _announced(owner):
                await owner.execute("SET LOCAL ROLE writer")
                with pytest.raises(REFUSED):
                    async with owner.transaction():
                        await owner.execute(
                            f"UPDATE evstore.events SET {NEW}, body_digest = {DIGEST}"
                            " WHERE position = 1".encode()
                        )
        finally:
            await admin.execute("DROP OWNED BY writer")
            await admin.execute("DROP ROLE writer")


async def test_a_role_with_the_documented_rights_runs_a_store(config: Config) -> None:
    async with superuser(config) as admin:
        await admin.execute("CREATE ROLE runtime LOGIN")
        try:
            for right in (
                "USAGE ON SCHEMA evstore",
                "SELECT, INSERT ON evstore.events",
                "SELECT ON evstore.log, evstore.schema_migration",
                "SELECT, INSERT, UPDATE, DELETE ON evstore.instances",
                "EXECUTE ON FUNCTION evstore.ensure_partition",
            ):
                await admin.execute(f"GRANT {right} TO runtime".encode())
            postgres = config.postgres.__replace__(user="runtime")
            async with evstore.open(config.__replace__(postgres=postgres)) as store:
                assert (await store.create("Mesh", "default", spec={})).version == 4
            async with connected(config, user="runtime") as runtime:
                for change in (*CHANGES, "DROP TABLE {table}"):
                    for table in ("evstore.events", FIRST):
                        with pytest.raises((pg.InsufficientPrivilege, REFUSED)):
                            await runtime.execute(change.format(table=table).encode())
        finally:
            await admin.execute("DROP OWNED BY runtime")
            await admin.execute("DROP ROLE runtime")
    assert len(await checked_history(config)) == 4
