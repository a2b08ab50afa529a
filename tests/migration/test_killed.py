"""A migrator is killed in the middle of each step, in two ways: the next one finishes."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio
import pytest
from anyio import to_thread

from evstore.log.postgres import migrations
from evstore.maintenance import migrate_up
from migration.databases import NEEDED, blocked, execute, holding, seen
from migration.releases import Release

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from evstore import Config
    from evstore.log.postgres.migrations import Migration
    from migration.databases import Files
    from migration.debian import Databases

pytestmark = pytest.mark.slow

EXTRA: Final = """\
-- locks: evstore.instances, ACCESS EXCLUSIVE
CREATE TABLE evstore.extra (id integer PRIMARY KEY);
ALTER TABLE evstore.instances ADD COLUMN zone text;
"""
GATE: Final = "SELECT pg_advisory_xact_lock(77)"
STEPS: Final = range(1, NEEDED + 2)
LAST: Final = STEPS[-1]


@pytest.fixture
def release(files: Files, tmp_path: Path, make: Callable[[], Config]) -> Release:
    """Return a release with one migration more, as this process; and a database."""
    files.add(EXTRA)
    folder = tmp_path / "release"
    folder.mkdir()
    made = Release(make(), folder, ())
    made.files.add(EXTRA)
    return made


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> Callable[[Config, int], Any]:
    """Return what applies the first migrations only."""

    async def migrate(config: Config, count: int) -> None:
        some = migrations.available()[:count]
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "available", lambda: some)
            await migrate_up(config)

    return migrate


def obstacle(step: Migration, moment: Literal["begin", "end"]) -> str:
    """Return what, if somebody else has done it, holds up a step at that moment."""
    if moment == "end":
        # What was applied is recorded last.
        record = "LOCK TABLE evstore.schema_migration IN SHARE MODE"
        return GATE if step.version == 1 else record
    if step.version == 1:
        return "CREATE SCHEMA evstore"
    needed = re.search(r"(evstore\.\w+), ACCESS EXCLUSIVE", "\n".join(step.locks))
    if needed is None:
        return "SELECT pg_advisory_xact_lock(1702261620, 3)"
    return f"LOCK TABLE {needed[1]} IN ROW EXCLUSIVE MODE"


async def kill(process: subprocess.Popen[str], _: Config) -> None:
    """Kill the migrator's process; its session does not know yet."""
    process.kill()
    await to_thread.run_sync(process.communicate)
    assert process.returncode == -signal.SIGKILL


async def terminate(process: subprocess.Popen[str], config: Config) -> None:
    """End the migrator's session; the process says so in a line and ends."""
    query = f"SELECT pg_terminate_backend({await blocked(config)}, 5000)"
    assert await execute(config, query, user="postgres") is True
    _, err = await to_thread.run_sync(process.communicate)
    assert process.returncode == 1
    assert re.fullmatch("error: PostgreSQL at .*\n", err)


@pytest.mark.parametrize("strike", [kill, terminate])
@pytest.mark.parametrize("moment", ["begin", "end"])
@pytest.mark.parametrize("version", STEPS)
async def test_a_step_that_is_cut_off_is_done_by_the_next_migrator(  # noqa: PLR0913
    release: Release,
    first: Callable[[Config, int], Any],
    make: Callable[[], Config],
    databases: Databases,
    *,
    version: int,
    moment: Literal["begin", "end"],
    strike: Callable[[subprocess.Popen[str], Config], Any],
) -> None:
    config, step = release.config, migrations.available()[version - 1]
    await first(config, version - 1)
    kept = await _kept(config) if version > 1 else None
    if obstacle(step, moment) == GATE:
        text = f"{step.sql}{GATE};\n"
        release.files.path(step).write_text(text, encoding="utf-8")
    async with holding(config, obstacle(step, moment)):
        process = release.start("migrate", "up")
        try:
            await blocked(config)
            await strike(process, config)
        finally:
            process.kill()
            process.communicate()
    # All of the step is to be done again, and nothing of what was before it.
    report = await migrate_up(config)
    assert [each.version for each in report.applied] == list(range(version, LAST + 1))
    assert kept is None or kept == await _kept(config, again=True)
    fresh = make()
    await migrate_up(fresh)
    assert databases.dump(config) == databases.dump(fresh)


async def _kept(config: Config, *, again: bool = False) -> tuple[object, ...]:
    """Return what a migration has to keep, after putting it there the first time."""
    if not again:
        await seen(config, seconds_ago=100)
    return (
        await execute(config, "SELECT id FROM evstore.log"),
        await execute(config, "SELECT id FROM evstore.instances"),
    )


async def test_a_migrator_that_waits_goes_on_when_the_one_before_it_is_killed(
    release: Release, first: Callable[[Config, int], Any]
) -> None:
    config, step = release.config, migrations.available()[-1]
    await first(config, NEEDED)
    applied: list[int] = []

    async def migrate() -> None:
        report = await migrate_up(config)
        applied.extend(each.version for each in report.applied)

    async with (
        anyio.create_task_group() as tasks,
        holding(config, obstacle(step, "end")),
    ):
        process = release.start("migrate", "up")
        try:
            await blocked(config)
            tasks.start_soon(migrate)
            await blocked(config, count=2)
        finally:
            process.kill()
            process.communicate()
        assert applied == []
    assert applied == [LAST]
