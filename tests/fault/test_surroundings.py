"""What a role, a server or a neighbour may do to a store that is right by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import pytest

import evstore
from events import History, create, key
from evstore.commit.commands import TRANSACTION_BYTES_MAX
from evstore.commit.live import LiveState
from evstore.errors import DivergedError, InvalidError, UnavailableError
from evstore.folds.resources import Overlay
from evstore.log import open_log
from evstore.model import Head
from fault.history import adjusted, checked_history, limited, superuser, until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evstore import Config
    from evstore.embedded import EmbeddedServer
    from evstore.model import StoredEvent

pytestmark = pytest.mark.fault

SETTINGS = {
    "client_min_messages": "error",
    "default_transaction_isolation": "'serializable'",
    "statement_timeout": "'20ms'",
    "lock_timeout": "'1ms'",
    "idle_in_transaction_session_timeout": "'1ms'",
    "DateStyle": "'German'",
    "IntervalStyle": "'iso_8601'",
    "TimeZone": "'Asia/Kathmandu'",
    "bytea_output": "'escape'",
    "standard_conforming_strings": "off",
    "synchronous_commit": "off",
    "extra_float_digits": "0",
    "search_path": "'nowhere'",
    "enable_indexscan": "off",
}


@pytest.mark.parametrize(
    ("setting", "way"),
    [
        *((setting, "postgres_config") for setting in SETTINGS),
        # A session that a pooler lends keeps the time-outs of its role.
        *(
            (setting, "pooled_config")
            for setting in SETTINGS
            if "_timeout" not in setting
        ),
    ],
)
async def test_a_setting_of_the_role_changes_nothing(
    request: pytest.FixtureRequest, postgres_config: Config, setting: str, way: str
) -> None:
    config: Config = request.getfixturevalue(way)
    database = postgres_config.postgres.db_name
    async with superuser(postgres_config) as admin:
        await admin.execute(
            f"ALTER ROLE kuma IN DATABASE {database}"
            f" SET {setting} = {SETTINGS[setting]}".encode()
        )
    async with evstore.open(config) as one, evstore.open(config) as two:

        async def write(store: evstore.Store, prefix: str) -> None:
            for number in range(10):
                await store.create("Zone", f"{prefix}{number}", spec={"n": number})

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, one, "a")
            tasks.start_soon(write, two, "b")
        listed = await one.list("Zone", consistent=True)
        assert listed.total == 20
        past = await two.get("Zone", "a0", at=listed.position)
        assert past.created_at == listed.items[0].created_at
        assert [event.position async for event in one.events()] == list(range(1, 21))
        assert await one.instances()
    assert len(await checked_history(postgres_config)) == 20


async def test_a_verdict_under_serializable_sessions_is_about_the_head(
    postgres_config: Config,
) -> None:
    quiet = adjusted(postgres_config, notify=False, poll_interval=60.0)
    async with evstore.open(quiet) as one, evstore.open(quiet) as two:
        first = await one.create("Zone", "west", spec={"n": 1})
        await two.get("Zone", "west", consistent=True)
        await two.update(first, spec={"n": 2})
        with pytest.raises(evstore.ConflictError):
            await one.update(first, spec={"n": 1})


async def test_a_full_queue_of_notifications_stops_nobody(
    postgres_config: Config,
) -> None:
    async with superuser(postgres_config) as admin:
        await admin.execute("""
            CREATE OR REPLACE FUNCTION evstore.wake_followers() RETURNS trigger
            LANGUAGE plpgsql AS $$
            BEGIN
                IF current_setting('evstore.notify', true) <> 'off' THEN
                    RAISE EXCEPTION 'too many notifications in the NOTIFY queue'
                        USING ERRCODE = 'program_limit_exceeded';
                END IF;
                RETURN NULL;
            END $$
        """)
    async with evstore.open(postgres_config) as store:
        await store.create("Mesh", "default", spec={})
        await store.create("Mesh", "other", spec={})
    assert len(await checked_history(postgres_config)) == 2


async def test_a_clock_that_stepped_back_does_not_stop_the_log(
    postgres_config: Config,
) -> None:
    async with open_log(postgres_config) as log:
        await log.connect()
        history = History(log.genesis)
        ahead = time.time_ns() // 1000 + 30_000_000
        (event,) = history.transaction(create(key("early")), time=ahead)
        async with superuser(postgres_config) as admin:
            await admin.execute(
                "INSERT INTO evstore.events (position, commit, recorded_at, tx,"
                " schema_version, size, actor, operation, type, mesh, name, salt,"
                " hash, metadata, body) VALUES (1, 1, to_timestamp(0) + %s * interval"
                " '1 microsecond', %s, 1, %s, '', 'created', 'Dataplane', 'default',"
                " 'early', %s, %s, '{}', %s)",
                (
                    event.time,
                    UUID(event.tx),
                    event.size,
                    event.salt,
                    event.hash,
                    bytes(event.body).decode(),
                ),
            )
    async with evstore.open(limited(postgres_config, command_timeout=2.0)) as store:
        later = await store.create("Dataplane", "late", mesh="default", spec={})
        await store.update(later, spec={"n": 1})
    first, second, third = await checked_history(postgres_config)
    assert first.recorded_at < second.recorded_at < third.recorded_at


async def test_a_lost_tail_is_got_over_while_callers_keep_coming(
    postgres_config: Config,
) -> None:
    config = adjusted(postgres_config, poll_interval=60.0)
    async with evstore.open(config) as store:
        for number in range(5):
            await store.create("Zone", f"z{number}", spec={})
        diverged = 0
        done = 0
        lost = anyio.Event()

        async def caller(number: int) -> None:
            nonlocal diverged, done
            while not lost.is_set() or done < target:
                try:
                    await store.create("Mesh", f"m{number}-{done}", spec={})
                    done += 1
                except DivergedError:
                    diverged += 1

        target = 0
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(caller, number)
            await until(lambda: done > 10)
            async with superuser(config) as admin, admin.transaction():
                await admin.execute("LOCK TABLE evstore.events")
                await admin.execute("DROP TRIGGER append_only_rows ON evstore.events")
                await admin.execute("DELETE FROM evstore.events WHERE position > 3")
            target = done + 100
            lost.set()
        # A batch or two were decided on what is lost, not all that came after.
        assert 0 < diverged <= 24


async def test_nothing_under_way_means_unavailable_and_not_unknown(
    postgres_config: Config, server: EmbeddedServer
) -> None:
    config = limited(postgres_config, command_timeout=1.5)
    async with evstore.open(config) as store:
        await store.create("Mesh", "default", spec={})
        async with superuser(server.config("postgres")) as admin:
            await admin.execute(
                f"ALTER DATABASE {config.postgres.db_name} ALLOW_CONNECTIONS false".encode()
            )
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND pid <> pg_backend_pid()",
                (config.postgres.db_name,),
            )
            # The first after the cut may have been sent; the second was never.
            for name in ("first", "second"):
                with pytest.raises(UnavailableError) as caught:
                    await store.create("Mesh", name, spec={}, request_id=name)
            assert caught.value.retryable
            await admin.execute(
                f"ALTER DATABASE {config.postgres.db_name} ALLOW_CONNECTIONS true".encode()
            )
        await until(lambda: not store._committer._slow.batch)
        await store.create("Mesh", "second", spec={}, request_id="second")


async def test_a_small_pool_replays_large_events(postgres_config: Config) -> None:
    large = {"blob": "x" * 1_000_000}
    async with evstore.open(postgres_config) as store:
        for number in range(10):
            await store.create("Zone", f"z{number}", spec=large)
    postgres = evstore.config.PostgresConfig(
        host=postgres_config.postgres.host,
        port=postgres_config.postgres.port,
        user=postgres_config.postgres.user,
        password=postgres_config.postgres.password,
        db_name=postgres_config.postgres.db_name,
        max_open_connections=1,
    )
    small = evstore.Config(type=postgres_config.type, postgres=postgres)
    async with evstore.open(small) as store:
        assert (await store.list("Zone")).total == 10


async def test_the_reason_counts_in_the_size_of_a_transaction() -> None:
    async with evstore.open() as store:
        reason = "\N{GRINNING FACE}" * 4096
        with pytest.raises(InvalidError, match="bytes at most"):
            await _many(store, reason, TRANSACTION_BYTES_MAX // (4 * 4096))
        assert await store.head() == 0


async def _many(store: evstore.Store, reason: str, count: int) -> None:
    async with store.transaction(reason=reason) as tx:
        for number in range(count):
            tx.create("Zone", f"z{number}", spec={})


async def test_a_fault_in_one_command_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    genuine = Overlay.apply

    def faulty(self: Overlay, events: Iterable[StoredEvent]) -> None:
        events = list(events)
        genuine(self, events)
        if any(event.key.endswith("/guilty") for event in events):
            message = "a fault of ours"
            raise RuntimeError(message)

    monkeypatch.setattr(Overlay, "apply", faulty)
    async with evstore.open() as store:
        results: dict[str, object] = {}

        async def call(name: str) -> None:
            try:
                results[name] = (await store.create("Mesh", name, spec={})).version
            except RuntimeError as error:
                results[name] = str(error)

        async with anyio.create_task_group() as tasks:
            for name in ("one", "guilty", "two"):
                tasks.start_soon(call, name)
        assert results == {"one": 1, "guilty": "a fault of ours", "two": 2}
        assert [item.name for item in (await store.list("Mesh")).items] == [
            "one",
            "two",
        ]


async def test_a_committer_that_died_takes_no_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(LiveState, "settle", die)
    with pytest.raises(BaseExceptionGroup) as caught:
        await _write_twice()
    assert caught.group_contains(MemoryError)


async def _write_twice() -> None:
    async with evstore.open() as store:
        for name in ("default", "other"):
            with (
                anyio.CancelScope(shield=True),
                anyio.fail_after(5),
                pytest.raises(UnavailableError),
            ):
                await store.create("Mesh", name, spec={})
        await anyio.sleep(5)


def test_a_gap_in_the_log_is_never_folded() -> None:
    history = History(Head(position=0, hash=bytes(32), time=0))
    history.transaction(create(key("a")))
    (skipped,) = history.transaction(create(key("b")))
    other = History(Head(position=0, hash=bytes(32), time=0))
    with pytest.raises(DivergedError, match="2 where 1"):
        other.projections.apply([skipped])
