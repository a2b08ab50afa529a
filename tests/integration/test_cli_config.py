"""`evstore config show`: the settings in effect, their origins, and no secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from command import Command
from evstore.config.catalog import SETTINGS

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2"
FILE = (
    "store:\n  type: postgres\n  postgres:\n    host: db\n    connectionTimeout: 7s\n"
)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    command = Command(None, tmp_path)
    command.write("cp.yaml", FILE)
    return command


def shown(command: Command, **environ: str) -> dict[str, dict[str, Any]]:
    done = command("--config", "cp.yaml", "config", "show", "-o", "json", **environ)
    assert (done.code, done.err) == (0, "")
    return {each["key"]: each for each in done.documents}


def test_every_setting_is_shown_with_its_value_and_its_origin(
    command: Command,
) -> None:
    found = shown(command, KUMA_STORE_POSTGRES_HOST="other", KUMA_STORE_TYPE="")
    assert list(found) == [each.key for each in SETTINGS]
    assert found["store.postgres.host"] == {
        "key": "store.postgres.host",
        "value": "other",
        "origin": "environment KUMA_STORE_POSTGRES_HOST",
    }
    assert found["store.type"]["value"] == "postgres"
    assert found["store.type"]["origin"] == "file cp.yaml, line 2"
    assert found["store.postgres.connectionTimeout"]["value"] == "7s"
    assert found["store.postgres.port"]["origin"] == "default"


@pytest.mark.parametrize("form", ["table", "json", "yaml"])
def test_a_password_is_in_no_format(
    command: Command, tmp_path: Path, form: str
) -> None:
    (tmp_path / "secret").write_text(SECRET)
    for environ in (
        {"KUMA_STORE_POSTGRES_PASSWORD": SECRET},
        {"KUMA_STORE_POSTGRES_PASSWORD_FILE": "secret"},
    ):
        done = command("config", "show", "-o", form, **environ)
        assert done.code == 0
        assert SECRET not in done.out
        assert SECRET not in done.err
        assert "***" in done.out
        assert next(iter(environ)) in done.out
    # Not the default one either: whether it is in use is told by the origin.
    assert '"kuma"' not in json.dumps(shown(command)["store.postgres.password"])


def test_the_table_has_a_line_a_setting(command: Command) -> None:
    done = command("--config", "cp.yaml", "config", "show")
    lines = done.out.splitlines()
    assert lines[0].split() == ["SETTING", "VALUE", "ORIGIN"]
    assert len(lines) == len(SETTINGS) + 1
    (host,) = [line for line in lines if line.startswith("store.postgres.host ")]
    assert host.split(maxsplit=2)[1:] == ["db", "file cp.yaml, line 4"]


def test_mistakes_are_told_together_and_without_the_secret(command: Command) -> None:
    done = command(
        "config",
        "show",
        KUMA_STORE_POSTGRES_PORT="0",
        KUMA_STORE_TYPE="foo",
        KUMA_STORE_POSTGRES_PASSWORD=SECRET,
    )
    assert (done.code, done.out) == (1, "")
    assert [line.split(":")[1].strip() for line in done.err.splitlines()] == [
        "KUMA_STORE_TYPE",
        "KUMA_STORE_POSTGRES_PORT",
    ]
    assert SECRET not in done.err


def test_without_a_subcommand_it_is_wrong_use(command: Command) -> None:
    done = command("config")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: ")
