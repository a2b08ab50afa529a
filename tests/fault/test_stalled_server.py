"""A server that hangs: stopped with all its processes, its sockets stay open."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

import anyio
import msgspec
import pytest

import evstore
from evstore.embedded import EmbeddedServer
from evstore.errors import UnavailableError
from evstore.log import Stamp, open_log
from evstore.maintenance import migrate_up
from fault.history import adjusted, checked_history, limited, superuser, until
from processes import frozen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from evstore import Config, Store

T = TypeVar("T")

pytestmark = [pytest.mark.fault, pytest.mark.slow]


@pytest.fixture
async def own_server(server_folder: Path) -> AsyncIterator[EmbeddedServer]:
    """Return a migrated server of the test's own."""
    with EmbeddedServer(server_folder) as running:
        await migrate_up(running.config())
        yield running


def stalled(server: EmbeddedServer) -> AbstractContextManager[None]:
    status = server.folder / "data" / "postmaster.pid"
    return frozen(int(status.read_text().splitlines()[0]))


def hasty(config: Config) -> Config:
    """Return a configuration whose waits end soon."""
    changed = limited(
        config,
        append_timeout=0.3,
        command_timeout=1.5,
        read_timeout=0.5,
        start_timeout=0.5,
    )
    changed = adjusted(changed, poll_interval=0.1, heartbeat_interval=0)
    postgres = msgspec.structs.replace(changed.postgres, connection_timeout=1.0)
    return msgspec.structs.replace(changed, postgres=postgres)


async def all_events(store: Store) -> int:
    return len([event async for event in store.events()])


CALLS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "create": lambda store: store.create("Mesh", "second", spec={}),
    "head": lambda store: store.head(),
    "consistent": lambda store: store.get("Mesh", "first", consistent=True),
    "past": lambda store: store.get("Mesh", "first", at=1),
    "events": all_events,
    "instances": lambda store: store.instances(),
}


async def test_a_stalled_server_is_unavailable_and_the_store_recovers(
    own_server: EmbeddedServer,
) -> None:
    async with evstore.open(hasty(own_server.config())) as store:
        await store.create("Mesh", "first", spec={})
        assert await all_events(store) == 1
        failed: dict[str, object] = {}

        async def call(name: str) -> None:
            with pytest.raises(UnavailableError) as caught:
                await CALLS[name](store)
            failed[name] = caught.value

        with stalled(own_server), anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for name in CALLS:
                    tasks.start_soon(call, name)
            # The state in memory is there all the time.
            assert (await store.get("Mesh", "first")).version == 1
            health = await store.health()
            assert not health.ok
        assert set(failed) == set(CALLS)
        # It goes on by itself; whether "second" is there, nobody was told.
        with anyio.fail_after(30):
            await at_last(lambda: store.upsert("Mesh", "third", change=_spec))
            position = await at_last(store.head)
            assert await at_last(lambda: all_events(store)) == position
            await until(lambda: store.position == position)
    names = [event.name for event in await checked_history(own_server.config())]
    assert names in (["first", "third"], ["first", "second", "third"])


def _spec(current: object) -> dict[str, object]:
    del current
    return {}


async def at_last(call: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await call()
        except UnavailableError:
            await anyio.sleep(0.05)


async def test_a_stream_of_events_does_not_wait_for_ever(
    own_server: EmbeddedServer,
) -> None:
    config = hasty(own_server.config())
    async with evstore.open(config) as store:
        for round_ in range(3):
            async with store.transaction() as tx:
                for number in range(500):
                    name = f"mesh-{round_}-{number}"
                    tx.create("Mesh", name, spec={"text": "x" * 2000})
    async with open_log(config) as log:
        chunks = log.replay(after=0, until=1500)
        first = await anext(aiter(chunks))
        # A consumer may take its time: only the server's silence counts.
        await anyio.sleep(2 * config.evstore.limits.read_timeout)
        count = len(first)
        async for chunk in chunks:
            count += len(chunk)
        assert count == 1500
        chunks = log.replay(after=0, until=1500)
        await anext(aiter(chunks))
        with (
            stalled(own_server),
            anyio.fail_after(30),
            pytest.raises(UnavailableError, match=r"no answer in 0\.5 s"),
        ):
            async for _ in chunks:
                pass


async def test_a_saver_waits_for_chunks_and_not_for_the_server(
    own_server: EmbeddedServer,
) -> None:
    config = hasty(own_server.config())
    async with open_log(config) as log:
        await log.connect()
        stamp = Stamp(
            log=log.identity,
            projection="resources",
            version=1,
            fingerprint="",
            head=log.genesis,
            digest=bytes(32),
        )

        async def slow() -> AsyncGenerator[bytes]:
            yield b"first"
            await anyio.sleep(2 * config.evstore.limits.read_timeout)
            yield b"second"

        saved = await log.save_snapshot(stamp, slow(), code_version="")
        assert saved is not None
        with ExitStack() as stack:

            async def stalling() -> AsyncGenerator[bytes]:
                yield b"first"
                stack.enter_context(stalled(own_server))
                yield b"second"

            with (
                anyio.fail_after(30),
                pytest.raises(UnavailableError, match=r"no answer in 0\.5 s"),
            ):
                await log.save_snapshot(stamp, stalling(), code_version="")
        with anyio.fail_after(30):
            assert await at_last(log.snapshots) == [saved]
            # Nor does the one that was given up keep others from saving.
            while await log.save_snapshot(stamp, slow(), code_version="") is None:  # noqa: ASYNC110
                await anyio.sleep(0.05)


async def test_a_statement_that_gets_no_answer_is_given_up(
    postgres_config: Config,
) -> None:
    async with evstore.open(hasty(postgres_config)) as store:
        async with superuser(postgres_config) as admin, admin.transaction():
            await admin.execute(b"LOCK TABLE evstore.instances")
            with pytest.raises(UnavailableError, match=r"no answer in 0\.5 s"):
                await store.instances()
            assert await store.head() == 0
        assert await store.instances() == []


async def test_a_start_on_a_stalled_server_fails_in_bounded_time(
    own_server: EmbeddedServer,
) -> None:
    with stalled(own_server), anyio.fail_after(30), pytest.raises(UnavailableError):
        async with evstore.open(hasty(own_server.config())):
            pytest.fail("it answers nothing")


async def test_a_start_waits_for_a_server_that_comes_up(
    own_server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    config = limited(own_server.config(), start_timeout=60)
    own_server.stop()
    opened: list[int] = []

    async def start() -> None:
        async with evstore.open(config) as store:
            opened.append(await store.head())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start)
        await until(lambda: "trying again for 60 s" in caplog.text)
        assert opened == []
        await anyio.to_thread.run_sync(own_server.start)
    assert opened == [0]
