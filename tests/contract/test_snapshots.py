"""Snapshots: whole or not at all, pruned by label, and never with what is gone."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import msgspec
import pytest

from events import History, create, creations, genesis, key
from evstore.clock import to_microseconds, wall_microseconds
from evstore.log import Instance, Log, Snapshot, Stamp
from evstore.log.postgres import PostgresLog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable

    from evstore.model import Head


class FoldError(Exception):
    """Whoever makes the chunks cannot go on."""


class Held:
    """Chunks of which the second does not come before it is let go."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.go = anyio.Event()

    async def chunks(self) -> AsyncGenerator[bytes]:
        yield b"first"
        self.reached.set()
        await self.go.wait()
        yield b"second"


def stamp(log: Log, head: Head, **changed: Any) -> Stamp:
    fields: dict[str, Any] = {
        "log": log.identity,
        "projection": "resources",
        "version": 1,
        "fingerprint": "",
        "head": head,
        "digest": bytes(range(32)),
    }
    return Stamp(**fields | changed)


async def pieces(*chunks: bytes) -> AsyncGenerator[bytes]:
    for chunk in chunks:
        yield chunk


async def save(
    log: Log, head: Head, chunks: AsyncIterable[bytes] | None = None, **changed: Any
) -> Snapshot | None:
    return await log.save_snapshot(
        stamp(log, head, **changed),
        pieces(b"content") if chunks is None else chunks,
        code_version="1.2.3",
    )


async def saved(log: Log, head: Head, **changed: Any) -> Snapshot:
    snapshot = await save(log, head, **changed)
    assert snapshot is not None
    return snapshot


async def loaded(log: Log, snapshot: Snapshot) -> list[bytes]:
    return [chunk async for chunk in log.load_snapshot(snapshot)]


async def heads(log: Log, history: History, count: int) -> list[Head]:
    """Append some transactions, and return the places at their ends."""
    found: list[Head] = []
    for number in range(count):
        after = history.head
        await log.append(creations(history, f"{number}"), after=after)
        found.append(history.head)
    return found


async def redact(log: Log, history: History) -> None:
    """Announce a redaction, and drop what may hold the body."""
    after = history.head
    await log.append(history.redaction(key("0")), after=after)
    await log.drop_snapshots(since=1)


async def test_there_are_none_at_first(log: Log) -> None:
    assert await log.snapshots() == []
    assert await log.drop_snapshots() == 0


async def test_a_snapshot_comes_back_as_it_was_saved(
    log: Log, other: Log, history: History
) -> None:
    (head,) = await heads(log, history, 1)
    chunks = [b"%d" % number * 1000 for number in range(12)] + [b"", bytes(2**20)]
    marks = {"projection": "services-by-tag", "version": 3, "fingerprint": "00ff"}
    snapshot = await log.save_snapshot(
        stamp(log, head, **marks), pieces(*chunks), code_version="1.2.3"
    )
    assert snapshot is not None
    assert snapshot.stamp == stamp(log, head, **marks)
    assert snapshot.stamp.label == "services-by-tag:3:00ff"
    assert (snapshot.chunks, snapshot.size) == (14, sum(map(len, chunks)))
    assert snapshot.checksum == sha256(b"".join(chunks)).digest()
    assert snapshot.code_version == "1.2.3"
    taken = to_microseconds(snapshot.taken_at)
    assert abs(taken - wall_microseconds()) < 10_000_000
    assert await other.snapshots() == [snapshot]
    assert await loaded(other, snapshot) == chunks


async def test_a_snapshot_may_be_empty_and_of_nothing(log: Log, other: Log) -> None:
    snapshot = await log.save_snapshot(
        stamp(log, log.genesis), pieces(), code_version=""
    )
    assert snapshot is not None
    assert (snapshot.chunks, snapshot.size) == (0, 0)
    assert snapshot.checksum == sha256(b"").digest()
    assert await other.snapshots() == [snapshot]
    assert await loaded(other, snapshot) == []


async def test_the_one_of_the_highest_position_comes_first(
    log: Log, history: History
) -> None:
    first, second, third = await heads(log, history, 3)
    for head, name in ((second, "b"), (third, "c"), (first, "a")):
        await saved(log, head, projection=name)
    found = [each.stamp.projection for each in await log.snapshots()]
    assert found == ["c", "b", "a"]


