"""`evstore snapshot`: what is stored is listed, made, dropped and verified."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import anyio
import pytest

from command import Command
from doctoring import as_user, role_of
from evstore import ConfigError, InvalidError
from evstore.config import SnapshotsConfig
from evstore.log.postgres import PostgresLog
from evstore.maintenance import (
    Belonging,
    Verdict,
    create_snapshots,
    drop_snapshots,
    grant,
    list_snapshots,
    verify_snapshots,
)
from fault.history import adjusted, superuser
from fault.test_predecessor import lose_tail
from planes import Plane, fill

if TYPE_CHECKING:
    from collections.abc import AsyncIterable
    from pathlib import Path

    from evstore import Config
    from evstore.log import Snapshot, Stamp

EVENTS: Final = 30


@pytest.fixture
def config(postgres_config: Config) -> Config:
    """Return settings by which instances take no snapshots of their own."""
    return adjusted(postgres_config, snapshots=SnapshotsConfig(every_events=0))


@pytest.fixture
def command(config: Config, tmp_path: Path) -> Command:
    return Command(config, tmp_path)


async def change(config: Config, statement: str) -> None:
    """Change what is stored, past the store."""
    async with superuser(config) as admin:
        await admin.execute(statement.encode())


async def prepared(config: Config, plane: Plane) -> None:
    await fill(config, EVENTS)
    await create_snapshots(config, app=plane.load())


def belongings(command: Command, *words: str) -> dict[str, str]:
    found = command("snapshot", "list", "-o", "json", *words).documents
    return {each["projection"]: each["belongs"] for each in found}


def test_what_is_made_is_listed(
    config: Config, command: Command, tmp_path: Path
) -> None:
    assert command("snapshot", "list").out == "no snapshots\n"
    assert command("snapshot", "verify").out == "no snapshots\n"
    anyio.run(fill, config, EVENTS)
    plane = Plane(tmp_path, version=7)
    done = command("snapshot", "create", "--app", plane.app)
    assert (done.code, done.err) == (0, "")
    first, second = done.out.splitlines()
    assert first.startswith("stored resources, version 1, at position 30: ")
    assert second.startswith("stored counted, version 7, at position 30: ")
    titles, *rows = command("snapshot", "list", "--app", plane.app).out.splitlines()
    assert titles.split() == [
        *("ID", "PROJECTION", "VERSION", "POSITION", "TAKEN", "AT", "SIZE", "EVSTORE"),
        "BELONGS",
    ]
    assert sorted(row.split()[1:4] for row in rows) == [
        ["counted", "7", "30"],
        ["resources", "1", "30"],
    ]
    found = command("snapshot", "list", "-o", "json", "--app", plane.app).documents
    assert {each["position"] for each in found} == {EVENTS}
    assert all(each["size"] > 0 and each["taken_at"].endswith("Z") for each in found)
    assert "projection: counted" in command("snapshot", "list", "-o", "yaml").out


async def test_a_start_begins_from_what_was_made(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = Plane(tmp_path)
    await prepared(config, plane)
    after: list[int] = []
    replay = PostgresLog.replay

    def spied(log: PostgresLog, *, after_: list[int] = after, **range_: int) -> Any:
        after_.append(range_["after"])
        return replay(log, **range_)

    monkeypatch.setattr(PostgresLog, "replay", spied)
    async with plane.open(config) as store:
        assert len(store.view(plane.counted)) == EVENTS
    assert set(after) <= {EVENTS}, "nothing that was folded is read again"


def test_whose_each_is_is_said(
    config: Config, command: Command, tmp_path: Path
) -> None:
    old, new = Plane(tmp_path), Plane(tmp_path, upcasts=True)
    anyio.run(prepared, config, old)
    assert belongings(command, "--app", old.app) == {
        "resources": "own",
        "counted": "own",
    }
    assert belongings(command) == {"resources": "own", "counted": "other code"}
    assert belongings(command, "--app", new.app) == {
        "resources": "other code",
        "counted": "other code",
    }
    anyio.run(lambda: lose_tail(config, after=EVENTS - 1))
    assert set(belongings(command).values()) == {"lost end"}
    anyio.run(change, config, "UPDATE evstore.snapshots SET log = gen_random_uuid()")
    assert set(belongings(command).values()) == {"other log"}


async def test_all_that_are_right_are_found_to_be_right(
    config: Config, tmp_path: Path
) -> None:
    plane = Plane(tmp_path, upcasts=True)
    for _ in range(2):
        await prepared(config, plane)
    told: list[tuple[int, int]] = []
    found = await verify_snapshots(
        config, app=plane.load(), advance=lambda *each: told.append(each)
    )
    assert [each.verdict for each in found] == [Verdict.RIGHT] * 4
    positions = [each.snapshot.stamp.head.position for each in found]
    assert positions == [EVENTS, EVENTS, 2 * EVENTS, 2 * EVENTS]
    assert (told[0], told[-1]) == ((0, 2 * EVENTS), (2 * EVENTS, 2 * EVENTS))


CHUNKS: Final = (
    "UPDATE evstore.snapshot_chunks SET data = set_bit(data, 9, 1 - get_bit(data, 9))"
)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (CHUNKS, "is wrong"),
        ("DELETE FROM evstore.snapshot_chunks", "are not those that were stored"),
        ("UPDATE evstore.snapshots SET digest = sha256(digest)", "has another digest"),
        ("UPDATE evstore.snapshots SET hash = sha256(hash)", "no event with its hash"),
    ],
)
def test_what_is_damaged_is_wrong_and_stays(
    config: Config, command: Command, tmp_path: Path, damage: str, reason: str
) -> None:
    plane = Plane(tmp_path)
    anyio.run(prepared, config, plane)
    anyio.run(change, config, damage)
    done = command("snapshot", "verify", "--app", plane.app)
    assert done.code == 1
    assert done.out.count("  wrong") == 2
    assert done.err.count("is wrong") == done.err.count(reason) == 2
    assert len(belongings(command)) == 2, "nothing was dropped"


class Falsified:
    """Has a fold make something else than the log says, and stores what it has made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, old: bytes, new: bytes) -> None:
        assert len(old) == len(new)
        save = PostgresLog.save_snapshot

        async def saved(
            log: PostgresLog, stamp: Stamp, chunks: Any, *, code_version: str
        ) -> Snapshot | None:
            return await save(log, stamp, changed(chunks), code_version=code_version)

        async def changed(chunks: AsyncIterable[bytes]) -> Any:
            async for chunk in chunks:
                yield chunk.replace(old, new)

        monkeypatch.setattr(PostgresLog, "save_snapshot", saved)


