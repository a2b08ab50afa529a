"""What the tests here look at: the log itself, and the server from beside."""

from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import psycopg

import evstore
from evstore.codec import event_hash, genesis_hash

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from evstore import Config, Event

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


async def checked_history(config: Config) -> list[Event]:
    """Return all events of a log that holds together.

    Positions have no gaps, the chain of hashes verifies, times grow from transaction
    to transaction, and none is torn.
    """
    async with evstore.open(config) as store:
        events = [event async for event in store.events()]
        previous = genesis_hash(store.identity)
        assert store.position == len(events)
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    for event in events:
        assert event_hash(previous, event.stored) == event.hash
        previous = event.hash
    for before, after in pairwise(events):
        same = before.stored.tx == after.stored.tx
        assert same == (before.commit == after.commit)
        if same:
            assert before.recorded_at == after.recorded_at
        else:
            assert before.commit == before.position
            assert before.recorded_at < after.recorded_at
    assert not events or events[-1].commit == events[-1].position
    return events


def limited(config: Config, **limits: object) -> Config:
    """Return a configuration with other limits."""
    changed = msgspec.structs.replace(config.evstore.limits, **limits)
    return adjusted(config, limits=changed)


def adjusted(config: Config, **settings: object) -> Config:
    """Return a configuration with other settings of evstore's own."""
    changed = msgspec.structs.replace(config.evstore, **settings)
    return msgspec.structs.replace(config, evstore=changed)


@asynccontextmanager
async def superuser(config: Config) -> AsyncGenerator[Connection]:
    """Connect as the superuser, in autocommit mode."""
    async with connected(config, user="postgres") as connection:
        yield connection


@asynccontextmanager
async def connected(
    config: Config, *, user: str | None = None
) -> AsyncGenerator[Connection]:
    """Connect past the store, in autocommit mode."""
    postgres = config.postgres
    connection = await psycopg.AsyncConnection.connect(
        host=postgres.host,
        port=postgres.port,
        user=user or postgres.user,
        password=postgres.password,
        dbname=postgres.db_name,
        autocommit=True,
    )
    try:
        yield connection
    finally:
        await connection.close()


async def value(connection: Connection, query: str, *binds: object) -> Any:
    """Return the one value that a query returns."""
    cursor = await connection.execute(query.encode(), binds)
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


async def until(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    """Return when a condition holds that no event tells of."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.002)


async def blocked_writers(connection: Connection, *, count: int = 1) -> list[int]:
    """Return the process ids of writers that wait for a lock, once there are some."""
    query = b"""
        SELECT pid FROM pg_stat_activity
        WHERE application_name = 'evstore writer' AND wait_event_type = 'Lock'
          AND datname = current_database()
    """
    with anyio.fail_after(10):
        while True:
            rows = await (await connection.execute(query)).fetchall()
            if len(rows) >= count:
                return [row[0] for row in rows]
            await anyio.sleep(0.005)


async def terminate_writers(connection: Connection) -> None:
    """End all writers' sessions at the server."""
    await connection.execute(
        b"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        b" WHERE application_name = 'evstore writer' AND datname = current_database()"
    )
