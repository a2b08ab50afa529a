"""Tampering with a log as only a superuser can: past its guards, hashes made anew."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import evstore
from evstore.codec import event_hash
from evstore.log import open_log
from fault.history import superuser

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evstore import Config
    from evstore.log import AuditedEvent, Log
    from fault.history import Connection

AWAY = 1_000_000


async def fill(config: Config) -> None:
    """Append twelve events in nine transactions, by three actors."""
    async with evstore.open(config) as store:
        mesh = await store.create("Mesh", "default", spec={}, actor="alice")
        await store.create("Secret", "key", spec={"data": "hunter2"}, actor="bob")
        async with store.transaction(actor="carol", reason="rollout") as tx:
            for name in ("a", "b", "c"):
                tx.create(
                    "Dataplane", name, mesh="default", spec={"port": 1}, owner=mesh
                )
        a, _, c = [each for each in tx.results if each is not None]
        a = await store.update(a, spec={"port": 2}, actor="alice", reason="first")
        a = await store.update(a, spec={"port": 3}, actor="bob", reason="second")
        await store.delete("Dataplane", "b", mesh="default", actor="alice")
        c = await store.update(c, spec={"port": 4}, actor="bob")
        c = await store.update(c, spec={"port": 5}, actor="carol")
        async with store.transaction(actor="bob") as tx:
            tx.update(a, spec={"port": 6})
            tx.update(c, spec={"port": 7})
        assert store.position == 12


@asynccontextmanager
async def unguarded(config: Config) -> AsyncGenerator[Connection]:
    """Connect as the superuser, with the triggers out of the way."""
    async with superuser(config) as admin:
        await admin.execute("ALTER TABLE evstore.events DISABLE TRIGGER ALL")
        await admin.execute(
            "ALTER TABLE evstore.events DROP CONSTRAINT IF EXISTS events_commit_check"
        )
        try:
            yield admin
        finally:
            for name in ("append_only_rows", "append_only_table"):
                for table in ("events", "events_0000000000000000001"):
                    change = f"ALTER TABLE evstore.{table} ENABLE ALWAYS TRIGGER {name}"
                    await admin.execute(change.encode())
            await admin.execute(
                "ALTER TABLE evstore.events ENABLE TRIGGER wake_followers"
            )


async def tamper(config: Config, *statements: str) -> None:
    """Run statements past the guards, in one transaction."""
    async with unguarded(config) as admin, admin.transaction():
        for statement in statements:
            await admin.execute(statement.encode())


def update(position: int, change: str) -> str:
    return f"UPDATE evstore.events SET {change} WHERE position = {position}"


def remove(first: int, last: int) -> str:
    return f"DELETE FROM evstore.events WHERE position BETWEEN {first} AND {last}"


def shift(first: int, by: int) -> list[str]:
    """Renumber all from a position on, and where their transactions end."""
    return [
        (
            f"UPDATE evstore.events SET position = position + {AWAY} + {by},"
            f" commit = commit + {by} WHERE position >= {first}"
        ),
        (
            f"UPDATE evstore.events SET position = position - {AWAY}"
            f" WHERE position >= {AWAY}"
        ),
    ]


def insert(position: int, *, like: int) -> list[str]:
    """Put an event of its own before one that is there, made from another one."""
    template = like if like < position else like + 1
    return [
        *shift(position, 1),
        f"""INSERT INTO evstore.events
        SELECT {position}, {position}, recorded_at, gen_random_uuid(), schema_version,
            size, 'mallory', 'updated', type, mesh, name, salt, sha256('x'), NULL,
            metadata, body
        FROM evstore.events WHERE position = {template}""",
    ]


def swap(one: int, other: int) -> list[str]:
    """Exchange all of two events but the numbers."""
    return [
        (
            f"CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM evstore.events"
            f" WHERE position IN ({one}, {other})"
        ),
        remove(one, one),
        remove(other, other),
        *(
            f"""INSERT INTO evstore.events
            SELECT {here}, CASE WHEN commit = position THEN {here} ELSE commit END,
                recorded_at, tx, schema_version, size, actor, operation, type, mesh,
                name, salt, hash, body_digest, metadata, body
            FROM kept WHERE position = {there}"""
            for here, there in ((one, other), (other, one))
        ),
    ]


async def stored(log: Log) -> list[AuditedEvent]:
    until = (await log.head()).position
    return [each async for chunk in log.audit(after=0, until=until) for each in chunk]


async def rehash(config: Config, *, first: int, last: int = AWAY) -> None:
    """Make the hashes of some events anew, so that they follow one another."""
    async with open_log(config) as log, unguarded(config) as admin:
        previous = log.genesis.hash
        for event in await stored(log):
            made = event.hash
            if first <= event.position <= last:
                made = event_hash(previous, event)
                await admin.execute(
                    b"UPDATE evstore.events SET hash = %s WHERE position = %s",
                    (made, event.position),
                )
            previous = made
