"""The whole store runs under a role that can change nothing of what has happened."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest
from anyio import to_thread
from psycopg import errors as pg

import evstore
from command import Command
from doctoring import execute
from evstore import Key, Store
from evstore.config import SnapshotsConfig
from evstore.log import open_log
from fault.history import adjusted, checked_history, connected, superuser, value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from evstore import Config

FIRST: Final = "evstore.events_0000000000000000001"
MESH: Final = Key(type="Mesh", mesh="", name="default")


async def _writing(store: Store) -> None:
    mesh = await store.create("Mesh", "default", spec={"a": 1}, actor="ann")
    mesh = await store.update(mesh, spec={"a": 2}, request_id="once")
    await store.upsert("Mesh", "default", change=lambda _: {"a": 3})
    async with store.transaction(reason="two") as tx:
        tx.create("Secret", "key", spec={"data": "hunter2"}, owner=MESH)
        tx.update(MESH, labels={"team": "shop"})
    await store.create("Mesh", "other", spec={})
    await store.delete("Mesh", "other")


async def _leading(store: Store) -> None:
    async with store.leadership("task", ttl=5) as lease:
        async with store.transaction(lease=lease) as tx:
            tx.update(MESH, spec={"a": 4})
        lease.check()


async def _reading(store: Store) -> None:
    mesh = await store.get("Mesh", "default", consistent=True)
    assert mesh.spec == {"a": 4}
    assert (await store.get("Mesh", "default", at=1)).spec == {"a": 1}
    assert (await store.list("Mesh")).total == 1
    assert (await store.list("Mesh", at=1)).items[0].version == 1
    assert await store.head() == store.position
    assert store.identity
    assert not store.floor
    assert store.digest()


async def _looking_back(store: Store) -> None:
    events = [event async for event in store.events()]
    assert len(events) == store.position
    history = [each async for each in store.history("Mesh", "default")]
    assert history[0].event.operation == "created"
    assert (await store.diff(1)).changes
    assert (await store.blame("Mesh", "default")).leaves
    await store.revert(to=2, type="Mesh", name="default")
    assert (await store.get("Mesh", "default")).spec == {"a": 2}


class Counted(evstore.Projection[int]):
    name = "counted"

    def initial(self) -> int:
        return 0

    def fold(self, state: int, event: evstore.Event) -> int:
        return max(state, event.position)


async def _viewing(store: Store) -> None:
    assert store.view(Counted) == store.position


async def _watching(store: Store) -> None:
    with anyio.fail_after(10):
        async with aclosing(store.watch(after=0)) as watch:
            positions = [(await anext(watch)).position for _ in range(3)]
        assert positions == [1, 2, 3]
        async with aclosing(store.watch()) as watch:
            await store.update(MESH, spec={"a": 5})
            assert (await anext(watch)).spec == {"a": 5}


async def _judging(store: Store) -> None:
    assert (await store.verify()).ok
    health = await store.health()
    assert health.ok, health
    assert await store.instances()


STEPS: Final[dict[Callable[[Store], Awaitable[None]], set[str]]] = {
    _writing: {"create", "update", "upsert", "transaction", "delete"},
    _leading: {"leadership"},
    _reading: {"get", "list", "head", "position", "identity", "floor", "digest"},
    _looking_back: {"events", "history", "diff", "blame", "revert"},
    _viewing: {"view"},
    _watching: {"watch"},
    _judging: {"verify", "health", "instances"},
}


def test_no_operation_is_left_out() -> None:
    public = {name for name in dir(Store) if not name.startswith("_")}
    assert set().union(*STEPS.values()) == public - {"redact"}


async def test_every_operation_works_but_redacting(
    postgres_config: Config, runtime: Config
) -> None:
    often = adjusted(
        runtime, heartbeat_interval=0.05, snapshots=SnapshotsConfig(every_events=1)
    )
    async with evstore.open(often, projections=[Counted()]) as store:
        for step in STEPS:
            await step(store)
        secret = await store.get("Secret", "key")
        head = store.position
        why: Any = {"version": secret.version, "reason": "ticket 42"}
        with pytest.raises(evstore.ConfigError, match="only kuma, the owner"):
            await store.redact("Secret", "key", **why)
        assert await store.head() == head
    async with open_log(postgres_config) as log:
        names = {each.stamp.projection for each in await log.snapshots()}
    assert names == {"resources", "counted"}, "taken at the end"
    async with evstore.open(postgres_config) as store:
        assert (await store.redact("Secret", "key", **why)).fields
        assert (await store.verify()).ok
    await checked_history(runtime)


@pytest.mark.slow
async def test_the_commands_work_too(runtime: Config, tmp_path: Path) -> None:
    command = Command(runtime, tmp_path)
    command.write("mesh.yaml", "type: Mesh\nname: default\nspec: {a: 1}\n")
    for words in (
        ["apply", "-f", "mesh.yaml"],
        ["get", "Mesh", "default"],
        ["list", "Mesh"],
        ["log"],
        ["history", "Mesh", "default"],
        ["diff", "0", "1"],
        ["blame", "Mesh", "default"],
        ["stats"],
        ["verify"],
        ["replay"],
        ["export", "--output", "log.jsonl"],
        ["delete", "Mesh", "default"],
        ["revert", "--to", "1", "--yes"],
        ["migrate", "status"],
        ["migrate", "up"],
        ["doctor"],
    ):
        done = await to_thread.run_sync(command, *words)
        assert done.code == 0, (words, done.err)


async def test_partitions_are_made_under_it(
    postgres_config: Config, runtime: Config
) -> None:
    await execute(postgres_config, "UPDATE evstore.log SET partition_size = 10")
    await execute(postgres_config, f"DROP TABLE {FIRST}")
    async with evstore.open(runtime) as store:
        for number in range(25):
            await store.create("Mesh", f"mesh-{number}", spec={})
    assert len(await checked_history(runtime)) == 25


GUARD: Final = """
    CREATE OR REPLACE FUNCTION evstore.guard_events() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RETURN NEW; END $$