async def test_saving_leaves_the_log_as_it_is(log: Log) -> None:
    await saved(log, log.genesis)
    assert await log.head() == log.genesis


# Whole or not at all.


async def test_nothing_is_seen_of_a_snapshot_before_it_is_whole(
    log: Log, other: Log
) -> None:
    held = Held()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(save, log, log.genesis, held.chunks())
        await held.reached.wait()
        assert await other.snapshots() == []
        held.go.set()
    (snapshot,) = await other.snapshots()
    assert await loaded(other, snapshot) == [b"first", b"second"]


async def test_chunks_that_break_off_leave_nothing_behind(log: Log, other: Log) -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield b"first"
        raise FoldError

    with pytest.raises(FoldError):
        await save(log, log.genesis, broken())
    assert await other.snapshots() == []
    snapshot = await saved(other, other.genesis)
    assert await other.snapshots() == [snapshot]


async def test_who_gives_up_saving_leaves_nothing_behind(log: Log, other: Log) -> None:
    held = Held()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(save, log, log.genesis, held.chunks())
        await held.reached.wait()
        tasks.cancel_scope.cancel()
    assert await other.snapshots() == []
    assert await save(other, other.genesis) is not None


async def test_one_saves_at_a_time(log: Log, other: Log) -> None:
    held = Held()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(save, log, log.genesis, held.chunks())
        await held.reached.wait()
        assert await save(other, log.genesis, projection="else") is None
        held.go.set()
    assert await save(other, log.genesis, projection="else") is not None
    assert len(await log.snapshots()) == 2


# What the log does not have, or no longer.


async def test_a_place_that_the_log_has_not_is_not_kept(
    log: Log, history: History
) -> None:
    (head,) = await heads(log, history, 1)
    replace = msgspec.structs.replace
    for lost in (
        replace(head, position=2),
        replace(head, hash=bytes(32)),
        replace(log.genesis, hash=bytes(32)),
    ):
        assert await save(log, lost) is None
    foreign = msgspec.structs.replace(stamp(log, head), log=uuid4())
    assert await log.save_snapshot(foreign, pieces(), code_version="") is None
    assert await log.snapshots() == []


async def test_a_place_before_the_head_is_kept(log: Log, history: History) -> None:
    first, _ = await heads(log, history, 2)
    assert (await saved(log, first)).stamp.head == first


async def test_a_snapshot_of_another_log_is_listed(log: Log) -> None:
    snapshot = await saved(log, log.genesis)
    identity = uuid4()
    events = History(genesis(identity)).transaction(create(key("a")))
    await log.restore(events, after=genesis(identity), identity=identity)
    assert log.identity == identity
    (found,) = await log.snapshots()
    assert found == snapshot
    assert found.stamp.log != log.identity
    assert await log.drop_snapshots([found.id]) == 1


# Redactions.


async def test_a_snapshot_from_before_a_redaction_is_not_kept(
    log: Log, history: History
) -> None:
    (head,) = await heads(log, history, 1)
    after = history.head
    await log.append(history.redaction(key("0")), after=after)
    assert await save(log, head) is None
    assert await log.snapshots() == []
    assert await save(log, history.head) is not None


