"""`evstore log` and `evstore history`."""

from __future__ import annotations

import json
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

import evstore
from command import Command
from evstore.cli import events
from evstore.past.changed import Version

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from evstore import Config

DAY = 86_400
START = 1_767_225_600  # 2026-01-01T00:00:00Z


@pytest.fixture
def command(postgres_config: Config, tmp_path: Path) -> Command:
    """Return the command on a log of one event a day."""
    found = Command(postgres_config, tmp_path)
    steps = [
        ("al", "create", "Mesh", "", "default", {"a": 1}),
        ("al", "create", "Dataplane", "default", "web", {"port": 1, "tags": ["x"]}),
        ("bob", "update", "Dataplane", "default", "web", {"port": 2, "tags": ["x"]}),
        ("bob", "delete", "Dataplane", "default", "web", None),
        ("al", "create", "Dataplane", "default", "web", {"port": 3}),
        ("bob", "create", "Dataplane", "other", "web-2", {}),
    ]
    lines = [
        json.dumps(
            {
                "time": START + number * DAY,
                "actor": actor,
                "reason": f"step {number}\nand more"
                if number == 2
                else f"step {number}",
                "changes": [
                    {"op": op, "type": type_, "mesh": mesh, "name": name}
                    | ({} if spec is None else {"spec": spec})
                ],
            }
        )
        for number, (actor, op, type_, mesh, name, spec) in enumerate(steps)
    ]
    assert found("import", "-", stdin="\n".join(lines)).code == 0
    return found


def test_the_log_is_a_table_with_the_newest_last(command: Command) -> None:
    done = command("log", TZ="UTC")
    lines = done.out.splitlines()
    assert lines[0].split() == ["POS", "TIME", "ACTOR", "CHANGE", "RESOURCE", "REASON"]
    assert "Mesh default" in lines[1]
    assert "Dataplane other/web-2" in lines[-1]
    assert lines[3].endswith("step 2 ...")
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("options", "positions"),
    [
        ([], [1, 2, 3, 4, 5, 6]),
        (["--reverse"], [6, 5, 4, 3, 2, 1]),
        (["--limit", "2"], [5, 6]),
        (["--limit", "2", "--reverse"], [6, 5]),
        (["--type", "Dataplane", "--limit", "9"], [2, 3, 4, 5, 6]),
        (["--mesh", ""], [1]),
        (["--mesh", "other"], [6]),
        (["--name", "web"], [2, 3, 4, 5]),
        (["--actor", "bob"], [3, 4, 6]),
        (["--after", "4"], [5, 6]),
        (["--since", "3", "--until", "4"], [3, 4]),
        (["--since", "2026-01-03T00:00Z", "--until", "2026-01-04T00:00Z"], [3, 4]),
        (["--since", "2026-01-03T00:00:01Z", "--until", "2026-01-03T23:59Z"], []),
        (["--since", "1h"], []),
        (["--until", "now", "--limit", "1"], [6]),
        (["--actor", "al", "--type", "Dataplane"], [2, 5]),
    ],
)
def test_the_log_is_filtered(
    command: Command, options: list[str], positions: list[int]
) -> None:
    done = command("log", "-o", "json", *options)
    assert done.code == 0
    assert [each["position"] for each in done.documents] == positions


def test_json_has_whole_events(command: Command) -> None:
    event = command("log", "--limit", "1", "-o", "json").documents[0]
    assert event.keys() == {
        *("position", "commit", "recorded_at", "actor", "reason", "operation", "type"),
        *("mesh", "name", "spec", "status", "labels", "owner", "schema_version"),
        *("metadata", "hash"),
    }
    assert event["recorded_at"] == "2026-01-06T00:00:00.000000Z"
    assert (event["operation"], event["spec"], event["owner"]) == ("created", {}, None)
    assert len(event["hash"]) == 64


def test_no_events_are_said_and_no_error(command: Command) -> None:
    assert command("log", "--actor", "nobody") == (0, "", "there are no such events\n")
    assert command("log", "--actor", "nobody", "-o", "json") == (0, "", "")


