"""`evstore migrate` with a cluster: the kinds, and the projections of its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from command import Command
from evstore.config import SnapshotsConfig
from evstore.log import open_log
from evstore.log.kubernetes import compaction
from evstore.maintenance import (
    compact,
    create_snapshots,
    migrate_up,
    migration_plan,
    migration_status,
)
from fault.history import adjusted
from planes import Plane, fill

if TYPE_CHECKING:
    from pathlib import Path

    from apiserver import ApiServer
    from evstore.config import Config
    from evstore.maintenance import MigrationPlan


@pytest.fixture
def config(apiserver: ApiServer, kubernetes_config: Config) -> Config:
    """Return settings by which instances take no snapshots of their own.

    Of an account that may compact as well.
    """
    namespace = kubernetes_config.kubernetes.system_namespace
    config = apiserver.config(namespace, role="compactor")
    return adjusted(config, snapshots=SnapshotsConfig(every_events=0))


async def seen(config: Config, plane: Plane) -> MigrationPlan:
    """Return the plan for a program as soon as an instance has told of itself."""
    with anyio.fail_after(20):
        while True:
            plan = await migration_plan(config, app=plane.load())
            if plan.instances:
                return plan


async def test_what_other_code_has_folded_is_rebuilt_and_the_old_stays(
    config: Config, tmp_path: Path
) -> None:
    old, new = Plane(tmp_path, version=1), Plane(tmp_path, version=2)
    await fill(config, 30, batch=10)
    await create_snapshots(config, app=old.load())
    async with old.open(config) as running:
        plan = await seen(config, new)
        assert (plan.version, plan.head, plan.kinds, plan.steps) == (1, 30, [], [])
        (planned,) = plan.rebuilds
        assert (planned.due.label, planned.due.stored) == ("counted:2:", None)
        assert (planned.due.others, planned.due.events) == (("counted:1:",), 30)
        (instance,) = plan.instances
        assert planned.elsewhere == (instance.id,)
        assert instance.projections == ("resources:1:", "counted:1:")
        told: list[tuple[int, int]] = []

        def advance(done: int, total: int) -> None:
            told.append((done, total))

        report = await migrate_up(config, app=new.load(), advance=advance)
        assert [each.label for each in report.rebuilt] == ["counted:2:"]
        assert (report.version, report.applied, report.complete) == (1, [], True)
        assert told[-1] == (30, 30)
        assert (await running.list("Zone")).total == 30
    status = await migration_status(config, app=new.load())
    assert status.instances == [], "the one that ended has taken back its heartbeat"
    assert {each.version for each in status.kinds} == {1}
    assert [(each.label, each.position) for each in status.projections] == [
        ("resources:1:", 30),
        ("counted:2:", 30),
        ("counted:1:", 30),
    ]
    assert status.due == []
    assert (await migrate_up(config, app=new.load())).rebuilt == []


async def test_what_lies_below_the_floor_is_no_reason_to_rebuild(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "YOUNG_SECONDS", -1)
    often = adjusted(config, snapshots=SnapshotsConfig(every_events=20))
    await fill(config, 30, batch=10)
    assert [each.events for each in (await migration_status(often)).due] == [30]
    await compact(config, keep_events=20)
    assert (await migration_status(often)).due == []
    await fill(config, 10)
    (rebuilt,) = (await migrate_up(often)).rebuilt
    assert (rebuilt.label, rebuilt.position) == ("resources:1:", 40)


async def test_looking_at_an_empty_namespace_makes_no_log(
    apiserver: ApiServer, config: Config
) -> None:
    plan = await migration_plan(config)
    assert (plan.version, plan.head, plan.rebuilds) == (1, 0, [])
    assert (await migration_status(config)).head == 0
    assert (await migrate_up(config)).applied == []
    namespace = config.kubernetes.system_namespace
    path = f"/apis/evstore.dev/v1/namespaces/{namespace}/logs"
    assert apiserver.request("GET", path)[1]["items"] == []
    async with open_log(config):
        pass
    assert len(apiserver.request("GET", path)[1]["items"]) == 1


async def test_the_command_tells_plan_work_and_status(
    config: Config, tmp_path: Path
) -> None:
    plane = Plane(tmp_path, version=2)
    await fill(config, 10)
    await create_snapshots(config, app=Plane(tmp_path, version=1).load())
    command = Command(config, tmp_path)

    def told(*words: str) -> str:
        done = command.process("migrate", *words, "--app", plane.app)
        assert done.code == 0, done.err
        return done.out

    assert told("plan").startswith("the cluster is at version 1\n")
    assert command.process("migrate", "status", "--check", "--app", plane.app).code == 1
    assert told("up") == (
        "already at version 1\nrebuilt counted, version 2, up to position 10\n"
    )
    assert told("plan").startswith("the cluster is at version 1: nothing to do\n")
    status = told("status", "--check")
    assert status.count("installed") == 6
    assert "counted:2 " in status