"""
TAMPERING: Final = [
    *(
        statement.format(table=table)
        for table in ("evstore.events", FIRST)
        for statement in (
            "UPDATE {table} SET actor = 'mallory'",
            "DELETE FROM {table}",
            "TRUNCATE {table}",
            "DROP TABLE {table}",
            "ALTER TABLE {table} DISABLE TRIGGER ALL",
            "ALTER TABLE {table} DISABLE TRIGGER append_only_table",
            "DROP TRIGGER append_only_table ON {table}",
            "ALTER TRIGGER append_only_table ON {table} RENAME TO x",
            (
                "CREATE TRIGGER first BEFORE INSERT ON {table} FOR EACH ROW"
                " EXECUTE FUNCTION evstore.wake_followers()"
            ),
            "CREATE RULE r AS ON INSERT TO {table} DO INSTEAD NOTHING",
            "ALTER TABLE {table} OWNER TO CURRENT_USER",
            "ALTER TABLE {table} ADD COLUMN x integer",
        )
    ),
    f"INSERT INTO {FIRST} SELECT * FROM evstore.events",
    f"ALTER TABLE evstore.events DETACH PARTITION {FIRST}",
    GUARD,
    "DROP FUNCTION evstore.guard_events() CASCADE",
    "ALTER FUNCTION evstore.ensure_partition(bigint) OWNER TO CURRENT_USER",
    "UPDATE evstore.log SET partition_size = 1",
    "DELETE FROM evstore.log",
    "UPDATE evstore.schema_migration SET dirty = true",
    "INSERT INTO evstore.schema_migration VALUES (99, 'x', 'x', now(), false, 1, 1)",
    "CREATE TABLE evstore.mine (id integer)",
    "ALTER SCHEMA evstore RENAME TO other",
    "DROP SCHEMA evstore CASCADE",
    "SET session_replication_role = replica",
    "ALTER ROLE CURRENT_USER SUPERUSER",
]


async def test_nothing_of_what_guards_the_log_can_be_touched(
    postgres_config: Config, runtime: Config
) -> None:
    """The server refuses a lack of rights before any trigger is asked."""

    async def content() -> Any:
        async with superuser(postgres_config) as admin:
            events = "SELECT string_agg(e::text, ';') FROM evstore.events AS e"
            triggers = (
                "SELECT string_agg(t::text, ';' ORDER BY oid) FROM pg_trigger AS t"
            )
            return await value(admin, events), await value(admin, triggers)

    async with evstore.open(runtime) as store:
        await store.create("Mesh", "default", spec={})
    before = await content()
    async with connected(runtime) as connection:
        # Who may not grant is only warned, and gets nothing.
        await connection.execute(b"GRANT ALL ON evstore.events TO CURRENT_USER")
        for statement in TAMPERING:
            with pytest.raises(pg.InsufficientPrivilege):
                await connection.execute(statement.encode())
    assert await content() == before
