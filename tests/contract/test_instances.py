"""Heartbeats: who runs, and up to where."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from evstore.clock import to_microseconds, wall_microseconds
from evstore.log import Instance

if TYPE_CHECKING:
    from evstore.log import Log


def instance(position: int) -> Instance:
    return Instance(
        id=uuid4(), position=position, digest=bytes(range(32)), code_version="1.2.3"
    )


async def test_nobody_runs_before_the_first_heartbeat(log: Log) -> None:
    assert await log.instances() == []


async def test_a_heartbeat_says_who_where_and_when(log: Log, other: Log) -> None:
    mine = instance(7)
    await log.beat(mine)
    (seen,) = await other.instances()
    assert (seen.id, seen.position) == (mine.id, 7)
    assert (seen.digest, seen.code_version) == (mine.digest, "1.2.3")
    assert seen.seen_at is not None
    assert abs(to_microseconds(seen.seen_at) - wall_microseconds()) < 10_000_000


async def test_a_later_heartbeat_takes_the_place_of_the_earlier(log: Log) -> None:
    first = instance(1)
    await log.beat(first)
    await log.beat(Instance(id=first.id, position=2, digest=bytes(32), code_version=""))
    (seen,) = await log.instances()
    assert (seen.position, seen.digest) == (2, bytes(32))


async def test_instances_come_newest_first(log: Log, other: Log) -> None:
    beats = [instance(position) for position in range(3)]
    for number, beat in enumerate(beats):
        await (other if number == 1 else log).beat(beat)
    await log.beat(beats[0])
    assert [seen.id for seen in await log.instances()] == [
        beats[0].id,
        beats[2].id,
        beats[1].id,
    ]


async def test_a_heartbeat_leaves_the_log_as_it_is(log: Log) -> None:
    await log.beat(instance(0))
    assert await log.head() == log.genesis


async def test_a_renewal_stands_while_its_instance_is_there(
    log: Log, other: Log
) -> None:
    mine = instance(1)
    assert await log.beat(mine)
    assert await log.beat(mine, renewal=True)
    assert [seen.id for seen in await other.instances()] == [mine.id]


async def test_a_renewal_never_brings_back_what_was_expired(
    log: Log, other: Log
) -> None:
    mine = instance(1)
    assert await log.beat(mine)
    assert await other.expire(mine.id, seconds=0) == 0
    assert not await log.beat(mine, renewal=True)
    assert not await log.beat(mine, renewal=True)
    assert await log.instances() == []


async def test_an_instance_that_was_seen_is_not_expired(log: Log, other: Log) -> None:
    mine = instance(1)
    await log.beat(mine)
    assert 50 < await other.expire(mine.id, seconds=60) <= 60
    assert [seen.id for seen in await log.instances()] == [mine.id]
    assert await log.beat(mine, renewal=True)


async def test_nothing_is_left_of_an_instance_that_never_was(log: Log) -> None:
    mine = instance(1)
    await log.beat(mine)
    assert await log.expire(uuid4(), seconds=60) == 0
    assert [seen.id for seen in await log.instances()] == [mine.id]


async def test_tending_leaves_the_log_as_it_is(log: Log) -> None:
    await log.tend()
    assert await log.head() == log.genesis
