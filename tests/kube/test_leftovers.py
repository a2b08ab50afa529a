"""What is left over of what was broken off: it goes, and nothing else does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest

import evstore
from evstore import maintenance
from evstore.cli.main import app
from evstore.errors import CompactedError
from evstore.log.kubernetes import compaction, objects, snapshots
from evstore.log.kubernetes.compaction import Compactor
from evstore.log.kubernetes.shelf import Shelf
from kube.compacting import (
    change,
    compactor_config,
    found,
    in_environment,
    make_old,
    names,
    written,
)
from kube.interference import Fault, interference
from kube.late_writing import writing

if TYPE_CHECKING:
    from apiserver import ApiServer
    from evstore.config import Config

CHUNK_CHARACTERS = 4000
LARGE = {"padding": "x" * 2 * CHUNK_CHARACTERS}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every object be old enough, and need chunks soon."""
    make_old(monkeypatch)
    monkeypatch.setattr(objects, "CHUNK_CHARACTERS", CHUNK_CHARACTERS)


@pytest.fixture
def config(apiserver: ApiServer, kubernetes_config: Config) -> Config:
    return compactor_config(apiserver, kubernetes_config)


def named(apiserver: ApiServer, config: Config) -> set[str]:
    """Return the chunks that a change names."""
    changes = found(apiserver, config)
    return {part["name"] for each in changes for part in each["spec"].get("chunks", ())}


async def swept(config: Config) -> int:
    """Remove what is left over, and nothing else; return how many pieces that was."""
    before = await maintenance.compact(config, dry_run=True)
    done = await maintenance.compact(config)
    assert (before.leftovers, before.leftover_bytes) == (
        (done.leftovers, done.leftover_bytes)
    )
    assert (done.before, done.resources) == (done.floor, None)
    assert (await maintenance.verify(config)).ok
    return done.leftovers


async def left(apiserver: ApiServer, config: Config) -> None:
    """Leave chunks of an append that failed, and was sent again with others."""
    async with interference(apiserver) as way:
        same = msgspec.structs.replace(way.config(config), evstore=config.evstore)
        async with evstore.open(same) as store:
            way.plan("POST", "/changes", Fault.CUT_BEFORE)
            await store.create("Mesh", "large", spec=LARGE)


async def test_chunks_of_a_failed_append_go_and_those_of_changes_stay(
    apiserver: ApiServer, config: Config
) -> None:
    await left(apiserver, config)
    used = named(apiserver, config)
    there = set(names(apiserver, config, "chunks"))
    assert used
    assert len(there) == 2 * len(used)
    assert await swept(config) == len(used)
    assert set(names(apiserver, config, "chunks")) == used
    async with evstore.open(config) as store:
        assert (await store.get("Mesh", "large")).spec == LARGE
    assert await swept(config) == 0


