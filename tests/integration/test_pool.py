"""The pool of connections for reading: every setting has its effect."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import msgspec
import psycopg
import pytest
from psycopg_pool import PoolTimeout

from evstore.config import Config, PostgresConfig
from evstore.errors import UnavailableError
from evstore.log.postgres.connections import Connection, parameters
from evstore.log.postgres.pool import Pool, lifetime_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@asynccontextmanager
async def open_pool(config: Config, **settings: object) -> AsyncGenerator[Pool]:
    """Open a pool of connections that need nothing."""
    postgres = msgspec.structs.replace(config.postgres, **settings)

    async def configure(_: Connection) -> None:
        pass

    pool = Pool(postgres, parameters(postgres, purpose="reader"), configure)
    await pool.open()
    try:
        yield pool
    finally:
        await pool.aclose()


async def borrow(pool: Pool, count: int) -> set[int]:
    """Use so many connections at the same time; return the ids of their processes."""
    async with AsyncExitStack() as stack:
        found = [
            await stack.enter_async_context(pool.connection()) for _ in range(count)
        ]
        return {connection.pgconn.backend_pid for connection in found}


async def settled(pool: Pool, *, idle: int) -> None:
    """Wait until so many connections are idle, and no more are being made."""
    with anyio.fail_after(10):
        while True:
            found = pool.stats()
            if found["readers_idle"] == found["readers"] == idle:
                return
            await anyio.sleep(0.01)


async def test_idle_connections_are_kept_up_to_the_pools_size(
    postgres_config: Config,
) -> None:
    async with open_pool(postgres_config, max_open_connections=6) as pool:
        assert len(await borrow(pool, 4)) == 4
        await settled(pool, idle=4)
        assert pool.stats()["readers_max"] == 4


async def test_no_more_idle_connections_are_kept_than_the_setting_says(
    postgres_config: Config,
) -> None:
    async with open_pool(
        postgres_config, max_open_connections=8, max_idle_connections=2
    ) as pool:
        # More can be used at a time; what is above it is closed when it comes back.
        assert len(await borrow(pool, 6)) == 6
        await settled(pool, idle=2)
        kept = await borrow(pool, 2)
        assert await borrow(pool, 2) == kept


async def test_no_idle_connection_is_kept_where_there_shall_be_none(
    postgres_config: Config,
) -> None:
    async with open_pool(postgres_config, max_idle_connections=-1) as pool:
        first = await borrow(pool, 3)
        await settled(pool, idle=0)
        assert not first & await borrow(pool, 3)


async def test_connections_that_are_always_open_are_there_before_anybody_asks(
    postgres_config: Config,
) -> None:
    async with open_pool(
        postgres_config, min_open_connections=3, max_idle_connections=-1
    ) as pool:
        await settled(pool, idle=3)


async def test_no_more_connections_than_allowed_are_open_at_a_time(
    postgres_config: Config,
) -> None:
    async with (
        open_pool(
            postgres_config,
            max_open_connections=5,
            max_idle_connections=1,
            connection_timeout=0.2,
        ) as pool,
        AsyncExitStack() as stack,
    ):
        for _ in range(3):
            await stack.enter_async_context(pool.connection())
        with pytest.raises(Exception, match="couldn't get a connection"):
            await borrow(pool, 1)


async def test_a_connection_is_replaced_at_the_end_of_its_lifetime(
    postgres_config: Config,
) -> None:
    async with open_pool(
        postgres_config,
        max_connection_lifetime=0.01,
        max_connection_lifetime_jitter=0.01,
    ) as pool:
        first = await borrow(pool, 1)
        with anyio.fail_after(10):
            while await borrow(pool, 1) == first:
                pass


def test_lifetimes_have_their_jitter() -> None:
    config = PostgresConfig(
        max_connection_lifetime=100.0, max_connection_lifetime_jitter=50.0
    )
    # The pool takes up to 5 % off what it is given.
    lifetimes = [lifetime_of(config) for _ in range(200)]
    assert 100 <= min(lifetimes) * 0.95 < 110
    assert 140 < max(lifetimes) * 0.95 <= 150
    steady = PostgresConfig(
        max_connection_lifetime=100.0, max_connection_lifetime_jitter=0.0
    )
    assert lifetime_of(steady) * 0.95 == pytest.approx(100)


async def test_a_dead_idle_connection_is_replaced_before_anybody_asks(
    postgres_config: Config,
) -> None:
    async with (
        open_pool(
            postgres_config, min_open_connections=2, health_check_interval=0.05
        ) as pool,
        anyio.create_task_group() as tasks,
    ):
        await settled(pool, idle=2)
        first = await borrow(pool, 2)
        tasks.start_soon(pool.run)
        async with await Connection.connect(
            **parameters(postgres_config.postgres, purpose="test"), autocommit=True
        ) as admin:
            for process in first:
                await admin.execute(f"SELECT pg_terminate_backend({process}, 5000)")
            # Nobody reads, and there are two others.
            query = (
                b"SELECT array_agg(pid) FROM pg_stat_activity"
                b" WHERE application_name = 'evstore reader'"
                b" AND datname = current_database()"
            )
            with anyio.fail_after(10):
                while True:
                    row = await (await admin.execute(query)).fetchone()
                    assert row is not None
                    if len(row[0] or ()) == 2 and not first & set(row[0]):
                        break
                    await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


async def test_a_check_makes_no_connection_more(postgres_config: Config) -> None:
    async with open_pool(
        postgres_config, min_open_connections=2, health_check_interval=0.001
    ) as pool:
        await settled(pool, idle=2)
        assert pool._kept is not None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.run)
            with anyio.fail_after(10):
                while pool._kept.get_stats().get("requests_num", 0) < 50:  # noqa: ASYNC110
                    await anyio.sleep(0.005)
            tasks.cancel_scope.cancel()
        # The one that was being checked may have been replaced.
        await settled(pool, idle=2)


async def test_who_gets_no_connection_is_told_why_it_cannot_be_made(
    postgres_config: Config,
) -> None:
    for kept in (-1, 2):
        async with open_pool(
            postgres_config,
            db_name="nowhere",
            max_idle_connections=kept,
            connection_timeout=0.3,
        ) as pool:
            with pytest.raises(
                psycopg.OperationalError, match='"nowhere" does not exist'
            ):
                await borrow(pool, 1)


async def test_who_gets_no_connection_is_told_why_its_session_could_not_begin(
    postgres_config: Config,
) -> None:
    async def configure(connection: Connection) -> None:
        await connection.execute("SELECT nonsense")

    for kept in (-1, 2):
        postgres = msgspec.structs.replace(
            postgres_config.postgres, max_idle_connections=kept, connection_timeout=0.3
        )
        pool = Pool(postgres, parameters(postgres, purpose="reader"), configure)
        await pool.open()
        with pytest.raises(psycopg.Error, match='"nonsense" does not exist'):
            await borrow(pool, 1)
        await pool.aclose()


async def test_who_gets_no_connection_is_told_why_there_is_no_password(
    postgres_config: Config,
) -> None:
    def password() -> str:
        raise LookupError

    for kept in (-1, 2):
        async with open_pool(
            postgres_config,
            password=password,
            max_idle_connections=kept,
            connection_timeout=0.3,
        ) as pool:
            with pytest.raises(UnavailableError, match="raised LookupError"):
                await borrow(pool, 1)


async def test_an_old_failure_is_not_named_where_all_connections_are_in_use(
    postgres_config: Config,
) -> None:
    failing = iter([LookupError])

    def password() -> str:
        for error in failing:
            raise error
        return str(postgres_config.postgres.password)

    async with (
        open_pool(
            postgres_config,
            password=password,
            max_open_connections=4,
            connection_timeout=3,
        ) as pool,
        AsyncExitStack() as stack,
    ):
        for _ in range(2):
            await stack.enter_async_context(pool.connection())
        with pytest.raises(PoolTimeout) as caught:
            await borrow(pool, 1)
        assert "LookupError" not in str(caught.value)


@pytest.mark.parametrize("kept", [-1, 2])
async def test_hosts_that_do_not_answer_leave_time_for_the_one_that_does(
    postgres_config: Config, kept: int
) -> None:
    host, port = postgres_config.postgres.host, postgres_config.postgres.port
    hanging = [socket.create_server((f"127.0.0.{each}", port)) for each in (8, 9)]
    try:
        async with open_pool(
            postgres_config,
            host=f"127.0.0.8,127.0.0.9,{host}",
            connection_timeout=2,
            max_idle_connections=kept,
        ) as pool:
            with anyio.fail_after(9):
                assert len(await borrow(pool, 1)) == 1
    finally:
        for each in hanging:
            each.close()
