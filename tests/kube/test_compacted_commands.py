"""What is said of snapshots and projections of a log that was compacted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from evstore import maintenance
from evstore.config import SnapshotsConfig
from evstore.errors import CompactedError, UnavailableError
from evstore.log import open_log
from evstore.log.kubernetes import compaction
from evstore.maintenance import Belonging, Verdict
from evstore.maintenance.programs import Program
from evstore.snapshots.content import folds_of
from evstore.snapshots.start import Origin
from fault.history import adjusted
from planes import Plane, fill

if TYPE_CHECKING:
    from pathlib import Path

    from apiserver import ApiServer
    from evstore.config import Config

FLOOR = 20
HEAD = 40


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    return Plane(tmp_path)


@pytest.fixture
async def config(
    apiserver: ApiServer,
    kubernetes_config: Config,
    plane: Plane,
    monkeypatch: pytest.MonkeyPatch,
) -> Config:
    """Return the configuration of a log with snapshots below and above its floor."""
    monkeypatch.setattr(compaction, "YOUNG_SECONDS", -1)
    namespace = kubernetes_config.kubernetes.system_namespace
    config = adjusted(
        apiserver.config(namespace, role="admin"),
        heartbeat_interval=0,
        snapshots=SnapshotsConfig(every_events=0),
    )
    await fill(config, 10)
    await maintenance.create_snapshots(config, app=plane.load())
    for _ in range(2):
        await fill(config, 10)
    await maintenance.create_snapshots(config, app=plane.load())
    await fill(config, 10)
    done = await maintenance.compact(config, keep_events=HEAD - FLOOR, force=True)
    assert (done.floor, done.head) == (FLOOR, HEAD)
    return config


async def test_snapshots_below_the_floor_are_told_apart_and_can_be_dropped(
    config: Config, plane: Plane
) -> None:
    found = await maintenance.list_snapshots(config, app=plane.load())
    assert [(each.snapshot.stamp.head.position, each.belonging) for each in found] == [
        (30, Belonging.OWN),
        (30, Belonging.OWN),
        (10, Belonging.COMPACTED),
        (10, Belonging.COMPACTED),
    ]
    lost = [each.snapshot.id for each in found if each.belonging is not Belonging.OWN]
    assert await maintenance.drop_snapshots(config, lost) == 2
    async with plane.open(config) as store:
        assert len(store.view(plane.counted)) == HEAD


async def test_of_snapshots_those_of_resources_can_be_verified(
    config: Config, plane: Plane
) -> None:
    found = await maintenance.verify_snapshots(config, app=plane.load())
    assert {
        (each.snapshot.stamp.projection, each.snapshot.stamp.head.position): (
            each.verdict
        )
        for each in found
    } == {
        ("resources", 10): Verdict.UNKNOWN,
        ("counted", 10): Verdict.UNKNOWN,
        ("resources", 30): Verdict.RIGHT,
        ("counted", 30): Verdict.UNKNOWN,
    }
    reasons = {each.reason for each in found if each.verdict is Verdict.UNKNOWN}
    assert reasons == {
        "the log was compacted beyond it; drop it, nothing reads it",
        "the log was compacted: there is no replay to compare it with",
    }


async def test_projections_stand_where_their_snapshots_are(
    config: Config, plane: Plane
) -> None:
    found = await maintenance.projections_status(config, plane.load())
    assert [(each.name, each.stored, each.position) for each in found.projections] == [
        ("resources", 30, HEAD),
        ("counted", 30, HEAD),
    ]
    await maintenance.drop_snapshots(config, projection="resources")
    (resources,) = (await maintenance.projections_status(config)).projections
    assert (resources.stored, resources.behind) == (FLOOR, HEAD - FLOOR)
    await maintenance.drop_snapshots(config)
    with pytest.raises(CompactedError, match="counted"):
        await maintenance.projections_status(config, plane.load())


async def test_resources_are_verified_from_the_floor_on(
    config: Config, plane: Plane
) -> None:
    found = await maintenance.verify_projections(config)
    (check,) = found.projections
    assert (found.ok, check.stored, check.position) == (True, 30, HEAD)
    async with evstore.open(config) as store:
        assert check.digest == store.digest()
    await maintenance.verify_projections(config, plane.load(), names=["resources"])
    with pytest.raises(CompactedError, match="counted"):
        await maintenance.verify_projections(config, plane.load())


async def test_what_other_code_makes_is_compared_from_the_floor_on(
    config: Config, tmp_path: Path
) -> None:
    new = Plane(tmp_path, upcasts=True)
    found = await maintenance.projection_diff(config, "resources", new.load())
    assert (found.position, len(found.resources)) == (30, 30)
    with pytest.raises(CompactedError):
        await maintenance.projection_diff(config, "counted", new.load())


async def test_a_projection_that_a_redaction_taints_is_opened_anew(
    config: Config, plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    told = "cannot fold again while this store is open"
    async with plane.open(config) as store:
        assert len(store.view(plane.counted)) == HEAD
        await store.redact(
            "Zone", "z-35", version=36, fields=["/spec/n"], reason="test"
        )
        with anyio.fail_after(10):
            while told not in caplog.text:
                await anyio.lowlevel.checkpoint()
        with pytest.raises(UnavailableError):
            store.view(plane.counted)
        assert list((await store.get("Zone", "z-35")).redacted) == ["/spec/n"]
    assert caplog.text.count(told) == 1
    async with plane.open(config) as store:
        assert store.view(plane.counted)["z-35"] == 2


async def test_a_start_that_finds_the_end_lost_reads_from_the_floor(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with evstore.open(config) as store:
        digest = store.digest()

    async def lost(*_: object) -> bool:
        return False

    monkeypatch.setattr(Origin, "has", lost)
    async with evstore.open(config) as store:
        assert store.digest() == digest
    async with open_log(config) as log:
        (fold,) = folds_of(await Program(None).begins(log).beginning())
        assert fold.head == log.floor
