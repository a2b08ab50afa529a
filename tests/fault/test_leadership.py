"""Leaders that are killed, stopped or cut off: never two at once, and always one again."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
import pytest
from anyio.streams.text import TextReceiveStream

import evstore
from evstore.errors import UnavailableError
from evstore.log import Instance, open_log
from evstore.model import LEASE_TYPE
from fault.history import checked_history, connected, until
from fault.proxy import Fault, open_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import Process, TaskGroup

    from evstore import Config, Event
    from fault.proxy import Proxy

pytestmark = pytest.mark.fault

PROGRAM = Path(__file__).with_name("candidate.py")
TTL = 1.0
LONG = 3600


@dataclass(eq=False)
class Candidate:
    """A process that wants to lead, and what it has said so far."""

    name: str
    process: Process
    said: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])

    async def listen(self) -> None:
        assert self.process.stdout is not None
        buffer = ""
        async for text in TextReceiveStream(self.process.stdout):
            *lines, buffer = (buffer + text).split("\n")
            for line in lines:
                word, fence = line.split()
                self.said.append((word, int(fence)))

    def words(self, fence: int) -> list[str]:
        return [word for word, about in self.said if about == fence]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@asynccontextmanager
async def candidate(
    config: Config, name: str, tasks: TaskGroup
) -> AsyncGenerator[Candidate]:
    postgres = config.postgres
    settings = {
        "KUMA_STORE_TYPE": "postgres",
        "KUMA_STORE_POSTGRES_HOST": postgres.host,
        "KUMA_STORE_POSTGRES_PORT": str(postgres.port),
        "KUMA_STORE_POSTGRES_USER": postgres.user,
        "KUMA_STORE_POSTGRES_PASSWORD": postgres.password,
        "KUMA_STORE_POSTGRES_DB_NAME": postgres.db_name,
    }
    command = [sys.executable, str(PROGRAM), name, str(TTL)]
    process = await anyio.open_process(
        command, env=os.environ | settings, stdout=PIPE, stderr=None
    )
    one = Candidate(name, process)
    tasks.start_soon(one.listen)
    try:
        yield one
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()


def fences(candidates: list[Candidate]) -> dict[int, Candidate]:
    """Return who has said that it leads, by fence, in order."""
    found = {
        fence: each
        for each in candidates
        for word, fence in each.said
        if word == "leads"
    }
    return dict(sorted(found.items()))


async def next_leader(
    candidates: list[Candidate], *, after: int
) -> tuple[int, Candidate]:
    """Return the fence and the leader that come after a fence."""
    await until(lambda: max(fences(candidates), default=0) > after, seconds=30)
    fence, leader = list(fences(candidates).items())[-1]
    await until(lambda: "wrote" in leader.words(fence))
    return fence, leader


def assert_one_at_a_time(events: list[Event]) -> None:
    """Check that whatever was written was written by who led then, and no other."""
    holder: tuple[str, int] | None = None
    for event in events:
        if event.type == LEASE_TYPE:
            match event.operation:
                case evstore.Operation.CREATED:
                    assert holder is None, event
                    holder = (event.actor, event.position)
                case evstore.Operation.UPDATED:
                    assert holder is not None, event
                    holder = (event.actor, event.position)
                case evstore.Operation.DELETED:
                    assert holder is not None, event
                    assert event.actor == holder[0], event
                    holder = None
                case evstore.Operation.REDACTED:
                    pytest.fail("nothing was redacted")
        else:
            assert holder is not None, event
            assert event.name.startswith(f"{holder[0]}-{holder[1]}-"), event


@pytest.mark.slow
async def test_a_killed_leader_is_succeeded_by_one_of_the_others(
    postgres_config: Config,
) -> None:
    async with anyio.create_task_group() as tasks, AsyncExitStack() as stack:
        candidates = [
            await stack.enter_async_context(
                candidate(postgres_config, f"c-{number}", tasks)
            )
            for number in range(3)
        ]
        fence = 0
        for _ in range(2):
            fence, leader = await next_leader(candidates, after=fence)
            leader.signal(signal.SIGKILL)
        fence, leader = await next_leader(candidates, after=fence)
        assert len({each.name for each in fences(candidates).values()}) == 3
    events = await checked_history(postgres_config)
    assert_one_at_a_time(events)
    taken = [event for event in events if event.type == LEASE_TYPE]
    assert [event.operation.value for event in taken] == [
        "created",
        "updated",
        "updated",
    ]
    for before, after in pairwise(taken):
        assert after.reason == (
            f"taken over from {before.spec['instance']}, not seen for {TTL:g} s"
        )
        assert (after.recorded_at - before.recorded_at).total_seconds() > TTL


@pytest.mark.slow
async def test_a_stopped_leader_that_goes_on_is_fenced_off_and_ended(
    postgres_config: Config,
) -> None:
    async with anyio.create_task_group() as tasks, AsyncExitStack() as stack:
        candidates = [
            await stack.enter_async_context(
                candidate(postgres_config, f"c-{number}", tasks)
            )
            for number in range(2)
        ]
        fence, leader = await next_leader(candidates, after=0)
        leader.signal(signal.SIGSTOP)
        newer, other = await next_leader(candidates, after=fence)
        assert other is not leader
        assert leader.words(fence) == ["leads", "wrote"]
        leader.signal(signal.SIGCONT)
        await until(lambda: len(leader.words(fence)) == 4, seconds=20)
        assert leader.words(fence)[2:] == ["ended", "refused"]
        assert other.words(newer) == ["leads", "wrote"]
        # It waits again, and leads again when it is its turn.
        other.signal(signal.SIGKILL)
        again, third = await next_leader(candidates, after=newer)
        assert third is leader
        assert again > newer
    assert_one_at_a_time(await checked_history(postgres_config))


def cut(proxy: Proxy) -> None:
    proxy.down = True
    proxy.cut_all()


def stall(proxy: Proxy) -> None:
    proxy.choose = lambda _: Fault.STALL


def mend(proxy: Proxy) -> None:
    proxy.down = False
    proxy.choose = lambda _: None
    proxy.release()


@pytest.mark.slow
@pytest.mark.parametrize("part", [cut, stall])
async def test_a_leader_without_its_database_ends_before_another_begins(
    postgres_config: Config, part: object
) -> None:
    assert callable(part)
    order: list[str] = []

    async def succeed() -> None:
        async with evstore.open(postgres_config) as store, store.leadership("task"):
            order.append("succeeded")

    async def lead(store: evstore.Store, tasks: TaskGroup, proxy: Proxy) -> None:
        async with store.leadership("task", ttl=TTL):
            tasks.start_soon(succeed)
            part(proxy)
            try:
                await anyio.sleep_forever()
            finally:
                order.append("ended")

    with anyio.fail_after(40):
        async with (
            open_proxy(postgres_config) as proxy,
            evstore.open(proxy.config) as store,
            anyio.create_task_group() as tasks,
        ):
            with pytest.raises(UnavailableError, match="no heartbeat could be"):
                await lead(store, tasks, proxy)
            await until(lambda: len(order) == 2)
            mend(proxy)
    assert order == ["ended", "succeeded"]
    events = await checked_history(postgres_config)
    assert [event.operation.value for event in events] == [
        "created",
        "updated",
        "deleted",
    ]


async def test_a_taking_whose_answer_was_lost_is_held(postgres_config: Config) -> None:
    with anyio.fail_after(20):
        async with (
            open_proxy(postgres_config) as proxy,
            evstore.open(proxy.config) as store,
        ):
            struck = proxy.once(Fault.LOSE_ANSWER, lambda each: each.is_append)
            async with store.leadership("task", ttl=LONG) as lease:
                assert struck.is_set()
                lease.check()
                async with store.transaction(lease=lease) as tx:
                    tx.create("Mesh", "led", spec={})
    events = await checked_history(postgres_config)
    assert [event.operation.value for event in events] == [
        "created",
        "created",
        "deleted",
    ]


async def test_a_taking_that_outlives_its_candidate_is_given_up(
    postgres_config: Config,
) -> None:
    async def lead(store: evstore.Store, scope: anyio.CancelScope) -> None:
        with scope:
            async with store.leadership("task", ttl=LONG):
                pytest.fail("it was cancelled before")

    scope = anyio.CancelScope()
    with anyio.fail_after(20):
        async with (
            open_proxy(postgres_config) as proxy,
            evstore.open(proxy.config) as store,
        ):
            struck = proxy.once(Fault.STALL_ANSWER, lambda each: each.is_append)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lead, store, scope)
                await struck.wait()
                scope.cancel()
                proxy.release()
            async with store.leadership("task", ttl=LONG):
                pass
    events = await checked_history(postgres_config)
    assert [event.operation.value for event in events] == ["created", "deleted"] * 2


def heartbeat() -> Instance:
    return Instance(id=uuid4(), position=0, digest=bytes(32), code_version="")


async def waits_for_a_lock(config: Config) -> None:
    async with connected(config, user="postgres") as connection:
        with anyio.fail_after(10):
            while True:
                cursor = await connection.execute(
                    b"SELECT count(*) FROM pg_stat_activity"
                    b" WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
                row = await cursor.fetchone()
                if row and row[0]:
                    return
                await anyio.sleep(0.005)


async def test_an_expiry_waits_for_a_renewal_under_way(postgres_config: Config) -> None:
    mine = heartbeat()
    left: list[float] = []
    async with (
        open_log(postgres_config) as log,
        connected(postgres_config) as connection,
    ):
        await log.beat(mine)

        async def expire() -> None:
            left.append(await log.expire(mine.id, seconds=0))

        async with anyio.create_task_group() as tasks, connection.transaction():
            await connection.execute(
                b"UPDATE evstore.instances SET seen_at = clock_timestamp()"
                b" + interval '1 minute'"
            )
            tasks.start_soon(expire)
            await waits_for_a_lock(postgres_config)
        assert left[0] > 0
        assert [seen.id for seen in await log.instances()] == [mine.id]


async def test_a_renewal_that_meets_an_expiry_finds_nothing(
    postgres_config: Config,
) -> None:
    mine = heartbeat()
    stands: list[bool] = []
    async with (
        open_log(postgres_config) as log,
        connected(postgres_config) as connection,
    ):
        await log.beat(mine)

        async def renew() -> None:
            stands.append(await log.beat(mine, renewal=True))

        async with anyio.create_task_group() as tasks, connection.transaction():
            await connection.execute(b"DELETE FROM evstore.instances")
            tasks.start_soon(renew)
            await waits_for_a_lock(postgres_config)
        assert stands == [False]
        assert await log.instances() == []
