"""`evstore import`: bad lines, running it again, times, Ctrl-C."""

from __future__ import annotations

import gzip
import json
import signal
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from command import Command
from fault.history import connected, value

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import Popen

    from evstore import Config


@pytest.fixture
def command(postgres_config: Config, tmp_path: Path) -> Command:
    return Command(postgres_config, tmp_path)


def line(number: int, *, op: str = "create", name: str = "", **more: Any) -> str:
    change = {"op": op, "type": "Mesh", "mesh": "", "name": name or f"mesh-{number}"}
    if op != "delete":
        change |= {"spec": {"number": number}, "labels": {}}
    content = {"time": 1_600_000_000 + number, "actor": "al", "reason": "because"}
    return json.dumps({**content, "changes": [change], **more}) + "\n"


LINES = [line(number) for number in range(1, 6)]


def names(command: Command) -> list[str]:
    return [each["name"] for each in command("list", "Mesh", "-o", "json").documents]


def test_a_file_its_compressed_form_and_standard_input(command: Command) -> None:
    command.write("a.jsonl", "".join(LINES[:2]))
    command.write("b.jsonl.gz", gzip.compress("".join(LINES[:3]).encode()))
    assert command("import", "a.jsonl").out == (
        "2 lines: 2 applied, 0 in the log already; position 2\n"
    )
    done = command("import", "b.jsonl.gz", "-o", "json")
    assert done.documents == [{"lines": 3, "applied": 1, "skipped": 2, "position": 3}]
    assert command("import", "-", stdin="".join(LINES)).code == 0
    assert names(command) == [f"mesh-{number}" for number in range(1, 6)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "not JSON"),
        ('{"time": 1, "time": 2}', "the key 'time' stands twice"),
        (b'{"time": "\xff"}', "is not UTF-8 text"),
        (line(3, name="Wrong"), "name: 'Wrong' is not allowed"),
        (line(3, name="mesh-1"), "Mesh mesh-1 already exists"),
        (line(3, op="update", name="none"), "Mesh none not found"),
        (line(3, op="delete", name="none"), "Mesh none not found"),
        (line(3, time=1), "where times never run backwards; import into an empty log"),
        (line(3, time=4_000_000_000), "lies in the future"),
        (line(3, time=None), "time: is missing; --restamp does without"),
        (line(3, changes=[]), "changes: is empty"),
        (line(3).replace("}}", '}, "x": NaN}'), "NaN is not JSON"),
        (line(3).replace('"mesh-3"', '"a\\u0000"'), "NUL"),
    ],
)
def test_a_bad_line_ends_the_import_and_is_not_applied(
    command: Command, bad: str | bytes, message: str
) -> None:
    good = json.loads(LINES[2])["changes"]
    if isinstance(bad, str) and bad.count('"op"') == 1:
        # Something good stands before what is bad in the same line.
        bad = bad.replace('"changes": [', f'"changes": [{json.dumps(good)[1:-1]}, ')
        bad = bad.replace('"name": "mesh-3"', '"name": "good"', 1)
    text = bad if isinstance(bad, bytes) else bad.encode()
    command.write("bad.jsonl", "".join(LINES[:2]).encode() + text.strip() + b"\n")
    done = command("import", "bad.jsonl")
    assert done.code == 1
    said, error = done.err.splitlines()
    assert said.startswith("applied up to line 2; importing the file again")
    assert error.startswith("error: bad.jsonl: line 3: ")
    assert message in error
    assert names(command) == ["mesh-1", "mesh-2"]


def test_the_corrected_file_goes_on_where_it_ended(command: Command) -> None:
    command.write("a.jsonl", "".join([*LINES[:2], "{\n", *LINES[3:]]))
    assert command("import", "a.jsonl").code == 1
    command.write("a.jsonl", "".join(LINES))
    assert command("import", "a.jsonl").out.startswith("5 lines: 3 applied, 2 in")


