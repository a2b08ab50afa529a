"""`evstore export` and its restore: to the byte, into any store, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec
import pytest
import zstandard

from command import Command
from contract.test_restore import FOREIGN, lived_in
from events import everything, genesis
from evstore.cli.input.files import Source
from evstore.codec import event_hash
from evstore.errors import DivergedError
from evstore.log import MemoryLog, open_log
from evstore.maintenance import migrate_up
from evstore.transfer.export import begin_export
from evstore.transfer.exported import ExportedLine, read_header
from evstore.transfer.restore import restore
from fault.history import connected

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evstore import Config
    from evstore.log import Log
    from evstore.transfer.restore import Restored

POLICIES: Final = """\
type: Mesh
name: default
labels: {"team/ü": "größe"}
---
type: MeshTimeout
mesh: default
name: all
spec: {targetRef: {kind: Mesh}, seconds: 1.0, big: 18446744073709551615}
status: {seen: true}
owner: {type: Mesh, mesh: "", name: default}
---
type: Secret
mesh: default
name: key
spec: {data: c2VjcmV0}
owner: {type: MeshTimeout, mesh: default, name: all}
"""


@pytest.fixture
def command(postgres_config: Config, tmp_path: Path) -> Command:
    return Command(postgres_config, tmp_path)


@pytest.fixture
def empty(unmigrated_config: Config, tmp_path: Path) -> Command:
    """Return the command on a second, empty log."""
    fresh = Command(unmigrated_config, tmp_path)
    assert fresh("migrate", "up").code == 0
    return fresh


@pytest.fixture
def used(command: Command) -> Command:
    """Return the command on a log with a history."""
    command.write("policies.yaml", POLICIES)
    words = ("apply", "-f", "policies.yaml", "--actor", "al", "--reason", "a\nb")
    assert command(*words).code == 0
    command.write("more.yaml", "type: Mesh\nname: default\nspec: {mtls: {}}\n")
    assert command("apply", "-f", "more.yaml").code == 0
    assert command("delete", "MeshTimeout", "all").code == 0
    assert command(*words).code == 0
    return command


async def exported(log: Log, **range_: Any) -> bytes:
    return b"".join(
        [line async for line in (await begin_export(log, **range_)).lines()]
    )


async def restored(log: Log, content: bytes) -> Restored:
    lines = Source("", io.BytesIO(content)).lines()
    header = read_header(next(lines).content)
    return await restore(log, header, lines)


async def filled() -> MemoryLog:
    """Return a log with all that an event can have, redacted ones among them."""
    log = MemoryLog()
    await log.restore(lived_in(FOREIGN), after=genesis(FOREIGN), identity=FOREIGN)
    return log


# The round trip.


async def test_a_log_is_restored_to_the_byte_into_any_store(
    postgres_config: Config, unmigrated_config: Config
) -> None:
    await migrate_up(unmigrated_config)
    source = await filled()
    content = await exported(source)
    async with (
        open_log(postgres_config) as first,
        open_log(unmigrated_config) as second,
    ):
        for log in (first, second, MemoryLog()):
            found = await restored(log, content)
            assert (found.applied, found.skipped, found.position) == (6, 0, 6)
            assert log.identity == FOREIGN
            assert await everything(log) == lived_in_of(source)
            content = await exported(log)
    assert content == await exported(source)


def lived_in_of(log: MemoryLog) -> list[Any]:
    return log._ledger._events


async def test_a_body_that_is_not_ours_to_shape_survives_as_text() -> None:
    log = MemoryLog()
    previous = genesis(FOREIGN)
    (event, *_) = lived_in(FOREIGN)
    for text in ('{"labels":{},"spec":{}}', '{"labels":{}, "owner":null}\n', "{}"):
        event = msgspec.structs.replace(
            event,
            position=previous.position + 1,
            commit=previous.position + 1,
            body=msgspec.Raw(text.encode()),
        )
        event = msgspec.structs.replace(event, hash=event_hash(previous.hash, event))
        await log.restore([event], after=previous, identity=FOREIGN)
        previous = event.head
    content = await exported(log)
    assert content.count(b'"body":') == 3
    copy = MemoryLog()
    await restored(copy, content)
    assert await everything(copy) == await everything(log)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_export_import_export_gives_the_same_bytes(
    used: Command, empty: Command, suffix: str
) -> None:
    name = f"all.jsonl{suffix}"
    done = used("export", "--output", name)
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("exported 4 transactions of log ")
    done = empty("import", name)
    assert done.code == 0, done.err
    assert done.out.endswith(": 9 events, 0 in the log already; position 9\n")
    assert empty("export", "--output", f"again.jsonl{suffix}").code == 0
    first, again = (used.folder / name), (used.folder / f"again.jsonl{suffix}")
    assert first.read_bytes() == again.read_bytes()
    assert used("log", "-o", "json").out == empty("log", "-o", "json").out
    assert (
        used("replay", "-o", "json").documents[0]["digest"]
        == (empty("replay", "-o", "json").documents[0]["digest"])
    )
    # And what is there already is skipped.
    again_done = empty("import", name, "-o", "json")
    assert again_done.documents[0]["skipped"] == 9


def test_what_was_restored_can_be_written_to(used: Command, empty: Command) -> None:
    used("export", "--output", "all.jsonl")
    assert empty("import", "all.jsonl").code == 0
    empty.write("new.yaml", "type: Mesh\nname: later\n")
    assert empty("apply", "-f", "new.yaml").code == 0
    assert empty("replay", "-o", "json").documents[0]["events"] == 10
    # The other copy of the log has another future: they do not go together any more.
    assert used("delete", "Secret", "key").code == 0
    used("export", "--output", "all.jsonl")
    done = empty("import", "all.jsonl")
    assert done.code == 1
    assert "the log has another event at position 10 than the export" in done.err


def test_what_the_log_has_other_events_for_is_not_taken_for_being_there(
    used: Command, empty: Command
) -> None:
    """Whoever restores what was lost must not be told that it is there."""
    used("export", "--output", "all.jsonl")
    assert empty("import", "all.jsonl").code == 0
    assert used("delete", "Secret", "key").code == 0
    # The other copy has more of its own than the export has.
    for name in ("one", "two"):
        empty.write("new.yaml", f"type: Mesh\nname: {name}\n")
        assert empty("apply", "-f", "new.yaml").code == 0
    for since in ("1", "10"):
        used("export", "--since", since, "--output", "part.jsonl")
        done = empty("import", "part.jsonl")
        assert (done.code, done.out) == (1, "")
        assert "the log has another event at position 10 than the export" in done.err


def test_a_later_part_is_restored_behind_an_earlier_one(
    used: Command, empty: Command
) -> None:
    # Inside of transactions, moments mean the whole of them.
    used("export", "--until", "2", "--output", "first.jsonl")
    used("export", "--since", "5", "--output", "rest.jsonl.zst")
    too_early = empty("import", "rest.jsonl.zst")
    assert too_early.code == 1
    assert "begins after position 4, but the log ends at 0" in too_early.err
    used("export", "--since", "4", "--until", "4", "--output", "middle.jsonl")
    for name in ("first.jsonl", "middle.jsonl", "rest.jsonl.zst"):
        done = empty("import", name)
        assert done.code == 0, done.err
    assert used("export").out == empty("export").out


def test_an_export_goes_on_where_it_was_interrupted(
    used: Command, empty: Command
) -> None:
    lines = used("export").out.splitlines(keepends=True)
    used.write("all.jsonl", "".join(lines[:3]))
    done = empty("import", "all.jsonl")
    assert done.code == 1
    said, error = done.err.splitlines()
    assert said.startswith("restored up to position 4; importing the file again goes")
    assert "ends at position 4, but its header says 9: its end is missing" in error
    used.write("all.jsonl", "".join(lines))
    assert ": 5 events, 4 in the log already; position 9" in (
        empty("import", "all.jsonl").out
    )


# Broken files.


def edited(old: str, new: str) -> Callable[[list[str]], list[str]]:
    def change(lines: list[str]) -> list[str]:
        assert old in lines[2], lines[2]
        return [*lines[:2], lines[2].replace(old, new, 1), *lines[3:]]

    return change


BROKEN: Final[dict[str, tuple[Callable[[list[str]], list[str]], str]]] = {
    "a value": (edited('"mtls"', '"mtlt"'), "line 3: position 4: the hash does not"),
    "white space": (edited('{"op"', '{ "op"'), "line 3: position 4: is not as"),
    "a reason": (edited('"reason":""', '"reason":"x"'), "is not as an export has it"),
    "a hash": (edited('"hash":"', '"hash":"0'), "is not a transaction of an export"),
    "an operation": (edited('"update"', '"create"'), "the hash does not follow"),
    "a further member": (edited('"tx"', '"ty":1,"tx"'), "unknown field `ty`"),
    "a member less": (edited('"commit":4,', ""), "missing required field `commit`"),
    "a line that stands twice": (
        lambda lines: [*lines[:3], *lines[2:]],
        "line 4: position 5: has position 4, which was there already",
    ),
    "another order": (
        lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
        "line 3: position 4: has position 5: what comes before it is missing",
    ),
    "a line less": (
        lambda lines: [*lines[:2], *lines[3:]],
        "line 3: position 4: has position 5: what comes before it is missing",
    ),
    "the end cut off": (lambda lines: lines[:-1], "its end is missing"),
    "a line cut": (lambda lines: [*lines[:2], lines[2][:-20]], "line 3: position 4: "),
    "another identity": (
        lambda lines: [lines[0].replace('"log":"', '"log":"0'), *lines[1:]],
        "line 1: is not the header of an export",
    ),
    "the identity of another log": (
        lambda lines: [_other_log(lines[0]), *lines[1:]],
        "line 1: log and after_hash do not fit",
    ),
    "a newer format": (
        lambda lines: [lines[0].replace('"format":1', '"format":2'), *lines[1:]],
        "line 1: is an export of format 2, this evstore reads 1",
    ),
    "the end elsewhere": (
        lambda lines: [lines[0].replace('"until":9', '"until":4'), *lines[1:]],
        "lies behind 4, where the header says it ends",
    ),
}


def _other_log(header: str) -> str:
    fields = json.loads(header)
    return header.replace(fields["log"], str(FOREIGN))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_export_is_restored_up_to_where_it_is_broken(
    used: Command, empty: Command, name: str
) -> None:
    change, message = BROKEN[name]
    lines = used("export").out.splitlines(keepends=True)
    used.write("bad.jsonl", "".join(change(lines)))
    done = empty("import", "bad.jsonl")
    assert done.code == 1
    assert message in done.err, done.err
    assert "error: bad.jsonl: " in done.err
    there = empty("export").out.splitlines()[1:]
    assert there == [line.strip() for line in lines[1 : 1 + len(there)]]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress)],
)
def test_a_cut_or_damaged_compressed_file_is_noticed(
    used: Command,
    empty: Command,
    suffix: str,
    compress: Callable[[bytes], bytes],
) -> None:
    whole = compress(used("export").out.encode())
    for content in (whole[:-30], b"no such thing" * 20):
        used.write(f"bad.jsonl{suffix}", content)
        done = empty("import", f"bad.jsonl{suffix}")
        assert done.code == 1
        assert "cannot be read on: " in done.err
        assert "Traceback" not in done.err


def test_frames_of_zstd_that_were_put_together_are_one_file(
    used: Command, empty: Command
) -> None:
    compress = zstandard.ZstdCompressor().compress
    lines = used("export").out.encode().splitlines(keepends=True)
    used.write("all.jsonl.zst", b"".join(map(compress, lines)))
    assert empty("import", "all.jsonl.zst").code == 0


async def test_an_export_of_another_log_is_refused() -> None:
    content = await exported(await filled())
    other = MemoryLog()
    events = lived_in(other.identity)
    await other.restore(events, after=other.genesis, identity=other.identity)
    with pytest.raises(DivergedError, match="this log is another one"):
        await restored(other, content)
    assert await everything(other) == events


async def test_a_broken_chain_is_not_exported_but_what_is_before_it() -> None:
    log = await filled()
    events = log._ledger._events
    events[2] = msgspec.structs.replace(events[2], actor="mallory")
    with pytest.raises(DivergedError, match="the hash chain is broken at position 3"):
        await exported(log)
    assert (await restored(MemoryLog(), await exported(log, until=2))).applied == 2


# A selection, and making changes again.


def test_a_selection_can_only_be_made_again(used: Command, empty: Command) -> None:
    used("export", "--type", "Mesh", "--output", "meshes.jsonl")
    done = empty("import", "meshes.jsonl")
    assert done.code == 1
    assert "a selection of the log's events and cannot be restored" in done.err
    done = empty("import", "meshes.jsonl", "--restamp")
    assert done.out == "3 lines: 3 applied, 0 in the log already; position 3\n"
    found = empty("log", "-o", "json").documents
    assert found[0]["actor"] == "al"
    assert found[0]["labels"] == {"team/ü": "größe"}
    assert (
        found[0]["recorded_at"] > used("log", "-o", "json").documents[-1]["recorded_at"]
    )


def test_restamping_makes_everything_again_under_the_own_identity(
    used: Command, empty: Command
) -> None:
    used("export", "--output", "all.jsonl.gz")
    done = empty("import", "all.jsonl.gz", "--restamp")
    assert done.code == 0, done.err
    assert empty("import", "all.jsonl.gz", "--restamp").out.startswith(
        "4 lines: 0 applied, 4 in the log already"
    )
    assert [
        (each["operation"], each["type"], each["spec"], each["status"], each["owner"])
        for each in empty("log", "-o", "json").documents
    ] == [
        (each["operation"], each["type"], each["spec"], each["status"], each["owner"])
        for each in used("log", "-o", "json").documents
    ]
    assert empty("export").out != used("export").out


async def test_redactions_and_redacted_bodies_can_be_made_again() -> None:
    content = await exported(await filled())
    lines = Source("", io.BytesIO(content)).lines()
    next(lines)
    changes = [
        [
            each.operation.value
            for each in ExportedLine(x.number, x.content).decode().changes
        ]
        for x in lines
    ]
    assert changes == [["create", "create"], ["update"], [], ["delete", "delete"]]


# The file that is written.


def test_nothing_is_left_under_the_name_where_an_export_fails(
    used: Command, postgres_config: Config
) -> None:
    used.write("all.jsonl", "what was there")
    used_up = used("export", "--output", "none/all.jsonl")
    assert used_up.code == 2
    anyio.run(break_chain, postgres_config)
    done = used("export", "--output", "all.jsonl")
    assert done.code == 1
    assert "the hash chain is broken at position 2" in done.err
    assert (used.folder / "all.jsonl").read_text() == "what was there"
    assert list_of(used.folder) == ["all.jsonl", "more.yaml", "policies.yaml"]


def list_of(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


async def break_chain(config: Config) -> None:
    async with connected(config) as connection:
        await connection.execute("ALTER TABLE evstore.events DISABLE TRIGGER USER")
        await connection.execute(
            "UPDATE evstore.events SET actor = 'mallory' WHERE position = 2"
        )


def test_an_export_that_nobody_takes_ends_without_a_word(command: Command) -> None:
    lines = [
        {
            "changes": [
                {
                    "op": "create",
                    "type": "Mesh",
                    "name": f"m-{number}",
                    "spec": {"x": "y" * 999},
                }
            ]
        }
        for number in range(100)
    ]
    text = "\n".join(map(json.dumps, lines))
    assert command("import", "-", "--restamp", stdin=text).code == 0
    process = command.start("export")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    assert process.communicate()[1] == ""
    assert process.returncode == 141


def test_an_export_is_for_nobody_else_to_read(used: Command) -> None:
    used("export", "--output", "all.jsonl")
    assert (used.folder / "all.jsonl").stat().st_mode & 0o077 == 0


def test_an_empty_log_has_an_empty_export(command: Command, empty: Command) -> None:
    command("export", "--output", "none.jsonl")
    assert empty("import", "none.jsonl").code == 0
    assert empty("export").out == command("export").out


def test_wrong_use_is_told(command: Command) -> None:
    for words, message in (
        (("export", "--at", "1"), "--at: only with --state"),
        (("export", "--state", "--since", "1"), "--state: takes neither"),
        (("import",), "needs either FILE or --from-kuma"),
    ):
        done = command(*words)
        assert done.code == 2
        assert message in done.err


# States.


def test_a_state_can_be_applied_to_an_empty_store(
    used: Command, empty: Command
) -> None:
    done = used("export", "--state", "--output", "state.yaml")
    assert done.err == "exported 3 resources, as of position 9\n"
    assert empty("apply", "-f", "state.yaml").code == 0
    assert empty("export", "--state").out == used("export", "--state").out
    for type_ in ("Mesh", "MeshTimeout", "Secret"):
        here, there = (each("list", type_, "-o", "json") for each in (used, empty))
        assert shape(here.documents) == shape(there.documents)


def shape(documents: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        tuple(
            each[name] for name in ("mesh", "name", "spec", "status", "labels", "owner")
        )
        for each in documents
    ]


def test_a_past_state_of_one_type(used: Command) -> None:
    done = used("export", "--state", "--at", "1", "--type", "Mesh")
    assert "größe" in done.out
    assert "mtls" not in done.out
    assert done.out.count("---\n") == 1
