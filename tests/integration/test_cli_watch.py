"""`evstore watch`: events as they happen, on a terminal or in a pipe."""

from __future__ import annotations

import json
import signal
from typing import IO, TYPE_CHECKING

import pytest

from command import Command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import Popen

    from evstore import Config

ZONE = "type: Zone\nname: {name}\nlabels: {{team: {team}}}\nspec: {{}}\n"


@pytest.fixture
def command(postgres_config: Config, tmp_path: Path) -> Command:
    return Command(postgres_config, tmp_path)


@pytest.fixture
def started() -> Iterator[list[Popen[str]]]:
    """Collect what is started, and end it."""
    running: list[Popen[str]] = []
    yield running
    for each in running:
        each.kill()
        each.communicate()


def apply(command: Command, name: str, team: str = "red") -> None:
    text = ZONE.format(name=name, team=team)
    assert command("apply", "-f", "-", "--actor", "al", stdin=text).code == 0


def line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def test_events_come_as_they_happen_until_ctrl_c(
    command: Command, started: list[Popen[str]]
) -> None:
    apply(command, "west")
    watching = command.start("watch", "--after", "0", "-o", "json")
    started.append(watching)
    assert json.loads(line(watching.stdout))["name"] == "west"
    apply(command, "east")
    event = json.loads(line(watching.stdout))
    assert (event["position"], event["operation"], event["actor"]) == (
        *(2, "created"),
        "al",
    )
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=20)
    assert (watching.returncode, out, err) == (130, "", "")


def test_a_table_has_a_line_an_event_at_once(
    command: Command, started: list[Popen[str]]
) -> None:
    apply(command, "west")
    watching = command.start("watch", "--after", "0")
    started.append(watching)
    head, row = line(watching.stdout), line(watching.stdout)
    assert head.split() == ["POS", "TIME", "ACTOR", "CHANGE", "RESOURCE"]
    assert row.split()[0] == "1"
    assert row.split()[3:] == ["al", "created", "Zone", "west"]


def test_it_goes_on_from_a_bookmark_that_it_has_shown(
    command: Command, started: list[Popen[str]]
) -> None:
    apply(command, "west")
    apply(command, "north", "blue")
    first = command.start("watch", "--initial", "--label", "team=red", "-o", "json")
    started.append(first)
    assert json.loads(line(first.stdout))["name"] == "west"
    bookmark = json.loads(line(first.stdout))
    assert (bookmark.keys(), bookmark["position"]) == ({"bookmark", "position"}, 2)
    apply(command, "east")
    words = ("--after", bookmark["bookmark"], "--bookmarks", "-o", "json")
    second = command.start("watch", *words)
    started.append(second)
    assert json.loads(line(second.stdout))["name"] == "east"
    assert json.loads(line(second.stdout))["position"] == 3


def test_it_ends_when_its_reader_has_gone(
    command: Command, started: list[Popen[str]]
) -> None:
    watching = command.start("watch", "--after", "0", "-o", "json")
    started.append(watching)
    apply(command, "west")
    line(watching.stdout)
    assert watching.stdout is not None
    watching.stdout.close()
    apply(command, "east")
    assert watching.wait(20) == 141
    assert line(watching.stderr) == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--after", "soon"), "neither a position nor a bookmark"),
        (("--after", "1", "--initial"), "goes without --after"),
        (("--label", "red"), "is not KEY=VALUE"),
    ],
)
def test_wrong_use_is_told(command: Command, words: tuple[str, ...], told: str) -> None:
    done = command("watch", *words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err


def test_a_filter_that_is_refused_is_told_without_a_table(command: Command) -> None:
    done = command("watch", "--type", "zone")
    assert (done.code, done.out) == (1, "")
    assert "'zone' is not allowed" in done.err


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ("7", "up to the head"),
        (f"00000000-0000-4000-8000-000000000000:1:{'0' * 64}", "another one"),
    ],
)
def test_a_place_that_is_not_in_the_log_is_told(
    command: Command, after: str, told: str
) -> None:
    apply(command, "west")
    done = command("watch", "--after", after, "-o", "json")
    assert (done.code, done.out) == (1, "")
    assert told in done.err