def test_the_first_resource_that_differs_is_named(
    config: Config,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The digest is of stored bodies: what an upcaster made of them it cannot tell.
    plane = Plane(tmp_path, upcasts=True)
    with monkeypatch.context() as patched:
        Falsified(patched, b'"n":17,"shape":2', b'"n":17,"shape":3')
        anyio.run(prepared, config, plane)
    done = command("snapshot", "verify", "--app", plane.app)
    assert done.code == 1
    assert done.err == (
        "error: the snapshot of resources at position 30 is wrong: a replay of the log"
        " comes to another state; the first that differs is Zone//z-17\n"
    )
    found = command("snapshot", "verify", "-o", "json", "--app", plane.app).documents
    assert {each["projection"]: each["verdict"] for each in found} == {
        "resources": "wrong",
        "counted": "right",
    }


def test_the_first_member_of_a_state_that_differs_is_named(
    config: Config, command: Command, tmp_path: Path
) -> None:
    # A fold that was changed, and its version was not.
    was, now = Plane(tmp_path), Plane(tmp_path)
    source = tmp_path / f"{now.app.partition(':')[0]}.py"
    text = source.read_text().replace("+ 1", "+ (2 if event.name == 'z-4' else 1)")
    source.write_text(text)
    anyio.run(prepared, config, was)
    found = command("snapshot", "verify", "-o", "json", "--app", now.app).documents
    assert [
        (each["what"], each["reason"]) for each in found if each["verdict"] == "wrong"
    ] == [("/z-4", "a replay of the log comes to another state")]


def test_what_only_its_own_program_can_judge_is_said(
    config: Config, command: Command, tmp_path: Path
) -> None:
    anyio.run(prepared, config, Plane(tmp_path, upcasts=True))
    done = command("snapshot", "verify")
    assert (done.code, done.err) == (0, "")
    assert done.out.count("unknown  only the program that took it") == 2
    anyio.run(change, config, CHUNKS)
    done = command("snapshot", "verify")
    assert (done.code, done.err.count("is wrong")) == (1, 2)
    anyio.run(change, config, CHUNKS)
    anyio.run(change, config, "UPDATE evstore.snapshots SET log = gen_random_uuid()")
    done = command("snapshot", "verify", "-o", "json")
    assert done.code == 0
    assert {each["verdict"] for each in done.documents} == {"unknown"}
    assert all("it is of the log" in each["reason"] for each in done.documents)


async def test_one_that_was_pruned_meanwhile_is_not_wrong(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prepared(config, Plane(tmp_path))
    load = PostgresLog.load_snapshot

    async def late(log: PostgresLog, snapshot: Snapshot) -> Any:
        await log.drop_snapshots()
        async for chunk in load(log, snapshot):
            yield chunk

    monkeypatch.setattr(PostgresLog, "load_snapshot", late)
    found = await verify_snapshots(config)
    assert [each.verdict for each in found] == [Verdict.GONE, Verdict.GONE]


def test_one_that_stops_is_told_and_the_others_are_made(
    config: Config, command: Command, tmp_path: Path
) -> None:
    anyio.run(fill, config, EVENTS)
    plane = Plane(tmp_path)
    done = command.process("snapshot", "create", "--app", plane.app, STOP_AT="11")
    assert done.code == 1
    assert done.out.startswith("stored resources, version 1, at position 30")
    assert (
        done.err == "error: counted stopped at position 11: ValueError: not this one\n"
    )
    assert list(belongings(command)) == ["resources"]


def test_what_another_instance_is_saving_is_not_waited_for(
    config: Config, command: Command
) -> None:
    anyio.run(fill, config, EVENTS)

    async def meanwhile() -> Any:
        async with superuser(config) as other, other.transaction():
            await other.execute(b"SELECT pg_advisory_xact_lock(1702261620, 4)")
            return await anyio.to_thread.run_sync(lambda: command("snapshot", "create"))

    done = anyio.run(meanwhile)
    assert (done.code, done.out) == (1, "")
    assert "an instance is storing a snapshot in this moment" in done.err
    assert belongings(command) == {}


async def test_those_that_are_named_are_dropped_or_none(
    config: Config, tmp_path: Path
) -> None:
    plane = Plane(tmp_path)
    for _ in range(2):
        await prepared(config, plane)
    first, *_ = await list_snapshots(config, app=plane.load())
    assert first.belonging is Belonging.OWN
    with pytest.raises(InvalidError, match="nothing was dropped"):
        await drop_snapshots(config, [first.snapshot.id, uuid4()])
    assert len(await list_snapshots(config)) == 4
    assert await drop_snapshots(config, [first.snapshot.id]) == 1
    assert await drop_snapshots(config, projection="counted") in {1, 2}
    assert await drop_snapshots(config, projection="counted") == 0
    left = {each.snapshot.stamp.projection for each in await list_snapshots(config)}
    assert left == {"resources"}
    assert await drop_snapshots(config) in {1, 2}
    assert await list_snapshots(config) == []


def test_the_command_drops_what_was_meant(
    config: Config, command: Command, tmp_path: Path
) -> None:
    anyio.run(prepared, config, Plane(tmp_path))
    found = command("snapshot", "list", "-o", "json").documents
    one = found[0]["id"]
    assert command("snapshot", "drop", one, "--yes").out == "dropped 1\n"
    again = command("snapshot", "drop", one, "--yes")
    assert (again.code, again.err) == (
        1,
        f"error: ids: there is no snapshot {one}; nothing was dropped\n",
    )
    left = command("snapshot", "drop", "--all", "--yes", "-o", "json")
    assert json.loads(left.out) == {"dropped": 1}


@pytest.mark.parametrize(("answer", "left"), [("no\n", 2), ("yes\n", 0)])
def test_a_person_is_asked(
    config: Config,
    command: Command,
    tmp_path: Path,
    answer: str,
    left: int,
) -> None:
    anyio.run(prepared, config, Plane(tmp_path))
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer.encode())
        done = subprocess.run(
            [sys.executable, "-m", "evstore", "snapshot", "drop", "--all"],
            stdin=theirs,
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env=command.environ(),
            timeout=50,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"Drop all snapshots? (yes or no)" in done.stderr
    assert done.returncode == (0 if answer == "yes\n" else 1)
    assert len(belongings(command)) == left


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "usage: "),
        (["drop"], "give ids, or --projection, or --all"),
        (["drop", "--all", "--projection", "x"], "give ids, or --projection, or --all"),
        (["drop", "--all"], "nobody can be asked here; give --yes"),
        (["drop", "17"], "'17' is no id"),
        (["list", "--app", "nowhere:app"], "there is no module nowhere"),
        (["verify", "--app", ":"], "it must be package.module:factory"),
        (["create", "resources"], "unexpected extra argument"),
        (["lists"], "no such command"),
    ],
)
def test_what_is_mistyped_is_wrong_use(
    command: Command, words: list[str], told: str
) -> None:
    done = command("snapshot", *words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err.lower()


async def test_a_role_without_the_rights_is_told(config: Config) -> None:
    async with role_of(config) as name:
        await grant(config, name)
        await change(config, f'REVOKE ALL ON evstore.snapshots FROM "{name}"')
        with pytest.raises(ConfigError):
            await list_snapshots(as_user(config, name))


def test_in_memory_there_are_none_and_that_is_said(tmp_path: Path) -> None:
    done = Command(None, tmp_path)("snapshot", "list")
    assert (done.code, done.out) == (0, "no snapshots\n")
    assert "store.type is memory" in done.err


def test_ctrl_c_leaves_no_half_of_one(
    config: Config, command: Command, tmp_path: Path
) -> None:
    anyio.run(fill, config, EVENTS)
    cut = {"SIGNAL": "SIGINT", "SIGNAL_AT": "11"}
    plane = Plane(tmp_path)
    done = command.process("snapshot", "create", "--app", plane.app, **cut)
    assert done.code == 130
    assert belongings(command) == {}
    assert command("snapshot", "create", "--app", plane.app).code == 0
    done = command.process("snapshot", "verify", "--app", plane.app, **cut)
    assert (done.code, done.out) == (130, "")
    assert len(belongings(command)) == 2
