"""A rolling upgrade: two releases on one database, before, during and after a migration.

The oldest one has the migrations that there are, and is this process as well: an instance
that was started before and goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
import msgspec
import pytest

import evstore
from fault.history import checked_history
from migration.databases import NEEDED
from migration.releases import Release

if TYPE_CHECKING:
    from pathlib import Path

    from command import Done
    from evstore import Config

# One that a program before it can live with, and one that it cannot.
EXPAND: Final = f"""\
-- evstore: readable_from {NEEDED}, writable_from {NEEDED}
ALTER TABLE evstore.instances ADD COLUMN zone text;
CREATE TABLE evstore.more (id integer PRIMARY KEY);
"""
CONTRACT: Final = f"""\
-- evstore: readable_from {NEEDED + 1}, writable_from {NEEDED + 2}
ALTER TABLE evstore.instances ALTER COLUMN zone SET DEFAULT '';
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def releases(postgres_config: Config, tmp_path: Path) -> list[Release]:
    """Return three releases, each with one migration more than the one before."""
    steps = (EXPAND, CONTRACT)
    folders = [tmp_path / str(number) for number in range(len(steps) + 1)]
    for folder in folders:
        folder.mkdir()
    return [
        Release(postgres_config, folder, steps[:number])
        for number, folder in enumerate(folders)
    ]


async def migrated(release: Release) -> None:
    done = await release.run("migrate", "up")
    assert done == (0, f"migrated to version {release.version}\n", "")


def refused(done: Done, *versions: int) -> None:
    assert (done.code, done.out) == (1, "")
    for version in versions:
        assert f"version {version}" in done.err


async def test_old_and_new_work_side_by_side_where_a_migration_allows_it(
    postgres_config: Config, releases: list[Release]
) -> None:
    old, new, _ = releases
    async with evstore.open(postgres_config) as running:
        await running.create("Mesh", "a", spec={})
        # Before: the new release says what to do, and changes nothing.
        refused(await new.apply("early"), old.version, new.version)
        # Meanwhile: an instance that runs goes on, whatever moment it is.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(migrated, new)
            for number in range(20):
                await running.create("Mesh", f"b-{number:02}", spec={})
        # After: each sees and changes what the other has made.
        assert (await new.apply("c")).code == 0
        await running.create("Mesh", "d", spec={})
        mesh = await running.get("Mesh", "c", consistent=True)
        await running.update(mesh, labels={"seen-by": "old"})
        # The old release starts again, as in a rolling restart or a rollback.
        assert (await old.apply("e")).code == 0
        refused(await old.apply("f", tolerant=False), old.version, new.version)
        refused(await old.run("migrate", "up"), old.version, new.version)
        expected = ["a", *(f"b-{number:02}" for number in range(20)), "c", "d", "e"]
        assert await old.names() == await new.names() == expected
        page = await running.list("Mesh", consistent=True)
        assert [each.name for each in page.items] == expected
    for release in (old, new):
        assert (await release.run("verify")).code == 0
    tolerant = msgspec.structs.replace(
        postgres_config.postgres, tolerate_newer_db_versions=True
    )
    config = msgspec.structs.replace(postgres_config, postgres=tolerant)
    assert len(await checked_history(config)) == 25


async def test_a_migration_that_the_old_release_cannot_live_with_keeps_it_out(
    releases: list[Release],
) -> None:
    oldest, old, new = releases
    await migrated(old)
    assert (await oldest.apply("a")).code == 0
    assert (await old.apply("b")).code == 0
    await migrated(new)
    assert (await new.apply("c")).code == 0
    # It may be read by the one before, and written by none but the newest.
    for release in (oldest, old):
        refused(await release.apply("d"), release.version, new.version)
        doctor = await release.run("doctor", "-o", "json")
        (found,) = [e for e in doctor.documents if e["check"] == "migrations"]
        assert (doctor.code, found["status"]) == (1, "fail")
    assert await new.names() == ["a", "b", "c"]


async def test_two_steps_at_once_are_as_one_after_the_other(
    releases: list[Release],
) -> None:
    *_, new = releases
    await migrated(new)
    assert (await new.apply("a")).code == 0
    assert (await new.run("migrate", "status", "--check")).code == 0
