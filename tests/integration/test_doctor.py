"""`evstore doctor` on real servers: each check as it should be, and as it should not."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import anyio
import msgspec
import pytest

import evstore
from command import Command
from doctoring import as_user, checks, execute
from events import History, creations
from evstore.clock import wall_microseconds
from evstore.doctor.checks import Status
from evstore.doctor.postgres import activity
from evstore.embedded import EmbeddedServer
from evstore.errors import ConfigError
from evstore.log import Instance, Stamp, open_log
from evstore.log.postgres import migrations
from evstore.maintenance import doctor, migrate_up
from fault.history import adjusted, connected, superuser, value

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from evstore import Config

NEEDED: Final = len(migrations.available())
FIRST: Final = "evstore.events_0000000000000000001"
LOCK: Final = b"SELECT pg_advisory_xact_lock(1702261620, 1)"


@pytest.mark.slow
async def test_under_a_role_of_its_own_all_is_well(
    runtime: Config, tmp_path: Path
) -> None:
    found = await doctor(runtime)
    assert {each.status for each in found} == {Status.OK}, found
    assert len(found) == 16
    done = Command(runtime, tmp_path).process("doctor")
    assert (done.code, done.err) == (0, "")
    title, *lines = done.out.splitlines()
    assert title.split() == ["STATUS", "CHECK", "FOUND"]
    assert [line.split()[0] for line in lines] == ["ok"] * len(found)


def test_a_document_a_check(postgres_config: Config, tmp_path: Path) -> None:
    command = Command(postgres_config, tmp_path)
    done = command("doctor", "-o", "json")
    assert done.code == 0  # a warning is no failure
    found = {each["check"]: each for each in done.documents}
    assert found["rights"] == {
        "check": "rights",
        "status": "warn",
        "found": "role kuma owns the log: it could drop the triggers that guard it",
        "advice": 'run the store as another role, see "evstore migrate grant"',
    }
    assert command("doctor", "-o", "yaml").out.count("---\n") == len(found)


async def test_nothing_is_changed(postgres_config: Config) -> None:
    async def content() -> tuple[Any, ...]:
        async with superuser(postgres_config) as admin:
            what = "oid::text || relname || coalesce(relacl::text, '')"
            query = f"SELECT string_agg({what}, ';' ORDER BY oid) FROM pg_class"
            rows = await value(admin, "SELECT count(*) FROM evstore.events")
            return await value(admin, query), rows

    before = await content()
    await doctor(postgres_config)
    assert await content() == before


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"host": "127.0.0.1", "port": 1}, "cannot be used now"),
        ({"db_name": "nowhere"}, 'database "nowhere" does not exist'),
        ({"user": "nobody_at_all"}, 'role "nobody_at_all" does not exist'),
    ],
)
async def test_a_server_that_cannot_be_reached_is_the_only_line(
    postgres_config: Config, changed: dict[str, Any], words: str
) -> None:
    postgres = msgspec.structs.replace(postgres_config.postgres, **changed)
    (found,) = await doctor(msgspec.structs.replace(postgres_config, postgres=postgres))
    assert (found.check, found.status) == ("reachable", Status.FAIL)
    assert words in found.found
    assert found.advice


@pytest.mark.slow
async def test_a_server_that_stands_still_is_waited_for_in_bounds(
    server_folder: Path,
) -> None:
    with EmbeddedServer(server_folder / "a") as server:
        postmaster = int(
            (server_folder / "a/data/postmaster.pid").read_text().split()[0]
        )
        config = as_user(server.config(), "kuma", connection_timeout=2)
        os.kill(postmaster, signal.SIGSTOP)
        try:
            with anyio.fail_after(20):
                (found,) = await doctor(config)
        finally:
            os.kill(postmaster, signal.SIGCONT)
        assert (found.check, found.status) == ("reachable", Status.FAIL)
        assert "cannot be used now" in found.found
        assert len(await doctor(config)) > 1


async def test_a_store_in_memory_has_no_server(tmp_path: Path) -> None:
    done = Command(None, tmp_path)("doctor")
    assert (done.code, done.out) == (2, "")
    assert "store.type is memory" in done.err
    with pytest.raises(ConfigError, match="memory"):
        await doctor(evstore.Config())


# Migrations.


async def test_an_empty_database_is_to_be_migrated(
    unmigrated_config: Config, tmp_path: Path
) -> None:
    done = Command(unmigrated_config, tmp_path).process("doctor", "-o", "json")
    assert (done.code, done.err) == (1, "")
    (failed,) = [each for each in done.documents if each["status"] == "fail"]
    assert failed["check"] == "migrations"
    assert "evstore migrate up" in failed["advice"]
    await migrate_up(unmigrated_config)
    assert (await checks(unmigrated_config))["migrations"].status == "ok"


async def test_an_older_database_is_to_be_migrated(
    postgres_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in migrations.available():
        (tmp_path / f"{each.version:04}_{each.name}.sql").write_text(each.sql)
    header = f"-- evstore: readable_from {NEEDED}, writable_from {NEEDED}\n"
    (tmp_path / f"{NEEDED + 1:04}_more.sql").write_text(f"{header}SELECT 1;\n")
    monkeypatch.setattr(migrations, "_folder", lambda: tmp_path)
    found = (await checks(postgres_config))["migrations"]
    assert found.status == "fail"
    assert found.found == f"version {NEEDED}, this evstore needs {NEEDED + 1}"


async def test_a_newer_database_is_ok_where_it_is_tolerated(
    postgres_config: Config,
) -> None:
    statement = "INSERT INTO evstore.schema_migration VALUES"
    row = f"({NEEDED + 1}, 'newer', 'x', now(), false, {NEEDED}, {NEEDED})"
    await execute(postgres_config, f"{statement} {row}")
    found = (await checks(postgres_config))["migrations"]
    assert (found.status, "newer" in found.found) == ("fail", True)
    tolerant = as_user(postgres_config, "kuma", tolerate_newer_db_versions=True)
    found = (await checks(tolerant))["migrations"]
    assert (found.status, "tolerated" in found.found) == ("ok", True)


async def test_a_dirty_database_is_told(postgres_config: Config) -> None:
    await execute(postgres_config, "UPDATE evstore.schema_migration SET dirty = true")
    found = (await checks(postgres_config))["migrations"]
    assert (found.status, "dirty" in found.found) == ("fail", True)


# What guards the log, and what makes it durable.


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            ["DROP TRIGGER append_only_rows ON evstore.events"],
            "append_only_rows of evstore.events",
        ),
        (
            ["ALTER TABLE evstore.events DISABLE TRIGGER append_only_table"],
            "append_only_table of evstore.events",
        ),
        (
            ["ALTER TABLE evstore.events ENABLE TRIGGER append_only_rows"],
            "append_only_rows of evstore.events",
        ),
        (
            [f"DROP TRIGGER append_only_table ON {FIRST}"],
            f"append_only_table of {FIRST}",
        ),
        (["DROP TRIGGER identity_row ON evstore.log"], "identity_row of evstore.log"),
        (
            [
                "DROP TRIGGER append_only_table ON evstore.events",
                (
                    "CREATE TRIGGER append_only_table BEFORE TRUNCATE ON evstore.events"
                    " EXECUTE FUNCTION evstore.wake_followers()"
                ),
                "ALTER TABLE evstore.events ENABLE ALWAYS TRIGGER append_only_table",
            ],
            "append_only_table of evstore.events",
        ),
        *(
            (
                [
                    (
                        f"CREATE OR REPLACE TRIGGER append_only_rows BEFORE {when}"
                        " EXECUTE FUNCTION evstore.guard_events()"
                    ),
                    "ALTER TABLE evstore.events ENABLE ALWAYS TRIGGER append_only_rows",
                    f"ALTER TABLE {FIRST} ENABLE ALWAYS TRIGGER append_only_rows",
                ],
                "append_only_rows of evstore.events",
            )
            for when in (
                "UPDATE OR DELETE ON evstore.events FOR EACH ROW WHEN (false)",
                "UPDATE ON evstore.events FOR EACH ROW",
                "UPDATE OF actor OR DELETE ON evstore.events FOR EACH ROW",
            )
        ),
        *(
            (
                [
                    (
                        f"CREATE OR REPLACE FUNCTION evstore.{function}() RETURNS trigger"
                        " LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp"
                        " AS 'BEGIN RETURN coalesce(NEW, OLD); END'"
                    )
                ],
                trigger,
            )
            for function, trigger in (
                ("guard_events", "append_only_rows of evstore.events"),
                ("guard_log", "identity_row of evstore.log"),
            )
        ),
        (
            ["ALTER FUNCTION evstore.guard_events() RESET search_path"],
            "append_only_rows of evstore.events",
        ),
    ],
)
async def test_a_trigger_that_is_not_as_it_was_is_named(
    postgres_config: Config, changes: list[str], named: str
) -> None:
    assert (await checks(postgres_config))["append-only"].status == "ok"
    for change in changes:
        await execute(postgres_config, change)
    found = (await checks(postgres_config))["append-only"]
    assert found.status == "fail"
    assert named in found.found


@pytest.mark.slow
async def test_a_server_that_does_not_write_to_its_disk_fails(
    server_folder: Path,
) -> None:
    settings = {"fsync": "off"}
    with EmbeddedServer(server_folder / "a", settings=settings) as server:
        found = (await checks(server.config()))["fsync"]
        assert (found.status, found.advice) == (
            "fail",
            "set fsync = on in postgresql.conf",
        )
        server.psql("ALTER SYSTEM SET full_page_writes = off")
        server.stop()
    settings = {"fsync": "on"}
    with EmbeddedServer(server_folder / "a", settings=settings) as server:
        found = (await checks(server.config()))["fsync"]
        assert (found.status, "full_page_writes" in found.advice) == ("warn", True)


async def test_a_role_that_commits_without_waiting_is_a_warning(
    postgres_config: Config,
) -> None:
    assert (await checks(postgres_config))["synchronous_commit"].status == "ok"
    database = postgres_config.postgres.db_name
    statement = f"ALTER ROLE kuma IN DATABASE {database} SET synchronous_commit = off"
    await execute(postgres_config, statement, user="postgres")
    found = (await checks(postgres_config))["synchronous_commit"]
    assert (found.status, found.found.split(";")[0]) == ("warn", "off")


@pytest.mark.parametrize("seconds", [-30, 30])
async def test_clocks_that_differ_are_a_warning(
    postgres_config: Config, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    # The server's own cannot be set: this machine's is.
    monkeypatch.setattr(
        "evstore.log.postgres.probe.wall_microseconds",
        lambda: wall_microseconds() - seconds * 1_000_000,
    )
    found = (await checks(postgres_config))["clock"]
    assert found.status == "warn"
    direction = "ahead of" if seconds > 0 else "behind"
    assert direction in found.found


async def test_a_log_whose_notifications_are_switched_off_is_ok(
    postgres_config: Config,
) -> None:
    found = (await checks(adjusted(postgres_config, notify=False)))["listen"]
    assert (found.status, "switched off" in found.found) == ("ok", True)


# What goes on at the server.


async def test_a_session_idle_in_a_transaction_is_named(
    postgres_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(postgres_config) as other, other.transaction():
        await other.execute(b"SELECT 1")
        process = other.info.backend_pid
        found = (await checks(postgres_config))["idle in transaction"]
        assert found.status == "ok"  # it has only just begun
        monkeypatch.setattr(activity, "IDLE_SECONDS_MAX", 0.0)
        found = (await checks(postgres_config))["idle in transaction"]
        assert found.status == "warn"
        assert f"process {process} (kuma" in found.found
        assert f"pg_terminate_backend({process})" in found.advice
    assert (await checks(postgres_config))["idle in transaction"].status == "ok"


async def test_sessions_of_others_that_are_hidden_are_counted(
    postgres_config: Config, runtime: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "IDLE_SECONDS_MAX", 0.0)
    async with connected(postgres_config) as other, other.transaction():
        await other.execute(b"SELECT 1")
        found = (await checks(runtime))["idle in transaction"]
        assert found.status == "ok"
        assert "that can be seen; 1 cannot" in found.found
        assert "pg_read_all_stats" in found.advice


async def test_who_holds_the_append_lock_is_named(
    postgres_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await checks(postgres_config))["append lock"].found == "free"
    async with connected(postgres_config) as other, other.transaction():
        await other.execute(LOCK)
        process = other.info.backend_pid
        found = (await checks(postgres_config))["append lock"]
        assert found.status == "ok"  # a turn takes a moment
        assert f"process {process} (kuma" in found.found
        monkeypatch.setattr(activity, "LOCK_SECONDS_MAX", 0.0)
        found = (await checks(postgres_config))["append lock"]
        assert found.status == "fail"
        assert "nobody can append" in found.found
        assert f"pg_terminate_backend({process})" in found.advice
    assert (await checks(postgres_config))["append lock"].status == "ok"


async def test_a_session_that_shares_the_append_lock_for_long_is_a_warning(
    postgres_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "LOCK_SECONDS_MAX", 0.0)
    async with connected(postgres_config) as other:
        await other.execute(b"SELECT pg_advisory_lock_shared(1702261620, 1)")
        found = (await checks(postgres_config))["append lock"]
        assert found.status == "warn"
        assert f"process {other.info.backend_pid} (kuma" in found.found


async def test_a_lock_of_another_database_or_of_another_kind_is_no_matter(
    postgres_config: Config, unmigrated_config: Config
) -> None:
    async with (
        connected(unmigrated_config) as other,
        connected(postgres_config) as migrator,
    ):
        await other.execute(b"SELECT pg_advisory_lock(1702261620, 1)")
        await migrator.execute(b"SELECT pg_advisory_lock(1702261620, 3)")
        assert (await checks(postgres_config))["append lock"].found == "free"


@pytest.mark.slow
async def test_a_table_that_is_locked_does_not_stop_the_doctor(
    postgres_config: Config,
) -> None:
    async with connected(postgres_config) as other, other.transaction():
        await other.execute(b"LOCK TABLE evstore.events IN ACCESS EXCLUSIVE MODE")
        found = await checks(postgres_config)
        assert found["partitions"].status == "warn"
        assert "cannot be told" in found["partitions"].found
        assert found["migrations"].status == "ok"


async def test_partitions_are_to_reach_ahead(postgres_config: Config) -> None:
    found = (await checks(postgres_config))["partitions"]
    assert (found.status, found.found) == (
        "ok",
        "there for 5,000,000 positions after the head",
    )
    await execute(postgres_config, "UPDATE evstore.log SET partition_size = 100000000")
    found = (await checks(postgres_config))["partitions"]
    assert (found.status, "ensure_partition" in found.advice) == ("warn", True)
    await execute(postgres_config, "SELECT evstore.ensure_partition()")
    assert (await checks(postgres_config))["partitions"].status == "ok"
    # One that somebody takes away where the log goes on.
    await execute(
        postgres_config, f"ALTER TABLE evstore.events DETACH PARTITION {FIRST}"
    )
    found = (await checks(postgres_config))["partitions"]
    assert (found.status, found.found.split(",")[0]) == ("fail", "position 1 has none")


async def test_the_newest_snapshot_of_this_log_is_told(
    postgres_config: Config,
) -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        yield b"state"

    async def found() -> tuple[str, str]:
        check = (await checks(postgres_config))["snapshots"]
        return check.status, check.found

    assert await found() == ("ok", "none of the state; a start reads 0 events")
    async with open_log(postgres_config) as log:
        await log.connect()
        history = History(log.genesis)
        await log.append(creations(history, "ab"), after=log.genesis)
        for head, projection in (
            (log.genesis, "resources"),
            (history.head, "resources"),
            (history.head, "services"),
        ):
            stamp = Stamp(
                log=log.identity,
                projection=projection,
                version=1,
                fingerprint="",
                head=head,
                digest=bytes(32),
            )
            assert await log.save_snapshot(stamp, pieces(), code_version="")
        await log.append(creations(history, "c"), after=stamp.head)
    status, words = await found()
    assert status == "ok"
    assert words.startswith("2 of the state, the newest of position 2, taken ")
    assert words.endswith(" s ago; 1 event since")
    # Only instances of other code run, and then one that folds as these were folded.
    async with open_log(postgres_config) as log:
        await log.beat(running("resources:1:f00d"))
        assert await found() == (
            "ok",
            "none that fits an instance that runs; a start reads 3 events",
        )
        await log.beat(running("resources:1:"))
    assert "the newest of position 2" in (await found())[1]
    # One of an end that the log has lost, and one of another log.
    away = "UPDATE evstore.snapshots SET"
    await execute(
        postgres_config, f"{away} hash = sha256('x') WHERE projection = 'services'"
    )
    assert await found() == ("warn", "1 of another log, or of an end that was lost")
    await execute(postgres_config, f"{away} log = gen_random_uuid()")
    assert await found() == ("warn", "3 of another log, or of an end that was lost")


def running(label: str) -> Instance:
    return Instance(
        id=uuid4(),
        position=0,
        digest=bytes(32),
        code_version="",
        projections=(label,),
    )


async def test_dead_rows_that_nobody_removes_are_a_warning(
    postgres_config: Config,
) -> None:
    assert (await checks(postgres_config))["dead rows"].status == "ok"
    async with connected(postgres_config) as connection:
        for statement in (
            "ALTER TABLE evstore.instances SET (autovacuum_enabled = false)",
            """INSERT INTO evstore.instances
               SELECT gen_random_uuid(), 1, sha256(''), 'x', now()""",
            """DO $$ BEGIN
                   FOR number IN 1..1100 LOOP
                       UPDATE evstore.instances SET position = number;
                   END LOOP;
               END $$""",
            "SELECT pg_stat_force_next_flush()",
        ):
            await connection.execute(statement.encode())
        # Counted since the statement before; the next one makes it known.
        await connection.execute(b"SELECT 1")
        found = (await checks(postgres_config))["dead rows"]
    assert found.status == "warn"
    assert found.found.endswith("in evstore.instances")
    assert found.advice.startswith("VACUUM evstore.instances")
