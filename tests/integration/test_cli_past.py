"""`evstore at`, `diff`, `blame` and `revert`."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import jsonpatch
import pytest

from command import Command

if TYPE_CHECKING:
    from evstore import Config

_SHARED: Final = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def command(postgres_config: Config, tmp_path: Path) -> Command:
    """Return the command on a log of seven events, an hour apart."""
    found = Command(postgres_config, tmp_path)
    steps = [
        ("al", "create", "Mesh", "", "default", {"a": 1}),
        ("al", "create", "Dataplane", "default", "web", {"port": 1, "tags": ["x"]}),
        ("bob", "update", "Dataplane", "default", "web", {"port": 2, "tags": ["x"]}),
        (
            "carl",
            "update",
            "Dataplane",
            "default",
            "web",
            {"port": 2, "tags": ["y", "x"]},
        ),
        ("al", "create", "Secret", "default", "key", {"data": "hunter1"}),
        ("bob", "update", "Secret", "default", "key", {"data": "hunter2"}),
        ("al", "create", "Dataplane", "other", "db", {}),
    ]
    lines = [
        json.dumps(
            {
                "time": 1_767_225_600 + number * 3_600,
                "actor": actor,
                "reason": f"step {number + 1}",
                "changes": [
                    {"op": op, "type": type_, "mesh": mesh, "name": name, "spec": spec}
                ],
            }
        )
        for number, (actor, op, type_, mesh, name, spec) in enumerate(steps)
    ]
    assert found("import", "-", stdin="\n".join(lines)).code == 0
    return found


def port(command: Command) -> int:
    found = command("get", "Dataplane", "web", "-o", "json").documents[0]["spec"][
        "port"
    ]
    assert isinstance(found, int)
    return found


def test_at_looks_at_any_moment(command: Command) -> None:
    assert command("at", "2", "get", "Dataplane", "web", "-o", "json") == command(
        "get", "Dataplane", "web", "--at", "2", "-o", "json"
    )
    listed = command("at", "2026-01-01T01:30Z", "list", "Dataplane", "-o", "json")
    assert [each["spec"]["port"] for each in listed.documents] == [1]
    labelled = command("at", "now", "list", "Dataplane", "--label", "a=b")
    assert labelled == (0, "", "there is no such Dataplane\n")
    assert len(command("at", "7", "list", "Dataplane").out.splitlines()) == 3
    assert "name     web" in command("at", "3", "get", "Dataplane", "web").out


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["at"], 2, "missing argument 'WHEN'"),
        (["at", "5"], 2, "missing command"),
        (["at", "noon", "list", "Mesh"], 2, "WHEN: 'noon' is no moment"),
        (["at", "99", "list", "Mesh"], 1, "beyond the head, which is 7"),
        (["at", "1", "get", "Dataplane", "web"], 1, "did not exist at position 1"),
        (["diff"], 2, "missing argument 'FROM'"),
        (["diff", "noon"], 2, "FROM: 'noon' is no moment"),
        (["diff", "99"], 1, "beyond the head"),
        (["blame", "Dataplane", "nobody"], 1, "never existed"),
        (["blame", "Dataplane", "web", "--at", "1"], 1, "did not exist at position 1"),
        (["revert"], 2, "give either --commit or --to"),
        (["revert", "--commit", "1", "--to", "1"], 2, "give either"),
        (["revert", "--commit", "99", "--yes"], 1, "beyond the head"),
        (["revert", "Dataplane", "wbe", "--to", "1"], 1, "never existed"),
        (["revert", "--to", "1", "--on-conflict", "maybe"], 2, "maybe"),
        (["log", "--operation", "removed"], 1, "use created, updated"),
        (["log", "--follow", "--reverse"], 2, "--follow goes without"),
    ],
)
def test_wrong_use_and_no_are_told_apart(
    command: Command, words: list[str], code: int, error: str
) -> None:
    done = command(*words)
    assert (done.code, done.out) == (code, "")
    assert error in done.err


def test_a_diff_shows_what_changed_and_how(command: Command) -> None:
    done = command("diff", "2", "4")
    assert done.code == 0
    assert done.out.splitlines() == [
        "VERSIONS  CHANGE",
        "2 -> 4    updated Dataplane web in mesh default",
        "            ~spec.port: 1 -> 2",
        '            +spec.tags[0]: "y"',
    ]
    assert command("diff", "4", "now", "--type", "Dataplane").out.splitlines() == [
        "VERSIONS  CHANGE",
        "7         created Dataplane db in mesh other",
        "            +spec: {}",
    ]
    nothing = command("diff", "now")
    assert (nothing.code, nothing.out) == (0, "")
    assert nothing.err == "nothing differs between the positions 7 and 7\n"


def test_a_diff_as_json_has_patches_that_apply(command: Command) -> None:
    (change,) = command("diff", "2", "4", "-o", "json").documents
    before, after = (
        command("at", at, "get", "Dataplane", "web", "-o", "json").documents[0]["spec"]
        for at in ("2", "4")
    )
    assert jsonpatch.apply_patch({"spec": before}, change["patch"]) == {"spec": after}
    assert change["changes"] == [
        {"path": "/spec/port", "old": 1, "new": 2},
        {"path": "/spec/tags/0", "new": "y"},
    ]
    assert (change["operation"], change["before_version"]) == ("updated", 2)


def test_blame_shows_who_changed_each_field(command: Command) -> None:
    done = command("blame", "Dataplane", "web", TZ="UTC")
    assert done.out.splitlines() == [
        "POS  TIME                 ACTOR  FIELD         VALUE  REASON",
        "3    2026-01-01 02:00:00  bob    spec.port     2      step 3",
        '4    2026-01-01 03:00:00  carl   spec.tags[0]  "y"    step 4',
        '2    2026-01-01 01:00:00  al     spec.tags[1]  "x"    step 2',
    ]
    leaf = command("blame", "Dataplane", "web", "--at", "2", "-o", "json").documents[0]
    assert leaf == {
        "path": "/spec/port",
        "value": 1,
        "position": 2,
        "recorded_at": "2026-01-01T01:00:00.000000Z",
        "actor": "al",
        "reason": "step 2",
        "or_before": False,
    }
    assert command("blame", "Dataplane", "db").code == 0  # the only mesh that has one


@pytest.mark.parametrize(
    "words",
    [
        ["diff", "4"],
        ["diff", "5"],
        ["blame", "Secret", "key"],
        ["history", "Secret", "key"],
        ["log", "--diff"],
        ["revert", "Secret", "key", "--to", "5", "--dry-run"],
        ["revert", "--commit", "5", "--dry-run"],
    ],
)
def test_secrets_are_masked_in_tables_unless_asked_for(
    command: Command, words: list[str]
) -> None:
    hidden = command(*words)
    assert "hunter" not in hidden.out
    assert "***" in hidden.out
    assert "hunter" in command(*words, "--show-secrets").out
    assert "hunter" in command(*words, "-o", "json").out


def test_the_log_shows_each_change_as_a_diff(command: Command) -> None:
    done = command("log", "--diff", "--actor", "carl", TZ="UTC")
    assert done.out.splitlines() == [
        "POS  CHANGE",
        "4    2026-01-01 03:00:00  carl updated Dataplane web in mesh default: step 4",
        '       +spec.tags[0]: "y"',
    ]
    (document,) = command("log", "--diff", "--actor", "carl", "-o", "json").documents
    assert document["changes"] == [{"path": "/spec/tags/0", "new": "y"}]
    assert document["patch"] == [{"op": "add", "path": "/spec/tags/0", "value": "y"}]
    assert (document["position"], document["created_version"]) == (4, 2)


@pytest.mark.parametrize(
    ("filters", "positions"),
    [
        (["--operation", "updated"], [3, 4, 6]),
        (["--operation", "updated", "--actor", "bob"], [3, 6]),
        (["--reason", "step 6"], [6]),
        (["--reason", "step", "--type", "Secret", "--limit", "1"], [6]),
    ],
)
def test_the_filters_of_the_log_combine(
    command: Command, filters: list[str], positions: list[int]
) -> None:
    for more in ([], ["--diff"]):
        done = command("log", "-o", "json", *filters, *more)
        assert [each["position"] for each in done.documents] == positions


def test_the_log_goes_on_with_what_happens(command: Command) -> None:
    process = command.start(
        *("log", "--follow", "--diff", "--type", "Dataplane", "--actor", "op"),
        *("--limit", "2", "-o", "json"),
    )
    try:
        assert process.stdout is not None
        manifest = "type: Dataplane\nname: web\nspec: {port: 9}\n"
        # A change of somebody else, until one can be sure that it has begun to follow.
        for reason in ("not this", "this"):
            who = "op" if reason == "this" else "al"
            done = command("apply", "-f", "-", "--actor", who, stdin=manifest)
            assert done.code == 0
            manifest = manifest.replace("9", "10")
        found = json.loads(process.stdout.readline())
        assert (found["actor"], found["changes"]) == (
            "op",
            [{"path": "/spec/port", "old": 9, "new": 10}],
        )
    finally:
        process.terminate()
        process.communicate()


def test_a_dry_run_shows_the_plan_and_changes_nothing(command: Command) -> None:
    done = command("revert", "--commit", "3", "--dry-run")
    assert done.code == 0
    assert done.out.splitlines() == [
        "VERSIONS  CHANGE",
        "4         updated Dataplane web in mesh default",
        "            ~spec.port: 2 -> 1",
    ]
    assert done.err == "dry run: nothing was reverted\n"
    assert port(command) == 2


def test_a_revert_says_what_it_did_and_why(command: Command) -> None:
    done = command("revert", "--commit", "3", "--actor", "op", "--reason", "bad port")
    assert (done.code, done.err) == (0, "reverted by the transaction at 8\n")
    assert port(command) == 1
    event = command("log", "--limit", "1", "-o", "json").documents[0]
    assert (event["actor"], event["reason"]) == ("op", "bad port")
    assert event["metadata"]["reverts"] == {"commit": 3}
    again = command("revert", "--commit", "3")
    assert (again.code, again.out, again.err) == (0, "", "nothing is left to revert\n")


def test_one_resource_goes_back_to_a_version(command: Command) -> None:
    assert command("revert", "Dataplane", "web", "--to", "2").code == 0
    found = command("get", "Dataplane", "web", "-o", "json").documents[0]["spec"]
    assert found == {"port": 1, "tags": ["x"]}
    assert command("get", "Secret", "key", "-o", "json").documents[0]["spec"] == {
        "data": "hunter2"
    }


def test_everything_of_a_type_or_a_mesh_goes_back_to_a_time(command: Command) -> None:
    words = ("revert", "Dataplane", "--to", "2026-01-01T02:30Z", "-o", "json")
    changes = command(*words).documents
    assert [(each["operation"], each["name"]) for each in changes] == [
        ("updated", "web"),
        ("deleted", "db"),
    ]
    assert command("get", "Dataplane", "db").code == 1
    assert command("revert", "--to", "6", "--mesh", "other").code == 0


def test_conflicts_are_shown_and_keep_a_revert_from_being_applied(
    command: Command,
) -> None:
    manifest = "type: Dataplane\nname: web\nspec: {port: 3, tags: [y, x]}\n"
    assert command("apply", "-f", "-", stdin=manifest).code == 0
    done = command("revert", "--commit", "3")
    assert done.code == 1
    assert done.out.splitlines() == [
        "CONFLICT                                              FIELD      NOW  BEFORE",
        "Dataplane web in mesh default has been changed since  spec.port  3    1",
    ]
    assert done.err == "error: nothing was reverted; conflicts: 1\n"
    (conflict,) = command("revert", "--commit", "3", "-o", "json").documents
    assert (conflict["conflict"], conflict["path"]) == (
        "has been changed since",
        "/spec/port",
    )
    assert (conflict["base"], conflict["ours"], conflict["theirs"]) == (2, 1, 3)
    skipped = command("revert", "--commit", "3", "--on-conflict", "skip")
    assert (skipped.code, port(command)) == (0, 3)
    forced = command("revert", "--commit", "3", "--on-conflict", "force", "--yes")
    assert forced.err.endswith("; conflicts overruled: 1\n")
    assert (forced.code, port(command)) == (0, 1)


def test_tables_fit_a_narrow_terminal_and_use_a_wide_one(command: Command) -> None:
    for words in (
        ["diff", "0"],
        ["blame", "Dataplane", "web"],
        ["log", "--diff"],
        ["history", "Dataplane", "web"],
        ["revert", "--to", "1", "--dry-run"],
    ):
        narrow = command(*words, COLUMNS="60").out.splitlines()
        assert max(map(len, narrow)) <= 60, words
        assert "\x1b" not in "".join(narrow)
        wide = command(*words, COLUMNS="200").out.splitlines()
        assert len(wide) <= len(narrow)


@pytest.fixture
def kuma(postgres_config: Config, tmp_path: Path) -> Command:
    """Return the command on six years of Kuma's own resources."""
    path = _SHARED / "kuma-history.jsonl.gz"
    if not path.exists():
        pytest.skip("the history of Kuma's resources is not on this machine")
    found = Command(postgres_config, tmp_path)
    assert found("import", str(path)).code == 0
    return found


