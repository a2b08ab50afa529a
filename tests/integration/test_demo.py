"""`make demo` shows what it promises, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"

pytestmark = pytest.mark.slow


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    """Return the running demo, as in a terminal of 80 columns without colours."""
    with subprocess.Popen(
        [sys.executable, DEMO],
        env=os.environ | {"COLUMNS": "80", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        process.kill()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Return what the demo printed, up to a line with these words."""
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if words in line:
            return printed
    pytest.fail(f"no line has {words!r} in it:\n{printed}")


def folder_in(printed: str) -> Path:
    """Return the folder of the demo's PostgreSQL."""
    found = re.search(r"PostgreSQL [\d.]+ in (\S+)", printed)
    assert found, printed
    return Path(found[1])


@pytest.mark.timeout(120)
def test_a_killed_control_plane_comes_back_with_the_state_from_before(
    demo: subprocess.Popen[str],
) -> None:
    printed, _ = demo.communicate()
    assert demo.returncode == 0, printed
    words = " ".join(printed.split())
    for promised in (
        r"migrated to version \d+",
        r"277 resources, of them 240 data planes",
        r"commands acknowledged, [\d,]+ a second",
        r"is gone\. It last told that the state at position [\d,]+ has the digest",
        r"events read and folded",
        r"all \d+ checkpoints",
        r"all [\d,]+ acknowledged commands are in the log",
        r"\$ evstore log --limit 8",
        r"INC-1207",
        r"\$ evstore get MeshTimeout checkout --mesh shop --at 277",
        r"\$ evstore history MeshTimeout checkout",
        r"\$ evstore replay",
        r"All of it held",
    ):
        assert re.search(promised, words), f"{promised} is not in:\n{printed}"
    assert max(len(line) for line in printed.splitlines()) <= 80
    assert "Traceback" not in printed
    assert not folder_in(printed).exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_demo_that_is_stopped_leaves_nothing_behind(
    demo: subprocess.Popen[str], name: str
) -> None:
    printed = read_until(demo, "A control plane opens the store")
    demo.send_signal(signal.Signals[name])
    rest, _ = demo.communicate()
    assert demo.returncode == 130, printed + rest
    assert "Traceback" not in rest
    assert not folder_in(printed).exists()
