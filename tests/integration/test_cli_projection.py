"""`evstore projection status`: what stands; and what any of these commands is told wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
import pytest

import evstore
from command import Command
from integration.ports_plane import NOW, app_of, fill, planned, store_snapshots

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evstore import Config


@pytest.fixture
def command(postgres_config: Config, tmp_path: Path) -> Iterator[Command]:
    with planned(postgres_config, tmp_path) as found:
        yield found


@pytest.fixture
def filled(postgres_config: Config) -> Config:
    anyio.run(fill, postgres_config)
    return postgres_config


def test_status_says_how_each_stands(command: Command, filled: Config) -> None:
    anyio.run(store_snapshots, filled, app_of(command, "now"))
    (found,) = command("projection", "status", *NOW, "-o", "json").documents
    by_name = {each["name"]: each for each in found["projections"]}
    assert found["head"] == 5
    assert list(by_name) == ["resources", "ports", "touchy"]
    for name in ("resources", "ports"):
        one = by_name[name]
        assert (one["stored"], one["behind"], one["position"]) == (5, 0, 5)
        assert len(bytes.fromhex(one["digest"])) == 32
        assert one["stopped"] is None
    touchy = by_name["touchy"]
    assert (touchy["stored"], touchy["behind"], touchy["position"]) == (5, 0, 4)
    assert touchy["digest"] is None
    assert touchy["stopped"] == {"position": 5, "cause": "ValueError: an odd one"}

    done = command("projection", "status", *NOW)
    assert done.code == 0
    assert "stopped at 5: ValueError: an odd one" in done.out
    assert "runs at 5" in done.out
    yaml = command("projection", "status", *NOW, "-o", "yaml").out
    assert "name: touchy" in yaml


@pytest.mark.usefixtures("filled")
def test_a_traceback_of_a_fold_is_for_debugging(command: Command) -> None:
    done = command.process("projection", "status", *NOW)
    assert (done.code, done.err) == (0, "")
    done = command.process("--debug", "projection", "status", *NOW)
    assert done.code == 0
    assert "Traceback" in done.err
    assert 'raise ValueError("an odd one")' in done.err


def test_status_says_which_instances_run_what(command: Command, filled: Config) -> None:
    async def work() -> None:
        app = app_of(command, "now")
        async with (
            evstore.open(filled, projections=app.projections) as old,
            evstore.open(filled) as bare,
        ):
            await old.create("Mesh", "late", spec={})
            with anyio.fail_after(10):
                for store in (old, bare):
                    await store._vitals._presence.stand(uuid4(), 60)
            (found,) = (
                await anyio.to_thread.run_sync(
                    lambda: command("projection", "status", *NOW, "-o", "json")
                )
            ).documents
            ids = {str(old._vitals._presence.id), str(bare._vitals._presence.id)}
        by_name = {each["name"]: each for each in found["projections"]}
        assert {*by_name["resources"]["instances"]} == ids
        assert by_name["ports"]["instances"] == [str(old._vitals._presence.id)]
        assert {each["id"] for each in found["instances"]} == ids

    anyio.run(work)


def test_an_empty_log_and_one_in_memory_say_so(
    command: Command, tmp_path: Path
) -> None:
    (found,) = command("projection", "status", *NOW, "-o", "json").documents
    assert found["head"] == 0
    assert all(each["stored"] is None for each in found["projections"])
    assert command("projection", "verify", *NOW).code == 0

    memory = Command(None, tmp_path)
    done = memory("projection", "status", *NOW, "-o", "json")
    assert "store.type is memory: the store begins empty" in done.err
    assert done.documents[0]["instances"] == []
    done = memory("projection", "verify", *NOW)
    assert (done.code, "none has recorded a digest" in done.out) == (0, True)
    done = memory("projection", "diff", "ports", "--app", "plane_of_cmd:new")
    assert (done.code, done.out) == (1, "")
    assert "there is no snapshot of ports to compare with" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("verify", "prots", *NOW), "there is no projection 'prots'; there are: res"),
        (("verify", "ports"), "--app names those of a control plane"),
        (
            ("verify", "--app", "plane_of_cmd:nowhere"),
            "module plane_of_cmd has no nowhere",
        ),
        (("verify", "--app", "plane_of_cmd:wrong"), "Ports is a class"),
        (("status", "--app", "plane_of_cmd:wrong"), "Ports is a class"),
        (("status", "--app", "plane_of_cmd:unchained"), "from schema version 1"),
        (("status", "--app", "plain:now"), "there is no module plain"),
        (("diff", "ports"), "name the new code: --app module:factory"),
        (("diff", "prots", *NOW), "there is no projection 'prots'"),
        (
            ("diff", "ports", *NOW, "--against", "plane_of_cmd:nowhere"),
            "--against plane_of_cmd:nowhere: module plane_of_cmd has no nowhere",
        ),
        (
            ("diff", "ports", *NOW, "--against", "plane_of_cmd:current"),
            "--against: there is no projection 'ports'",
        ),
    ],
)
def test_what_is_mistyped_is_told(
    command: Command, words: tuple[str, ...], said: str
) -> None:
    done = command("projection", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1
