"""`migrate up` folds again what other code has folded, and outlasts each end."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from command import Command
from evstore.config import SnapshotsConfig
from evstore.log import open_log
from evstore.maintenance import (
    create_snapshots,
    migrate_up,
    migration_plan,
    migration_status,
)
from fault.history import adjusted
from migration.databases import NEEDED, blocked, holding
from planes import Plane, fill

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from evstore import Config, Store
    from migration.databases import Files

EVENTS: Final = 20_000
BATCH: Final = 500


@pytest.fixture
def config(postgres_config: Config) -> Config:
    """Return settings by which instances take no snapshots of their own."""
    return adjusted(postgres_config, snapshots=SnapshotsConfig(every_events=0))


@pytest.fixture
def command(config: Config, tmp_path: Path) -> Command:
    return Command(config, tmp_path)


async def stored(config: Config) -> dict[str, list[int]]:
    """Return the positions of snapshots by their label."""
    async with open_log(config) as log:
        found: dict[str, list[int]] = {}
        for each in await log.snapshots():
            found.setdefault(each.stamp.label, []).append(each.stamp.head.position)
        return found


async def assert_right(config: Config, plane: Plane, *, version: int) -> None:
    """Assert that a start comes to what the log has, and begins from a snapshot."""
    async with plane.open(config) as store:
        assert store.position == EVENTS
        zones = {f"z-{number}": version for number in range(EVENTS)}
        assert await viewed(store, plane) == zones
        digest = store.digest()
    async with open_log(config) as log:
        assert {each.stamp.digest for each in await log.snapshots()} >= {digest}


async def viewed(store: Store, plane: Plane) -> Any:
    return store.view(plane.counted)


async def test_what_other_code_has_folded_is_rebuilt_and_the_old_stays(
    config: Config, tmp_path: Path
) -> None:
    old, new = Plane(tmp_path, version=1), Plane(tmp_path, version=2)
    await fill(config, 300)
    await create_snapshots(config, app=old.load())
    async with old.open(config) as running:
        plan = await migration_plan(config, app=new.load())
        (planned,) = plan.rebuilds
        assert (planned.due.label, planned.due.stored) == ("counted:2:", None)
        assert (planned.due.others, planned.due.events) == (("counted:1:",), 300)
        (instance,) = plan.instances
        assert planned.elsewhere == (instance.id,)
        report = await migrate_up(config, app=new.load())
        assert [each.label for each in report.rebuilt] == ["counted:2:"]
        assert report.complete
        assert await stored(config) == {
            "resources:1:": [300],
            "counted:1:": [300],
            "counted:2:": [300],
        }
        # Who runs the old code goes on, and another one starts from its snapshots.
        await running.create("Zone", "another", spec={})
        async with old.open(config) as again, new.open(config) as blue:
            assert await viewed(again, old) == await viewed(running, old)
            assert (await viewed(again, old))["another"] == 1
            assert (await viewed(blue, new))["another"] == 2
    assert (await migration_plan(config, app=new.load())).rebuilds == []
    assert (await migrate_up(config, app=new.load())).rebuilt == []


async def test_what_is_pending_does_not_hide_what_is_to_be_rebuilt(
    config: Config, files: Files, tmp_path: Path
) -> None:
    old, new = Plane(tmp_path, version=1), Plane(tmp_path, version=2)
    await fill(config, 10)
    await create_snapshots(config, app=old.load())
    files.add("SELECT 1;")
    plan = await migration_plan(config, app=new.load())
    assert len(plan.steps) == 1
    assert [each.due.label for each in plan.rebuilds] == ["counted:2:"]
    report = await migrate_up(config, app=new.load())
    assert (report.version, len(report.rebuilt)) == (NEEDED + 1, 1)


async def test_other_upcasters_make_everything_due(
    config: Config, tmp_path: Path
) -> None:
    old, new = Plane(tmp_path), Plane(tmp_path, upcasts=True)
    await fill(config, 10)
    await create_snapshots(config, app=old.load())
    report = await migrate_up(config, app=new.load())
    ab = new.fingerprint
    labels = [each.label for each in report.rebuilt]
    assert labels == [f"resources:1:{ab}", f"counted:1:{ab}"]
    async with new.open(config) as store:
        assert (await store.get("Zone", "z-1")).spec == {"n": 1, "shape": 2}


async def test_what_is_far_behind_is_rebuilt(config: Config) -> None:
    often = adjusted(config, snapshots=SnapshotsConfig(every_events=20))
    await fill(config, 20)
    assert (await migrate_up(often)).rebuilt == []
    await fill(config, 21)
    status = await migration_status(often)
    assert [each.events for each in status.due] == [41]
    (rebuilt,) = (await migrate_up(often)).rebuilt
    assert (rebuilt.label, rebuilt.position) == ("resources:1:", 41)
    assert (await migration_status(often)).due == []
    await fill(config, 21)
    assert (await migrate_up(config)).rebuilt == [], "far is 10,000 where none is taken"


async def test_without_an_app_what_others_fold_is_left_to_them(
    config: Config, tmp_path: Path
) -> None:
    often = adjusted(config, snapshots=SnapshotsConfig(every_events=5))
    plane = Plane(tmp_path, upcasts=True)
    await fill(config, 20)
    await create_snapshots(config, app=plane.load())
    labels = tuple(sorted(f"{name}:1:{plane.fingerprint}" for name in NAMES))
    report = await migrate_up(often)
    assert (report.rebuilt, report.left_out) == ([], labels)
    plan = await migration_plan(often)
    assert (plan.rebuilds, plan.left_out) == ([], labels)
    # Where its upcasters are all that is known of it, as well.
    async with open_log(config) as log:
        await log.drop_snapshots()
    async with plane.open(config):
        assert (await migration_plan(often)).left_out == labels
    # And where nothing is, the state as it is stored is better than none.
    assert [each.label for each in (await migrate_up(often)).rebuilt] == [
        "resources:1:"
    ]


NAMES: Final = ("counted", "resources")


async def test_without_an_app_a_program_without_upcasters_gets_its_resources(
    config: Config, tmp_path: Path
) -> None:
    often = adjusted(config, snapshots=SnapshotsConfig(every_events=5))
    plane = Plane(tmp_path)
    await fill(config, 20)
    async with plane.open(config):
        report = await migrate_up(often)
    assert [each.label for each in report.rebuilt] == ["resources:1:"]
    assert report.left_out == ("counted:1:",)


def test_the_command_tells_what_is_to_be_done_and_what_was(
    config: Config, command: Command, tmp_path: Path
) -> None:
    old, new = Plane(tmp_path, version=1), Plane(tmp_path, version=2)
    anyio.run(fill, config, 40)
    anyio.run(lambda: create_snapshots(config, app=old.load()))
    plan = command("migrate", "plan", "--app", new.app)
    assert plan.out.splitlines()[0] == f"the database is at version {NEEDED}"
    assert plan.out.splitlines()[2].split() == [
        *("REBUILD", "STORED", "EVENTS", "OTHER", "CODE")
    ]
    assert plan.out.splitlines()[3].split() == ["counted:2", "none", "40", "counted:1"]
    (document,) = command("migrate", "plan", "-o", "json", "--app", new.app).documents
    assert document["rebuilds"] == [
        {
            "name": "counted",
            "version": 2,
            "label": "counted:2:",
            "stored": None,
            "others": ["counted:1:"],
            "events": 40,
            "elsewhere": [],
        }
    ]
    assert command("migrate", "status", "--check", "--app", new.app).code == 1
    assert command("migrate", "status", "--check", "--app", old.app).code == 0
    done = command("migrate", "up", "--app", new.app)
    assert done == (
        0,
        f"already at version {NEEDED}\nrebuilt counted, version 2, up to position 40\n",
        "",
    )
    (again,) = command("migrate", "up", "-o", "json", EVSTORE_APP=new.app).documents
    assert (again["rebuilt"], again["left_out"]) == ([], [])
    assert again["complete"]
    status = command("migrate", "status", "--app", new.app)
    assert [
        line.split()[:2] for line in status.out.splitlines() if "counted" in line
    ] == [["counted:2", "1"], ["counted:1", "1"]]
    without = command("migrate", "up")
    assert (without.code, without.err) == (
        0,
        "note: left to the program that folds it, give its --app: counted:1, counted:2\n",
    )
    (found,) = command("migrate", "status", "-o", "json").documents
    assert [(each["label"], each["own"]) for each in found["projections"]] == [
        ("resources:1:", True),
        ("counted:1:", False),
        ("counted:2:", False),
    ]
    assert {each["position"] for each in found["projections"]} == {40}
    assert "projections:" in command("migrate", "status", "-o", "yaml").out


def test_one_that_stops_is_told_and_the_others_are_rebuilt(
    config: Config, command: Command, tmp_path: Path
) -> None:
    old, new = Plane(tmp_path), Plane(tmp_path, version=2, upcasts=True)
    anyio.run(fill, config, 40)
    anyio.run(lambda: create_snapshots(config, app=old.load()))
    done = command.process("migrate", "up", "--app", new.app, STOP_AT="25")
    assert done.code == 1
    assert "rebuilt resources, version 1, up to position 40\n" in done.out
    assert done.err == (
        "error: projection counted stopped at position 25: ValueError: not this one;"
        " correct it and raise its version\n"
    )
    again = command("migrate", "up", "-o", "json", "--app", new.app, STOP_AT="25")
    (document,) = again.documents
    assert document["rebuilt"] == [], "that it has stopped is known"
    status = command("projection", "status", "-o", "json", "--app", new.app)
    (document,) = status.documents
    (counted,) = (e for e in document["projections"] if e["name"] == "counted")
    assert counted["stopped"] == {"position": 25, "cause": "ValueError: not this one"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["up", "--app", "nowhere:app"], "there is no module nowhere"),
        (["plan", "--app", "nowhere"], "it must be package.module:factory"),
        (["status", "--app", "json:loads"], "loads() failed"),
        (["up", "nonsense"], "unexpected extra argument"),
        (["status", "-o", "xml"], "invalid value"),
    ],
)
def test_what_is_mistyped_is_wrong_use(
    command: Command, words: list[str], told: str
) -> None:
    done = command("migrate", *words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err.lower()
    assert len(done.err.splitlines()) == 1


def test_ctrl_c_stores_what_is_folded_and_the_next_run_goes_on(
    config: Config, command: Command, tmp_path: Path
) -> None:
    plane = Plane(tmp_path, version=2)
    anyio.run(fill, config, EVENTS)
    cut = {"SIGNAL": "SIGINT", "SIGNAL_AT": "6200"}
    done = command.process("migrate", "up", "--app", plane.app, **cut)
    assert done.code == 130
    told = re.search(r"interrupted at position ([\d,]+) of 20,000; the next", done.err)
    assert told, done.err
    reached = int(told[1].replace(",", ""))
    assert 6_200 <= reached < EVENTS
    positions = anyio.run(stored, config)
    assert {places[0] for places in positions.values()} == {reached}
    (again,) = command.process(
        "migrate", "up", "-o", "json", "--app", plane.app, **cut
    ).documents
    assert again["complete"], "what was folded is not folded again"
    assert {each["position"] for each in again["rebuilt"]} == {EVENTS}
    anyio.run(lambda: assert_right(config, plane, version=2))


def test_ctrl_c_ends_at_once_where_nothing_is_folded_yet(
    config: Config, command: Command
) -> None:
    async def interrupted() -> subprocess.Popen[str]:
        async with holding(config, "SELECT pg_advisory_xact_lock(1702261620, 3)"):
            process = command.start("migrate", "up")
            try:
                await blocked(config)
                process.send_signal(signal.SIGINT)
                with anyio.fail_after(20):
                    await anyio.to_thread.run_sync(process.wait)
            finally:
                process.kill()
        return process

    process = anyio.run(interrupted)
    _, told = process.communicate()
    assert process.returncode == 130
    assert told == (
        "interrupted: what is done stays, and the next run goes on from there\n"
    )


def test_a_kill_in_the_middle_costs_what_was_not_stored_yet(
    config: Config, command: Command, tmp_path: Path
) -> None:
    plane = Plane(tmp_path, version=3)
    anyio.run(fill, config, EVENTS)
    for place in (5_000, 9_500):
        cut = {"SIGNAL": "SIGKILL", "SIGNAL_AT": str(place)}
        killed = command.process("migrate", "up", "--app", plane.app, **cut)
        assert killed.code == -9
        positions = anyio.run(stored, config)
        assert set(positions) == {"resources:1:", "counted:3:"}
        assert all(
            place - 4_000 - BATCH <= places[0] < place for places in positions.values()
        )
        # A start in between is right as well.
        anyio.run(lambda: assert_started(config, plane))
    done = command.process("migrate", "up", "--app", plane.app)
    assert (done.code, done.err) == (0, "")
    anyio.run(lambda: assert_right(config, plane, version=3))


async def assert_started(config: Config, plane: Plane) -> None:
    async with plane.open(config) as store:
        assert set((await viewed(store, plane)).values()) == {3}
        assert len(await viewed(store, plane)) == EVENTS
