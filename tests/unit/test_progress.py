"""The progress bar: what a person sees of it, and that nobody else sees anything."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr

import pytest

from evstore.cli.output.progress import progress


class Terminal(io.StringIO):
    """A terminal that keeps what was written to it."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("rich.console.monotonic", made)
    return made


def shown(terminal: Terminal) -> str:
    """Return the last line that was drawn, without colours."""
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    return text.replace("\r", "\n").strip().splitlines()[-1]


def test_a_bar_has_events_a_second_and_the_time_that_is_left(
    terminal: Terminal, clock: Clock
) -> None:
    with (
        redirect_stderr(terminal),
        progress("rebuilding", total=50_000, unit="events") as advance,
    ):
        # It goes on where somebody else has stopped: that was not done in no time.
        advance(20_000)
        clock.now += 10
        advance(40_000)
    line = shown(terminal)
    assert line.startswith("rebuilding ")
    assert "40000/50000 2,000 events/s 0:00:10 0:00:05" in line


def test_a_bar_of_bytes_has_no_events(terminal: Terminal, clock: Clock) -> None:
    with (
        redirect_stderr(terminal),
        progress("importing", total=50_000, unit="bytes") as advance,
    ):
        advance(20_000)
        clock.now += 10
        advance(40_000)
    line = shown(terminal)
    assert "40.0/50.0 kB" in line
    assert "events" not in line


def test_off_a_terminal_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("verifying", total=10, unit="events") as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")
