"""Three instances that fight for keys, and everything that can go wrong meanwhile.

`make torture` runs the same for as long as one likes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fault.torture.disk import own_disk
from fault.torture.report import report
from fault.torture.run import torture

if TYPE_CHECKING:
    from pathlib import Path

    from fault.torture.run import Run

pytestmark = [pytest.mark.fault, pytest.mark.slow]


@pytest.mark.timeout(240)
async def test_a_short_torture_loses_no_write_and_no_event(
    server_folder: Path, tmp_path: Path
) -> None:
    await survive(server_folder, tmp_path, store="postgres")


@pytest.mark.timeout(480)
async def test_nor_does_one_of_a_cluster_whose_log_is_compacted_meanwhile(
    server_folder: Path, tmp_path: Path
) -> None:
    run = await survive(server_folder, tmp_path, store="kubernetes")
    assert run.floor > 0, report(run)


async def survive(server_folder: Path, tmp_path: Path, *, store: str) -> Run:
    # Always the same, so that a run can be repeated; `make torture` takes others.
    seed = int(os.environ.get("EVSTORE_TORTURE_SEED", "1"))
    run = await torture(server_folder, tmp_path, seconds=6, seed=seed, store=store)
    told = report(run)
    print(told)  # noqa: T201 - shown where the test fails
    assert not run.violations, f"{told}\nthe histories are in {tmp_path}"
    acknowledged = [tally.calls["acknowledged"] for tally in run.tallies]
    assert min(acknowledged) > 0, told
    assert run.watched > run.events, told
    # Else something that a fault looks for is not called so any more.
    assert run.in_vain < len(run.faults) / 3, told
    # Nothing was taken away from the log's end, and no watcher is told so.
    assert not run.broken_off["DivergedError"], told
    return run


def test_a_disk_of_ones_own_can_be_full_and_have_room_again(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with own_disk(tmp_path) as disk:
        if isinstance(disk, str):
            # The run above goes without this fault then, and says so in its report.
            pytest.skip(disk)
        file.write_bytes(b"before")
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            file.write_bytes(b"x" * 1_000_000)
        disk.clear()
        file.write_bytes(b"x" * 1_000_000)