@pytest.mark.slow
def test_a_real_history_can_be_asked_and_taken_back(kuma: Command) -> None:
    final = gzip.decompress((_SHARED / "kuma-history.final.jsonl.gz").read_bytes())
    assert kuma("replay", "--output", "before").code == 0
    assert (kuma.folder / "before").read_bytes() == final
    # All that ever happened, as one diff; each patch makes its resource of nothing.
    changes = kuma("diff", "0", "-o", "json").documents
    assert len(changes) == len(final.splitlines())
    for each in changes:
        made = jsonpatch.apply_patch(None, each["patch"])
        assert made["spec"] is not None
    head = kuma("log", "--limit", "1", "-o", "json").documents[0]
    # The ten newest transactions, one by one, newest first; then back again at once.
    position = head["commit"]
    for _ in range(10):
        done = kuma("revert", "--commit", str(position), "--yes", "-o", "json")
        assert done.code == 0, done.err
        first = kuma("log", "--until", str(position), "--limit", "400", "-o", "json")
        own = [each for each in first.documents if each["commit"] == position]
        position = own[0]["position"] - 1
    assert kuma("diff", str(position), "now", "-o", "json").documents == []
    assert kuma("revert", "--to", str(head["commit"]), "--yes").code == 0
    assert kuma("replay", "--output", "after").code == 0
    assert (kuma.folder / "after").read_bytes() == final
    name = changes[0]
    blamed = kuma(
        *("blame", name["type"], name["name"], "--mesh", name["mesh"], "-o", "json")
    )
    assert blamed.code == 0
    assert all(each["reason"] for each in blamed.documents)


