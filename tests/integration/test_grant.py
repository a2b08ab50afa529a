"""`evstore migrate grant`, and what the doctor says of a role's rights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

import evstore
from command import Command
from doctoring import as_user, checks, execute, role_of
from evstore.errors import ConfigError
from evstore.maintenance import grant, grants
from fault.history import superuser, value

if TYPE_CHECKING:
    from pathlib import Path

    from evstore import Config

FIRST: Final = "evstore.events_0000000000000000001"

LEFT_OUT: Final = {
    "USAGE ON SCHEMA evstore": "USAGE on schema evstore",
    "SELECT ON evstore.events": "SELECT on evstore.events",
    "INSERT ON evstore.events": "INSERT on evstore.events",
    "SELECT ON evstore.log": "SELECT on evstore.log",
    "SELECT ON evstore.schema_migration": "SELECT on evstore.schema_migration",
    "SELECT ON evstore.instances": "SELECT on evstore.instances",
    "INSERT ON evstore.instances": "INSERT on evstore.instances",
    "UPDATE ON evstore.instances": "UPDATE on evstore.instances",
    "DELETE ON evstore.instances": "DELETE on evstore.instances",
    **{
        f"{right} ON evstore.{table}": f"{right} on evstore.{table}"
        for table in ("snapshots", "snapshot_chunks")
        for right in ("SELECT", "INSERT", "DELETE")
    },
    "EXECUTE ON FUNCTION evstore.ensure_partition": (
        "EXECUTE on function evstore.ensure_partition"
    ),
}


@pytest.mark.parametrize("right", LEFT_OUT)
async def test_a_right_that_is_missing_is_named(
    postgres_config: Config, runtime: Config, right: str
) -> None:
    role = runtime.postgres.user
    await execute(postgres_config, f"REVOKE {right} FROM {role}")
    found = (await checks(runtime))["rights"]
    assert found.status == "fail"
    assert found.found == f"role {role} lacks {LEFT_OUT[right]}"
    assert found.advice == f'run "evstore migrate grant {role} --apply" as the owner'
    await grant(postgres_config, role)
    assert (await checks(runtime))["rights"].status == "ok"


@pytest.mark.parametrize(
    ("right", "named"),
    [
        ("UPDATE ON evstore.events", "UPDATE on evstore.events"),
        ("TRIGGER ON evstore.log", "TRIGGER on evstore.log"),
        ("CREATE ON SCHEMA evstore", "CREATE on schema evstore"),
        ("INSERT ON evstore.schema_migration", "INSERT on evstore.schema_migration"),
        (f"DELETE ON {FIRST}", f"DELETE on {FIRST}"),
    ],
)
async def test_a_right_too_many_is_a_warning(
    postgres_config: Config, runtime: Config, right: str, named: str
) -> None:
    await execute(postgres_config, f"GRANT {right} TO {runtime.postgres.user}")
    found = (await checks(runtime))["rights"]
    assert found.status == "warn"
    assert named in found.found


@pytest.mark.parametrize(
    ("user", "words"), [("kuma", "owns the log"), ("postgres", "is a superuser")]
)
async def test_a_role_that_could_undo_the_guards_is_a_warning(
    postgres_config: Config, user: str, words: str
) -> None:
    found = (await checks(as_user(postgres_config, user)))["rights"]
    assert found.status == "warn"
    assert words in found.found


@pytest.mark.slow
async def test_what_is_granted_is_what_is_printed(
    postgres_config: Config, tmp_path: Path
) -> None:
    command = Command(postgres_config, tmp_path)
    async with role_of(postgres_config) as role:
        printed = command.process("migrate", "grant", role)
        assert (printed.code, printed.err) == (0, "")
        assert printed.out.splitlines() == grants(role)
        config = as_user(postgres_config, role)
        assert (await checks(config))["rights"].status == "fail"  # only printed
        assert command.process("migrate", "grant", role, "--apply") == (
            0,
            f"granted to {role}\n",
            "",
        )
        assert (await checks(config))["rights"].status == "ok"
        done = command.process("migrate", "grant", role, "--apply", "-o", "json")
        assert done.documents == [
            {"role": role, "applied": True, "statements": grants(role)}
        ]
        # The printed statements do the same.
        await execute(postgres_config, f"DROP OWNED BY {role}", user="postgres")
        for statement in printed.out.splitlines():
            await execute(postgres_config, statement)
        assert (await checks(config))["rights"].status == "ok"


async def test_no_table_is_forgotten(postgres_config: Config) -> None:
    query = """
        SELECT array_agg('evstore.' || relname) FROM pg_class
        WHERE relnamespace = 'evstore'::regnamespace AND relkind IN ('r', 'p', 'v')
            AND NOT relispartition
    """
    text = " ".join(grants("x")).replace(",", "")
    async with superuser(postgres_config) as admin:
        for table in await value(admin, query):
            assert table in text.split(), f"say in grant.sql what {table} needs"


async def test_a_role_with_a_strange_name_is_quoted(postgres_config: Config) -> None:
    name = 'a "b"; DROP ROLE kuma'
    quoted = '"a ""b""; DROP ROLE kuma"'
    await execute(postgres_config, f"CREATE ROLE {quoted} LOGIN", user="postgres")
    try:
        await grant(postgres_config, name)
        found = (await checks(as_user(postgres_config, name)))["rights"]
        assert found.status == "ok"
    finally:
        await execute(postgres_config, f"DROP OWNED BY {quoted}", user="postgres")
        await execute(postgres_config, f"DROP ROLE {quoted}", user="postgres")


@pytest.mark.parametrize("role", ["", "public", "none", "x" * 64, "a\0b"])
def test_what_is_no_name_of_a_role_is_refused(role: str) -> None:
    with pytest.raises(evstore.InvalidError, match="role: "):
        grants(role)


async def test_granting_is_for_the_owner_and_for_roles_that_are_there(
    postgres_config: Config, unmigrated_config: Config, runtime: Config
) -> None:
    with pytest.raises(evstore.InvalidError, match="no role nobody_at_all"):
        await grant(postgres_config, "nobody_at_all")
    with pytest.raises(evstore.SchemaError, match="evstore migrate up"):
        await grant(unmigrated_config, "kuma")
    async with superuser(postgres_config) as admin:
        await admin.execute(b"CREATE ROLE somebody_else")
        try:
            with pytest.raises(ConfigError, match=r"as the owner"):
                await grant(runtime, "somebody_else")
            query = "has_table_privilege('somebody_else', 'evstore.events', 'SELECT')"
            assert not await value(admin, f"SELECT {query}")
        finally:
            await admin.execute(b"DROP OWNED BY somebody_else")
            await admin.execute(b"DROP ROLE somebody_else")


async def test_a_role_that_may_not_connect_or_log_in_is_refused_at_once(
    postgres_config: Config, runtime: Config
) -> None:
    role, database = runtime.postgres.user, runtime.postgres.db_name
    for statement, advice in (
        (f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC", "GRANT CONNECT"),
        (f"ALTER ROLE {role} NOLOGIN", "LOGIN"),
    ):
        await execute(postgres_config, statement, user="postgres")
        with pytest.raises(ConfigError, match=f"refuses the connection: .*{advice}"):
            async with evstore.open(runtime):
                pytest.fail("it opened")


async def test_a_command_that_gets_no_second_connection_says_why_in_one_line(
    postgres_config: Config, runtime: Config, tmp_path: Path
) -> None:
    role = runtime.postgres.user
    await execute(
        postgres_config, f"ALTER ROLE {role} CONNECTION LIMIT 1", user="postgres"
    )
    done = Command(runtime, tmp_path).process(
        "log", KUMA_STORE_POSTGRES_CONNECTION_TIMEOUT="1"
    )
    assert done.code == 1
    assert "too many connections for role" in done.err
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("error: ")
