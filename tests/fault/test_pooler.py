"""Behind a pooler in transaction mode: sessions are lent, and taken back.

That each log keeps its contract there is proved by `tests/contract`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from events import History, create, key
from evstore.errors import UnavailableError
from evstore.log import open_log
from evstore.log.postgres import PostgresLog
from evstore.log.postgres.wire import Wire
from evstore.log.postgres.writer import Writer
from evstore.maintenance import migrate_up
from fault.history import (
    adjusted,
    checked_history,
    connected,
    superuser,
    until,
    value,
)
from pooler import Pooler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evstore import Config, Store
    from evstore.embedded import EmbeddedServer
    from evstore.log.postgres.wire import Step
    from fault.history import Connection

pytestmark = pytest.mark.fault


@pytest.fixture
def own_pooler(server: EmbeddedServer, server_folder: Path) -> Iterator[Pooler]:
    """Return a pooler of the test's own, before the session's PostgreSQL."""
    with Pooler(server_folder, server.host, server.port) as running:
        yield running


async def write(store: Store, acknowledged: dict[str, int], prefix: str) -> None:
    """Write until cancelled; note what was acknowledged."""
    number = 0
    while True:
        number += 1
        name = f"{prefix}-{number}"
        try:
            created = await store.create("Mesh", name, spec={})
        except UnavailableError:
            continue  # unknown, or not done: neither was acknowledged
        acknowledged[name] = created.version


async def test_the_pooler_is_noticed(
    pooled_config: Config, postgres_config: Config
) -> None:
    async with (
        evstore.open(pooled_config) as pooled,
        evstore.open(postgres_config) as direct,
    ):
        await until(lambda: direct._log.listening)
        await until(lambda: pooled._log.listener.pooled)
        assert not pooled._log.listening
        health = await pooled.health()
        assert health.ok
        assert health.connections is not None
        assert health.connections.listener is None


async def test_changes_of_others_arrive_by_polling(pooled_config: Config) -> None:
    config = adjusted(pooled_config, poll_interval=0.2)
    async with evstore.open(config) as store, evstore.open(config) as other:
        seen: list[str] = []

        async def watch() -> None:
            async for event in other.watch(after=0):
                seen.append(event.name)  # noqa: PERF401 - looked at below

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            for number in range(5):
                await store.create("Mesh", f"mesh-{number}", spec={})
                await until(lambda n=number: len(seen) == n + 1)
            tasks.cancel_scope.cancel()


async def test_who_listens_directly_hears_who_writes_through_the_pooler(
    pooled_config: Config, postgres_config: Config
) -> None:
    config = adjusted(postgres_config, poll_interval=3600.0)
    async with evstore.open(pooled_config) as pooled, evstore.open(config) as direct:
        await until(lambda: direct._log.listening)
        await pooled.create("Mesh", "default", spec={})
        await until(lambda: direct.position == 1)


async def test_sessions_are_given_back_as_they_were(
    pooled_config: Config, postgres_config: Config
) -> None:
    async with evstore.open(pooled_config) as store, evstore.open(pooled_config) as two:
        for number in range(20):
            await store.create("Mesh", f"mesh-{number}", spec={})
            await two.get("Mesh", "mesh-0", at=1)
    async with connected(postgres_config) as fresh:
        expected = await _settings(fresh)
    async with connected(pooled_config) as through:
        through.prepare_threshold = None
        # They go round: these are all of them.
        for _ in range(20):
            assert await _settings(through) == expected
            assert (
                await value(through, "SELECT count(*) FROM pg_prepared_statements") == 0
            )
            listening = "SELECT count(*) FROM pg_listening_channels()"
            assert await value(through, listening) == 0


async def _settings(connection: Connection) -> str:
    query = """
        SELECT string_agg(concat(name, '=', setting), ' ' ORDER BY name)
        FROM pg_settings
        WHERE starts_with(name, 'enable_') OR strpos(name, '_timeout') > 0 OR name IN (
            'plan_cache_mode', 'jit', 'synchronous_commit', 'client_min_messages',
            'default_transaction_isolation', 'bytea_output')
    """
    return str(await value(connection, query))


async def test_instances_behind_a_pooler_share_one_log(
    pooled_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged: dict[str, int] = {}
    sent: list[int] = []
    dispatch = Wire._dispatch

    def noted(self: Wire, steps: tuple[Step, ...]) -> None:
        sent.append(sum(not trip.held for trip in self._trips))
        dispatch(self, steps)

    monkeypatch.setattr(Wire, "_dispatch", noted)
    async with (
        evstore.open(pooled_config) as store,
        evstore.open(pooled_config) as other,
        anyio.create_task_group() as tasks,
    ):
        for writer in range(40):
            each = store if writer % 2 else other
            tasks.start_soon(write, each, acknowledged, f"mesh-{writer}")
        await until(lambda: len(acknowledged) > 1000, seconds=30)
        tasks.cancel_scope.cancel()
    at = {event.name: event.position for event in await checked_history(pooled_config)}
    assert {name: at.get(name) for name in acknowledged} == acknowledged
    # One round trip at a time: a second one waits for the answer to the first.
    assert max(sent) == 1


async def test_a_second_append_waits_for_the_answer_to_the_first(
    pooled_config: Config,
) -> None:
    async with open_log(pooled_config) as log:
        assert isinstance(log, PostgresLog)
        wire = await log._writer.connect()
        history = History(log.genesis)
        landed: list[Exception | None] = []
        for name in ("a", "b"):
            place = history.head
            events = history.transaction(create(key(name)))
            assert log.send(events, after=place, landed=landed.append)
        assert [bool(trip.held) for trip in wire._trips] == [False, True]
        await until(lambda: landed == [None, None])
        assert (await log.head()).position == 2


@pytest.mark.slow
async def test_lost_sessions_and_poolers_lose_nothing_and_double_nothing(
    postgres_config: Config, own_pooler: Pooler
) -> None:
    config = adjusted(own_pooler.config(postgres_config), poll_interval=0.1)
    acknowledged: dict[str, int] = {}
    async with (
        superuser(postgres_config) as admin,
        evstore.open(config) as store,
        evstore.open(config) as other,
        anyio.create_task_group() as tasks,
    ):
        for writer in range(20):
            each = store if writer % 2 else other
            tasks.start_soon(write, each, acknowledged, f"mesh-{writer}")
        for round_ in range(6):
            count = len(acknowledged)
            await until(lambda n=count: len(acknowledged) > n + 100, seconds=30)
            if round_ % 2:
                own_pooler.kill()
                own_pooler.start()
            else:
                await admin.execute(
                    b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    b" WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        count = len(acknowledged)
        await until(lambda: len(acknowledged) > count + 100, seconds=30)
        tasks.cancel_scope.cancel()
    at = {
        event.name: event.position for event in await checked_history(postgres_config)
    }
    assert {name: at.get(name) for name in acknowledged} == acknowledged


async def test_a_warning_at_the_commit_is_heard_whatever_the_role_has_set(
    postgres_config: Config, own_pooler: Pooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[int] = []
    settle = Writer.settle

    async def noted(self: Writer) -> None:
        await settle(self)
        settled.append(1)

    monkeypatch.setattr(Writer, "settle", noted)
    database = postgres_config.postgres.db_name
    async with superuser(postgres_config) as admin:
        await admin.execute(
            f"ALTER DATABASE {database} SET client_min_messages = error"
        )
        await admin.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
        # As a commit does that no longer waits for its standby.
        await admin.execute(b"""
            CREATE FUNCTION public.warn() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE WARNING 'synchronous_commit is %',
                    current_setting('synchronous_commit');
                RETURN NULL;
            END $$
        """)
        await admin.execute(b"""
            CREATE CONSTRAINT TRIGGER warn AFTER INSERT ON evstore.events
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.warn()
        """)
    async with evstore.open(own_pooler.config(postgres_config)) as store:
        assert (await store.create("Mesh", "default", spec={})).version == 1
    # In doubt, found in the log, and made sure of.
    assert settled == [1]


async def test_commits_are_durable_whatever_the_role_has_set(
    postgres_config: Config, own_pooler: Pooler
) -> None:
    database = postgres_config.postgres.db_name
    async with superuser(postgres_config) as admin:
        await admin.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
        await admin.execute(b"CREATE TABLE public.durability (setting text)")
        await admin.execute(b"GRANT ALL ON public.durability TO kuma")
        await admin.execute(b"""
            CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO public.durability
                VALUES (current_setting('synchronous_commit'));
                RETURN NULL;
            END $$
        """)
        await admin.execute(b"""
            CREATE CONSTRAINT TRIGGER note AFTER INSERT ON evstore.events
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.note()
        """)
        async with evstore.open(own_pooler.config(postgres_config)) as store:
            await store.create("Mesh", "default", spec={})
        query = "SELECT string_agg(setting, ' ') FROM public.durability"
        assert await value(admin, query) == "on"


async def test_migrations_run_through_a_pooler(
    unmigrated_config: Config, own_pooler: Pooler
) -> None:
    config = own_pooler.config(unmigrated_config)
    report = await migrate_up(config)
    assert report.version == len(report.applied)
    async with evstore.open(config) as store:
        assert (await store.create("Mesh", "default", spec={})).version == 1


async def test_reads_that_are_cancelled_leave_the_pooler_alive(
    postgres_config: Config, own_pooler: Pooler
) -> None:
    """PgBouncer 1.18 dies where the sender of a cancellation leaves before its end."""

    async def ask(log: PostgresLog) -> None:
        async with log._reader.connection() as connection:
            await connection.execute("SELECT pg_sleep(60)")

    for number in range(24):
        async with open_log(own_pooler.config(postgres_config)) as log:
            assert isinstance(log, PostgresLog)
            await log.connect()
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(ask, log)
                # At any moment: while connecting, while asking, and in between.
                await anyio.sleep(0.005 * (number % 8))
                tasks.cancel_scope.cancel()
        assert own_pooler.alive, f"it died after {number + 1} times"