def test_history_tells_what_each_version_changed(command: Command) -> None:
    done = command("history", "Dataplane", "web", "-o", "json")
    assert [
        (
            each["position"],
            each["operation"],
            each["created_version"],
            [
                (leaf["path"], leaf.get("old"), leaf.get("new"))
                for leaf in each["changes"]
            ],
        )
        for each in done.documents
    ] == [
        (2, "created", 2, [("/spec/port", None, 1), ("/spec/tags/0", None, "x")]),
        (3, "updated", 2, [("/spec/port", 1, 2)]),
        (4, "deleted", 2, [("/spec/port", 2, None), ("/spec/tags/0", "x", None)]),
        (5, "created", 5, [("/spec/port", None, 3)]),
    ]
    table = command("history", "Dataplane", "web", TZ="UTC").out.splitlines()
    assert table[0].split() == ["VERSION", "INCARNATION", "CHANGE"]
    second = "2026-01-03 00:00:00  bob updated: step 2\\nand more"
    assert f"3        2            {second}" in table
    assert "                        ~spec.port: 1 -> 2" in table
    assert "5        5            2026-01-05 00:00:00  al created: step 4" in table
    # Of one incarnation there is nothing to be told apart.
    assert "INCARNATION" not in command("history", "Dataplane", "web-2").out


def test_the_bounds_of_a_history_are_moments(command: Command) -> None:
    words = ("history", "Dataplane", "web", "-o", "json")
    done = command(*words, "--since", "2026-01-03T00:00Z", "--until", "4")
    assert [each["position"] for each in done.documents] == [3, 4]
    assert done.documents[0]["changes"] == [{"path": "/spec/port", "old": 1, "new": 2}]
    nothing = command(*words[:3], "--since", "6")
    assert (nothing.code, nothing.err) == (0, "there are no such versions\n")


def test_history_of_the_newest_versions(command: Command) -> None:
    done = command("history", "Dataplane", "web", "--limit", "1", "-o", "json")
    assert [each["position"] for each in done.documents] == [5]


def test_history_finds_the_only_mesh(command: Command) -> None:
    assert "Z" not in command("history", "Dataplane", "web-2").out
    assert command("history", "Dataplane", "web-2").code == 0
    missing = command("history", "Dataplane", "web-2", "--mesh", "default")
    assert missing.err == "error: Dataplane web-2 in mesh default never existed\n"


def test_tables_fit_a_narrow_terminal(command: Command) -> None:
    for words in (["log"], ["history", "Dataplane", "web"], ["list", "Dataplane"]):
        narrow = command(*words, COLUMNS="60").out.splitlines()
        assert max(map(len, narrow)) <= 60
        assert "\x1b" not in "".join(narrow)
    wide = command("log").out.splitlines()
    assert len(wide) == 7


def test_control_characters_do_nothing_to_a_terminal(command: Command) -> None:
    mesh = 'type: Mesh\nname: x\na: "\\e[31m"\n'
    done = command("apply", "-f", "-", "--reason", "\x1b[31m\nred", stdin=mesh)
    assert done.code == 0
    for words in (["log"], ["history", "Mesh", "x"], ["get", "Mesh", "x"]):
        assert "\x1b" not in command(*words).out


UNFILTERED = dict.fromkeys(("type", "mesh", "name", "actor", "operation", "reason"))


@pytest.mark.parametrize(
    "bounds",
    [
        {"after": 2, "since": None},
        {"after": 0, "since": 3},
        {"after": 0, "since": datetime(2026, 1, 3, tzinfo=UTC)},
    ],
)
async def test_what_is_followed_begins_where_it_was_asked_to(
    bounds: dict[str, Any],
) -> None:
    """Also where that lies behind the head as it was when following began."""
    async with evstore.open() as store:
        for day in range(1, 5):
            async with store.transaction(
                recorded_at=datetime(2026, 1, day, tzinfo=UTC)
            ) as tx:
                tx.create("Mesh", f"m-{day}", spec={})
        log = events._Log(store, UNFILTERED, diff=False)
        async with aclosing(log.following(0, bounds=bounds)) as following:
            first = await anext(following)
        assert isinstance(first, evstore.Event)
        assert first.position == 3


async def test_what_is_followed_waits_for_a_log_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with evstore.open() as store:
        await store.create("Mesh", "m", spec={"a": 1})
        real, failures = store.history, iter([True])

        async def history(**bounds: Any) -> AsyncGenerator[Version]:
            if next(failures, False):
                raise evstore.UnavailableError
            async for version in real(**bounds):
                yield version

        monkeypatch.setattr(store, "history", history)
        monkeypatch.setattr(events, "_RETRY_SECONDS", 0)
        log = events._Log(store, UNFILTERED, diff=True)
        bounds = {"after": 0, "since": None}
        async with aclosing(log.following(0, bounds=bounds)) as following:
            version = await anext(following)
        assert isinstance(version, Version)
        assert [each.path for each in version.differences] == ["/spec/a"]
        assert next(failures, None) is None
