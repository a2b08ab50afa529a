"""`evstore projection diff`: what other code would make of the same history."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import anyio
import jsonpatch
import pytest

import evstore
from evstore.maintenance.programs import Program
from integration.ports_plane import NOW, app_of, fill, planned, store_snapshots, tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from command import Command
    from evstore import Config


@pytest.fixture
def command(postgres_config: Config, tmp_path: Path) -> Iterator[Command]:
    with planned(postgres_config, tmp_path) as found:
        yield found


@pytest.fixture
def filled(postgres_config: Config) -> Config:
    anyio.run(fill, postgres_config)
    return postgres_config


def test_a_new_version_is_compared_with_the_newest_snapshot_of_another(
    command: Command, filled: Config
) -> None:
    anyio.run(store_snapshots, filled, app_of(command, "now"))

    async def more() -> None:
        async with evstore.open(filled) as store:
            await store.create("Dataplane", "new", mesh="m", spec={"port": 9})

    anyio.run(more)
    before = tables(filled)
    words = ("projection", "diff", "ports", "--app", "plane_of_cmd:new")
    done = command(*words, "-o", "json")
    assert (done.code, done.err) == (0, "")
    (found,) = done.documents
    assert (found["before"], found["after"]) == ("ports:1:", "ports:2:")
    assert found["position"] == 5
    old = {"db": [2], "web": [1, 3]}
    assert jsonpatch.apply_patch(old, found["patch"]) == {"web": [1, 3]}
    assert found["changes"] == [{"path": "/db/0", "old": 2}]

    table = command(*words)
    assert table.code == 0
    assert table.out.splitlines() == ["CHANGE", "ports", "  -db[0]"]
    assert "this differs between ports:1: and ports:2: at position 5" in table.err
    assert "-db[0]: 2" not in table.out
    assert "-db[0]: 2" in command(*words, "--show-secrets").out
    assert "name: db" not in command(*words, "-o", "yaml").out
    assert tables(filled) == before


def test_code_is_compared_with_code_at_any_position(
    command: Command, filled: Config
) -> None:
    words = ("projection", "diff", "ports", "--app", "plane_of_cmd:new")
    before = tables(filled)
    done = command(*words)
    assert (done.code, done.out) == (1, "")
    assert "there is no snapshot of ports to compare with" in done.err
    against = (*words, "--against", "plane_of_cmd:now")
    (found,) = command(*against, "-o", "json").documents
    assert (found["position"], found["changes"]) == (5, [{"path": "/db/0", "old": 2}])
    done = command(*against, "--at", "1")
    assert (done.code, done.out) == (0, "")
    assert "nothing differs between ports:1: and ports:2: at position 1" in done.err
    done = command(*against, "--at", "99")
    assert (done.code, done.out) == (1, "")
    assert "beyond the head" in done.err
    assert tables(filled) == before


def test_a_position_without_a_snapshot_is_told(
    command: Command, filled: Config
) -> None:
    anyio.run(store_snapshots, filled, app_of(command, "now"))
    words = ("projection", "diff", "ports", "--app", "plane_of_cmd:new", "--at")
    assert command(*words, "5").code == 0
    done = command(*words, "3")
    assert done.code == 1
    assert "no snapshot of ports at position 3" in done.err
    assert "there are some at 5" in done.err


def test_a_forgotten_version_shows_against_its_own_snapshot(
    command: Command, filled: Config
) -> None:
    anyio.run(store_snapshots, filled, app_of(command, "now"))
    new: Any = sys.modules["plane_of_cmd"].__dict__["NewPorts"]
    new.version = 1
    words = ("projection", "diff", "ports", "--app", "plane_of_cmd:new", "-o", "json")
    (found,) = command(*words).documents
    assert (found["before"], found["after"]) == ("ports:1:", "ports:1:")
    assert found["changes"] == [{"path": "/db/0", "old": 2}]


def test_new_code_that_stops_is_told(command: Command, filled: Config) -> None:
    anyio.run(store_snapshots, filled, app_of(command, "now"))
    words = ("projection", "diff", "ports", "--app", "plane_of_cmd:stopping")
    done = command(*words)
    assert (done.code, done.out) == (1, "")
    assert "error: ports:3: stops at position 2: ValueError: no databases" in done.err
    (found,) = command(*words, "-o", "json").documents
    assert found["after_stopped"]["position"] == 2
    assert (found["changes"], found["patch"]) == ([], [])


def test_resources_are_compared_with_what_is_stored(
    command: Command, filled: Config
) -> None:
    words = ("projection", "diff", "resources", "--app", "plane_of_cmd:current")
    label = Program(app_of(command, "current")).codes[0].label
    before = tables(filled)
    found = {each["name"]: each for each in command(*words, "-o", "json").documents}
    assert list(found) == ["db", "web", "key"]
    web = found["web"]
    assert (web["before_version"], web["after_version"]) == (3, 3)
    content = {"spec": {"port": 3, "host": "a"}}
    assert jsonpatch.apply_patch(content, web["patch"]) == {
        "spec": {"port": 3, "address": "a"}
    }
    table = command(*words)
    assert table.code == 0
    assert table.err == (f"this differs between as stored and {label} at position 5\n")
    assert "hunter2" not in table.out
    assert "+spec.address:" in table.out
    assert "hunter2" in command(*words, "--show-secrets").out
    assert tables(filled) == before

    # What other upcasters have made is in their snapshots.
    anyio.run(store_snapshots, filled, app_of(command, "current"))
    done = command("projection", "diff", "resources", *NOW, "-o", "json")
    assert len(done.documents) == 3
    back = {each["name"]: each for each in done.documents}["web"]
    assert jsonpatch.apply_patch(
        {"spec": {"port": 3, "address": "a"}}, back["patch"]
    ) == {"spec": {"port": 3, "host": "a"}}
    done = command(*words, "--against", "plane_of_cmd:current")
    assert (done.code, done.out) == (0, "")
    assert "nothing differs" in done.err