async def test_a_redaction_while_chunks_come_is_not_survived(
    log: Log, other: Log, history: History
) -> None:
    (head,) = await heads(log, history, 1)
    held, results = Held(), list[Snapshot | None]()

    async def saving() -> None:
        results.append(await save(log, head, held.chunks()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(saving)
        await held.reached.wait()
        await other.connect()
        await redact(other, history)
        held.go.set()
    assert results == [None]
    assert await log.snapshots() == []


async def test_a_redaction_after_the_last_chunk_drops_what_was_saved(
    log: Log, other: Log, history: History
) -> None:
    (head,) = await heads(log, history, 1)
    before = await saved(log, log.genesis, projection="before")
    await saved(log, head)
    await redact(other, history)
    assert await log.snapshots() == [before]


# Pruning.


async def test_of_each_label_the_last_two_are_kept(log: Log, history: History) -> None:
    places = await heads(log, history, 4)
    for place in places:
        await saved(log, place)
    found = [each.stamp.head for each in await log.snapshots()]
    assert found == [places[3], places[2]]


async def test_the_last_ones_are_the_last_taken(log: Log, history: History) -> None:
    """What has a higher position may be of a log that has lost its end."""
    first, second, third = await heads(log, history, 3)
    for place in (third, second, first):
        await saved(log, place)
    found = [each.stamp.head for each in await log.snapshots()]
    assert found == [second, first]


async def test_what_else_is_young_is_kept(log: Log, history: History) -> None:
    first, second, third = await heads(log, history, 3)
    marks: list[dict[str, Any]] = [
        {"version": 2},
        {"fingerprint": "ab"},
        {"projection": "services"},
    ]
    for changed in marks:
        for place in (first, second):
            await saved(log, place, **changed)
    for place in (first, second, third):
        await saved(log, place)
    labels = sorted(each.stamp.label for each in await log.snapshots())
    assert labels == [
        *["resources:1:"] * 2,
        *["resources:1:ab"] * 2,
        *["resources:2:"] * 2,
        *["services:1:"] * 2,
    ]


async def test_what_they_take_on_disk_is_told_where_there_is_one(log: Log) -> None:
    before = await log.storage()
    content = pieces(bytes(2**20))
    assert await log.save_snapshot(stamp(log, log.genesis), content, code_version="")
    after = await log.storage()
    if not isinstance(log, PostgresLog):
        assert after is None
        return
    assert before is not None
    assert after is not None
    assert after.snapshot_bytes > before.snapshot_bytes + 2**20
    assert after.partitions == before.partitions


# Dropping.


async def test_a_dropped_snapshot_is_gone(log: Log, other: Log) -> None:
    one = await saved(log, log.genesis)
    two = await saved(log, log.genesis)
    assert await other.drop_snapshots([]) == 0
    assert await other.drop_snapshots([one.id, uuid4()]) == 1
    assert await log.snapshots() == [two]
    assert await loaded(log, one) == []
    assert await log.drop_snapshots([one.id]) == 0


async def test_all_are_dropped_from_a_position_on(log: Log, history: History) -> None:
    places = await heads(log, history, 3)
    for number, place in enumerate(places):
        await saved(log, place, version=number)
    assert await log.drop_snapshots(since=4) == 0
    assert await log.drop_snapshots(since=2) == 2
    assert [each.stamp.head for each in await log.snapshots()] == [places[0]]
    assert await log.drop_snapshots() == 1
    assert await log.drop_snapshots(since=2**64) == 0


async def test_ids_and_a_position_must_both_fit(log: Log, history: History) -> None:
    first, second = await heads(log, history, 2)
    low = await saved(log, first)
    high = await saved(log, second)
    assert await log.drop_snapshots([low.id], since=2) == 0
    assert await log.drop_snapshots([low.id, high.id], since=2) == 1
    assert await log.snapshots() == [low]


async def test_a_snapshot_that_is_dropped_while_it_is_loaded_ends(
    log: Log, other: Log
) -> None:
    chunks = [bytes([number]) * 2**16 for number in range(100)]
    snapshot = await save(log, log.genesis, pieces(*chunks))
    assert snapshot is not None
    found: list[bytes] = []
    async for chunk in other.load_snapshot(snapshot):
        if not found:
            assert await log.drop_snapshots() == 1
        found.append(chunk)
    assert found == chunks[: len(found)]
    assert await loaded(other, snapshot) == []


async def test_a_heartbeat_says_what_its_program_folds_and_knows(
    log: Log, other: Log
) -> None:
    labels = ("resources:1:", "services-by-tag:2:ab")
    mine = Instance(
        id=uuid4(),
        position=0,
        digest=bytes(32),
        code_version="",
        knows=7,
        projections=labels,
    )
    await log.beat(mine)
    (seen,) = await other.instances()
    assert (seen.knows, seen.projections) == (7, labels)
    await log.beat(msgspec.structs.replace(mine, projections=()), renewal=True)
    (seen,) = await other.instances()
    assert (seen.knows, seen.projections) == (7, ())
