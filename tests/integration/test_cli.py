"""The command as a whole: wrong use, errors, exit codes, pipes, migrations, `dev`."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from command import Command

if TYPE_CHECKING:
    from pathlib import Path

    from evstore import Config


@pytest.fixture
def command(postgres_config: Config, tmp_path: Path) -> Command:
    return Command(postgres_config, tmp_path)


@pytest.fixture
def homeless(tmp_path: Path) -> Command:
    """Return the command without settings: its store is in memory."""
    return Command(None, tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gett"], "no such command 'gett'. Did you mean 'get'? (see evstore --help)"),
        (["get", "Mesh"], "missing argument 'NAME' (see evstore get --help)"),
        (["get", "Mesh", "a", "b"], "unexpected extra argument"),
        (["log", "--limit", "x"], "invalid value for '--limit'"),
        (["log", "--limit", "0"], "invalid value for '--limit'"),
        (["log", "--since", "foo"], "--since: 'foo' is no moment"),
        (["log", "--nope"], "no such option: --nope"),
        (["log", "-o", "xml"], "invalid value for '-o'"),
        (["apply"], "missing option '-f'"),
        (["migrate", "upp"], "no such command 'upp'"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    homeless: Command, words: list[str], message: str
) -> None:
    done = homeless(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["migrate"]])
def test_no_command_shows_the_help_and_is_wrong_use(
    homeless: Command, words: list[str]
) -> None:
    done = homeless(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: ")


def test_help_and_version(homeless: Command) -> None:
    assert homeless("--version") == (0, f"evstore {version('evstore')}\n", "")
    help_ = homeless.process("--help")
    assert help_.code == 0
    assert "Usage: " in help_.out
    assert homeless("get", "-h").code == 0


def test_help_loads_nothing_slow() -> None:
    script = (
        "import sys, evstore.cli\n"
        "print([name for name in ('psycopg', 'rich.console') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"KUMA_STORE_TYPE": "foo"}, "KUMA_STORE_TYPE: 'foo' is not memory, postgres"),
        ({"KUMA_STORE_TYPE": "kubernetes"}, "kubeconfig is empty, and this is no pod"),
        ({"KUMA_STORE_POSTGRES_PORT": "1"}, "cannot be used now"),
        ({"KUMA_STORE_POSTGRES_DB_NAME": "none"}, 'database "none" does not exist'),
    ],
)
def test_a_store_that_cannot_be_opened_is_one_line(
    command: Command, environ: dict[str, str], message: str
) -> None:
    done = command("log", **environ)
    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_settings_come_from_a_file(command: Command) -> None:
    command.write("cp.yaml", "store:\n  type: memory\n")
    # The environment wins; an empty variable is unset.
    done = command("--config", "cp.yaml", "log", KUMA_STORE_TYPE="")
    assert done.code == 0
    assert "store.type is memory" in done.err
    assert "memory" not in command("--config", "cp.yaml", "log").err
    assert command("--config", "none.yaml", "log").err.startswith("error: none.yaml: ")


def test_tracebacks_only_come_with_debug(command: Command) -> None:
    assert command.process("get", "Mesh", "none") == (
        1,
        "",
        "error: Mesh none not found\n",
    )
    done = command.process("--debug", "get", "Mesh", "none")
    assert "Traceback (most recent call last)" in done.err
    assert done.err.endswith("\nerror: Mesh none not found\n")


def test_a_reader_that_goes_away_is_no_error(command: Command) -> None:
    lines = "".join(
        f'{{"time":{n},"changes":[{{"op":"create","type":"Mesh","name":"m-{n}","spec":{{}}}}]}}\n'
        for n in range(2000)
    )
    assert command("import", "-", stdin=lines).code == 0
    for form in ("table", "json"):
        started = command.start("log", "-o", form)
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.readline()
        started.stdout.close()
        assert started.stderr.read() == ""
        started.stderr.close()
        assert started.wait(20) == 141


def test_a_full_disk_is_an_error(command: Command) -> None:
    assert command.process("apply", "-f", "-", stdin=b"type: Mesh\nname: m\n").code == 0
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "evstore", "log"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            cwd=command.folder,
            env=command.environ(),
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: No space left on device")


def test_migrate_says_what_it_did(unmigrated_config: Config, tmp_path: Path) -> None:
    command = Command(unmigrated_config, tmp_path)
    refused = command("log")
    assert refused.code == 1
    assert 'Run "evstore migrate up"' in refused.err
    assert command("migrate", "status", "--check").code == 1
    (found,) = command("migrate", "status", "-o", "json").documents
    latest = found["migrations"][-1]["version"]
    assert {each["state"] for each in found["migrations"]} == {"pending"}
    assert (found["version"], found["head"], found["instances"]) == (0, 0, [])
    assert command("migrate", "up") == (0, f"migrated to version {latest}\n", "")
    assert command("migrate", "up") == (0, f"already at version {latest}\n", "")
    assert command("migrate", "up", "-o", "json").documents == [
        {
            "version": latest,
            "applied": [],
            "rebuilt": [],
            "left_out": [],
            "position": 0,
            "head": 0,
            "complete": True,
        }
    ]
    assert command("migrate", "status", "--check").code == 0
    (found,) = command("migrate", "status", "-o", "json").documents
    assert {each["state"] for each in found["migrations"]} == {"applied"}
    assert found["version"] == latest
    assert "VERSION" in command("migrate", "status").out
    assert command("log").code == 0


@pytest.mark.parametrize("what", ["up", "plan", "status"])
def test_there_is_nothing_to_migrate_in_memory(homeless: Command, what: str) -> None:
    done = homeless("migrate", what)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: store.type is memory: there is nothing to migrate; set it to postgres or kubernetes\n"
    )


@pytest.mark.slow
def test_dev_runs_until_a_signal_and_keeps_what_is_there(
    server_folder: Path, tmp_path: Path
) -> None:
    command = Command(None, tmp_path)
    environ: dict[str, str] = {}
    for expected, number in [("created", signal.SIGINT), ("unchanged", signal.SIGTERM)]:
        started = command.start("dev", "--folder", str(server_folder / "dev"))
        assert started.stdout is not None
        lines = [started.stdout.readline() for _ in range(6)]
        environ = dict(
            re.fullmatch(r"export (KUMA_STORE_\w+)=(.*)\n", line).groups()  # type: ignore[union-attr]
            for line in lines
        )
        environ = {name: "".join(shlex.split(text)) for name, text in environ.items()}
        mesh = "type: Mesh\nname: default\n"
        done = command("apply", "-f", "-", stdin=mesh, **environ)
        assert (done.code, done.err) == (0, "")
        assert done.out == f"{expected:9} Mesh default\n"
        second = command.process("dev", "--folder", str(server_folder / "dev"))
        assert second.code == 1
        assert "runs in" in second.err
        started.send_signal(number)
        out, err = started.communicate(timeout=20)
        assert (started.returncode, out) == (0, "")
        assert err.endswith("stopped; the data stays\n")
    assert command("log", **environ).code == 1