def on_a_terminal(command: Command, *words: str, answer: str) -> tuple[int, str]:
    """Run the command with a terminal; return its exit code, and what it showed."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "evstore", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=command.folder,
        env=command.environ(TERM="xterm-256color", COLUMNS="100"),
    ) as process:
        os.close(theirs)
        os.write(ours, answer.encode())
        shown = b""
        # Linux reports an error where the other end of a terminal is closed.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 4096):
                shown += piece
    os.close(ours)
    return process.returncode, shown.decode()


@pytest.mark.slow
def test_on_a_terminal_it_asks_and_shows_colours(command: Command) -> None:
    words = ("revert", "--commit", "3")
    code, shown = on_a_terminal(command, *words, answer="no\n")
    assert "\x1b[33m~spec.port: 2 -> 1" in shown
    assert "Make these changes? Resources: 1" in shown
    assert (code, port(command)) == (1, 2)
    code, shown = on_a_terminal(command, *words, answer="yes\n")
    assert "reverted by the transaction at 8" in shown
    assert (code, port(command)) == (0, 1)
    code, shown = on_a_terminal(command, "revert", "--commit", "8", "--yes", answer="")
    assert "Make these changes?" not in shown
    assert (code, port(command)) == (0, 2)


@pytest.mark.slow
def test_ctrl_c_ends_the_question(command: Command) -> None:
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "evstore", "revert", "--commit", "3"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=command.folder,
        env=command.environ(TERM="xterm-256color", COLUMNS="100"),
    ) as process:
        os.close(theirs)
        shown, asked = b"", False
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 4096):
                shown += piece
                if not asked and b"(yes or no)" in shown:
                    asked = True
                    process.send_signal(signal.SIGINT)
    os.close(ours)
    assert process.returncode == 130
    assert b"Traceback" not in shown
    assert port(command) == 2