def test_a_truncated_file_is_imported_up_to_its_last_whole_line(
    command: Command,
) -> None:
    zipped = gzip.compress("".join(LINES).encode(), 0)
    command.write("a.jsonl.gz", zipped[:-100])
    done = command("import", "a.jsonl.gz")
    assert done.code == 1
    assert "cannot be read on: Compressed file ended before" in done.err
    command.write("a.jsonl", "".join(LINES)[:-100])
    assert "error: a.jsonl: line 5: not JSON" in command("import", "a.jsonl").err
    command.write("a.jsonl", "".join(LINES))
    assert command("import", "a.jsonl").code == 0
    assert len(names(command)) == 5


def test_a_log_that_is_not_fresh_takes_old_times_only_restamped(
    command: Command,
) -> None:
    command.write("mesh.yaml", "type: Mesh\nname: now\n")
    assert command("apply", "-f", "mesh.yaml").code == 0
    command.write("a.jsonl", "".join(LINES))
    refused = command("import", "a.jsonl")
    assert refused.code == 1
    assert "a.jsonl: line 1: time: 2020-09-13T12:26:41.000000Z is before" in refused.err
    assert "--restamp" in refused.err
    assert command("import", "a.jsonl", "--restamp").code == 0
    assert command("import", "a.jsonl", "--restamp").out.startswith(
        "5 lines: 0 applied"
    )
    assert command("import", "a.jsonl").out.startswith("5 lines: 0 applied")
    newest = command("log", "-o", "json", "--limit", "1").documents[0]
    assert newest["recorded_at"] > "2026"
    assert (newest["actor"], newest["reason"]) == ("al", "because")


def test_updates_without_effect_are_not_repeated(command: Command) -> None:
    # It leaves no event, and would undo line 3 if it were applied again.
    same = line(1, op="update", time=1_600_000_001)
    other = line(9, op="update", name="mesh-1")
    command.write("a.jsonl", LINES[0] + same + other)
    assert command("import", "a.jsonl").out.startswith("3 lines: 3 applied")
    assert command("import", "a.jsonl", "--restamp").out.startswith(
        "3 lines: 0 applied"
    )
    assert command("get", "Mesh", "mesh-1", "-o", "json").documents[0]["spec"] == {
        "number": 9
    }


def test_a_line_without_actor_gets_the_one_given(command: Command) -> None:
    content = json.loads(LINES[0])
    del content["actor"]
    done = command("import", "-", "--actor", "zoe", stdin=json.dumps(content))
    assert done.code == 0
    assert command("log", "-o", "json").documents[0]["actor"] == "zoe"


def test_a_file_that_is_not_there_is_wrong_use(command: Command) -> None:
    done = command("import", "none.jsonl")
    assert (done.code, done.err) == (
        2,
        "error: none.jsonl: No such file or directory\n",
    )


async def interrupted(started: Popen[str], config: Config) -> None:
    """Send Ctrl-C when something has been imported, and before all has been."""
    count = "SELECT count(*) FROM evstore.events"
    async with connected(config) as beside:
        while not await value(beside, count):  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.001)
        # Whoever holds the turn stops the import.
        async with beside.transaction():
            await beside.execute("SELECT pg_advisory_xact_lock(1702261620, 1)")
            started.send_signal(signal.SIGINT)
            await anyio.sleep(0.1)


@pytest.mark.slow
def test_ctrl_c_leaves_whole_lines_and_the_rest_can_follow(
    command: Command, postgres_config: Config
) -> None:
    count, size = 3000, 3
    text = "".join(
        json.dumps(
            {
                "time": 1_600_000_000 + number,
                "actor": "al",
                "changes": [
                    {
                        "op": "create",
                        "type": "Mesh",
                        "name": f"m-{number}-{part}",
                        "spec": {},
                    }
                    for part in range(size)
                ],
            }
        )
        + "\n"
        for number in range(1, count + 1)
    )
    command.write("a.jsonl", text)
    started = command.start("import", "a.jsonl")
    anyio.run(interrupted, started, postgres_config)
    out, err = started.communicate(timeout=20)
    assert started.returncode == 130, err
    assert out == ""
    assert err.startswith("applied up to line ")
    assert "Traceback" not in err
    position = command("replay", "-o", "json").documents[0]["events"]
    assert 0 < position < count * size
    assert position % size == 0
    done = command("import", "a.jsonl")
    assert done.out == (
        f"{count} lines: {count - position // size} applied,"
        f" {position // size} in the log already; position {count * size}\n"
    )