async def test_what_is_younger_than_an_hour_stays(
    apiserver: ApiServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    await left(apiserver, config)
    monkeypatch.setattr(compaction, "YOUNG_SECONDS", 3600)
    there = names(apiserver, config, "chunks")
    assert await swept(config) == 0
    assert names(apiserver, config, "chunks") == there


async def test_a_slow_writer_finds_its_chunks_however_old_they_are(
    apiserver: ApiServer, config: Config
) -> None:
    async with evstore.open(config) as store:
        await store.create("Mesh", "a", spec={})
        with writing(config, "late", chunk_characters=CHUNK_CHARACTERS) as writer:
            assert await writer.hear() == "ready"
            writer.go_on()
            assert await writer.hear() == "creating"
            with writer.stopped():
                there = names(apiserver, config, "chunks")
                assert there
                # Nobody has taken its place: it may still create the change.
                assert await swept(config) == 0
                assert names(apiserver, config, "chunks") == there
            writer.go_on()
            assert await writer.hear() == "2"
        late = await store.get("Mesh", "late", consistent=True)
        assert late.spec == {"padding": "x" * 2 * CHUNK_CHARACTERS}
    assert named(apiserver, config) == set(there)
    assert (await maintenance.verify(config)).ok


@pytest.mark.parametrize("keep", [None, 1])
async def test_a_slow_writer_whose_chunks_went_is_refused_and_writes_others(
    apiserver: ApiServer, config: Config, keep: int | None
) -> None:
    async with evstore.open(config) as store:
        await store.create("Mesh", "a", spec={})
        with writing(config, "late", chunk_characters=CHUNK_CHARACTERS) as writer:
            assert await writer.hear() == "ready"
            writer.go_on()
            assert await writer.hear() == "creating"
            with writer.stopped():
                for name in "bcd":
                    await store.create("Mesh", name, spec={})
                # With its place gone as well its change is created, and is void.
                done = await maintenance.compact(config, keep_events=keep)
                assert done.leftovers == 3
                assert not names(apiserver, config, "chunks")
            writer.go_on()
            assert await writer.hear() == "5"
        assert (await store.get("Mesh", "late", consistent=True)).version == 5
    async with evstore.open(config) as store:
        assert len((await store.list("Mesh")).items) == 5
    assert (await maintenance.verify(config)).ok
    # A change that is void is removed with the chunks that it names, gone or not.
    removed = (await maintenance.compact(config, keep_events=1)).removed
    assert removed == (4 if keep is None else 2)
    async with evstore.open(config) as store:
        assert (await store.get("Mesh", "late")).spec["padding"]


async def redacted(apiserver: ApiServer, config: Config, field: str) -> None:
    owner = apiserver.config(config.kubernetes.system_namespace, role="owner")
    same = msgspec.structs.replace(owner, evstore=config.evstore)
    async with evstore.open(same) as store:
        version = (await store.get("Mesh", "large")).version
        await store.redact(
            "Mesh", "large", version=version, fields=[field], reason="test"
        )


async def test_a_slow_redaction_finds_its_chunks_whatever_was_redacted_before(
    apiserver: ApiServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = LARGE | {"first": "secret", "second": "secret"}
    async with evstore.open(config) as store:
        await store.create("Mesh", "large", spec=spec)
    with_chunks = Shelf._with_chunks
    swept_meanwhile: list[int] = []

    async def slow(self: Shelf, packed: objects.Packed) -> Any:
        made = await with_chunks(self, packed)
        before = set(names(apiserver, config, "chunks"))
        swept_meanwhile.append((await maintenance.compact(config)).leftovers)
        assert set(names(apiserver, config, "chunks")) == before
        return made

    monkeypatch.setattr(Shelf, "_with_chunks", slow)
    for field in ("/spec/first", "/spec/second"):
        await redacted(apiserver, config, field)
    assert swept_meanwhile == [0, 0]
    assert set(names(apiserver, config, "chunks")) == named(apiserver, config)
    proof = await maintenance.verify(config)
    assert (proof.ok, len(proof.redactions), proof.unfinished) == (True, 2, [])
    async with evstore.open(config) as store:
        found = (await store.get("Mesh", "large")).spec
        assert (found["first"], found["second"]) == ("[redacted]", "[redacted]")


async def test_chunks_of_a_redaction_that_was_broken_off_go_when_it_is_done(
    apiserver: ApiServer, config: Config
) -> None:
    async with evstore.open(config) as store:
        await store.create("Mesh", "large", spec=LARGE | {"first": "secret"})
    owner = apiserver.config(config.kubernetes.system_namespace, role="owner")
    async with interference(apiserver) as way:
        same = msgspec.structs.replace(way.config(owner), evstore=config.evstore)
        async with evstore.open(same) as store:
            way.plan("PUT", "/changes", Fault.CUT_BEFORE, times=10**6)
            with pytest.raises(evstore.UnavailableError):
                await store.redact(
                    "Mesh", "large", version=1, fields=["/spec/first"], reason="test"
                )
    leftover = set(names(apiserver, config, "chunks")) - named(apiserver, config)
    assert leftover
    assert (await maintenance.compact(config)).leftovers == 0
    await redacted(apiserver, config, "/spec")
    assert await swept(config) == len(leftover)
    assert set(names(apiserver, config, "chunks")) == named(apiserver, config)


class StoppedError(Exception):
    """A compaction ends, as a process does that is killed."""


async def test_pieces_of_a_certified_state_that_no_floor_names_go(
    apiserver: ApiServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(config)
    await maintenance.compact(config, keep_events=6)
    used = set(names(apiserver, config, "snapshotchunks"))

    async def stop(*_: object) -> bool:
        raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(Compactor, "raise_floor", stop)
        with pytest.raises(StoppedError):
            await maintenance.compact(config, keep_events=4)
    leftover = set(names(apiserver, config, "snapshotchunks")) - used
    assert leftover
    assert await swept(config) == len(leftover)
    assert set(names(apiserver, config, "snapshotchunks")) == used


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_floor_whose_state_was_swept_is_not_recorded(
    apiserver: ApiServer,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    await written(config)
    put_log, first = Shelf.put_log, [True]

    async def late(self: Shelf, *args: Any, **named: str) -> bool:
        if not first:
            return await put_log(self, *args, **named)
        first.clear()
        if moment == "after":
            # The floor is there, and what it names stays.
            made = await put_log(self, *args, **named)
            assert await swept(config) == 0
            return made
        assert await swept(config) == 1
        return await put_log(self, *args, **named)

    monkeypatch.setattr(Shelf, "put_log", late)
    if moment == "after":
        assert (await maintenance.compact(config, keep_events=4)).floor == 6
    else:
        with pytest.raises(CompactedError, match="run it again"):
            await maintenance.compact(config, keep_events=4)
        assert len(names(apiserver, config)) == 10
        assert (await maintenance.compact(config, keep_events=4)).floor == 6
    assert len(names(apiserver, config, "snapshotchunks")) == 1
    assert (await maintenance.verify(config)).ok
    async with evstore.open(config) as store:
        assert [each.version for each in (await store.list("Mesh")).items] == [9, 3, 4]


async def test_a_snapshot_stays_and_one_that_took_too_long_is_given_up(
    apiserver: ApiServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(config)
    await maintenance.create_snapshots(config)
    used = names(apiserver, config, "snapshotchunks")
    assert used
    assert await swept(config) == 0
    monkeypatch.setattr(snapshots, "SAVING_SECONDS_MAX", -1)
    async with evstore.open(config) as store:
        await change(store, "a", 9)
    await maintenance.create_snapshots(config)
    assert len(await maintenance.list_snapshots(config)) == 1
    assert names(apiserver, config, "snapshotchunks") == used


def test_without_options_the_command_removes_what_is_left_over(
    apiserver: ApiServer,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    anyio.run(left, apiserver, config)
    anyio.run(written, config)
    in_environment(config, monkeypatch)
    app(["compact", "--dry-run", "-o", "json"], standalone_mode=False)
    would = json.loads(capsys.readouterr().out)
    assert (would["leftovers"], would["removed"]) == (3, 0)
    assert would["leftover_bytes"] > 2 * CHUNK_CHARACTERS
    app(["compact"], standalone_mode=False)
    size = would["leftover_bytes"]
    assert capsys.readouterr().out.splitlines() == [
        "before    none: the first event is there",
        "floor     none: the first event is there",
        "head      11",
        "goes      0 objects, 0 bytes",
        f"leftovers 3 pieces, {size:,} bytes",
        "removed   0 objects",
    ]
    assert set(names(apiserver, config, "chunks")) == named(apiserver, config)
