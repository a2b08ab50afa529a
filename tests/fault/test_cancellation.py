"""Callers that are cancelled, by anyio and by asyncio, at whatever moment."""

from __future__ import annotations

import asyncio  # noqa: TID251 - plain task.cancel() is what is tested
import random
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from evstore.errors import NotFoundError, UnavailableError
from evstore.log.postgres import statements
from evstore.log.postgres.connections import connect
from evstore.log.postgres.wire import Wire
from fault.history import adjusted, checked_history, limited, until
from fault.proxy import Fault, Request, open_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from evstore import Config, Store

    Call = Callable[[], Awaitable[object]]
    Run = Callable[[Call], "_Cancellable"]

pytestmark = pytest.mark.fault


class _Cancellable:
    """A call in a task of its own that can be cancelled in one of two ways."""

    def __init__(self, call: Call, *, by_scope: bool) -> None:
        self._call = call
        self._scope = anyio.CancelScope()
        self._by_scope = by_scope
        self.result: object = None
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        with self._scope:
            self.result = await self._call()

    def cancel(self) -> None:
        if self._by_scope:
            self._scope.cancel()
        else:
            self.task.cancel()

    async def ended(self) -> None:
        with suppress(asyncio.CancelledError):
            await self.task


@pytest.fixture(params=["anyio scope", "asyncio task"])
def run(request: pytest.FixtureRequest) -> Run:
    by_scope = request.param == "anyio scope"
    return lambda call: _Cancellable(call, by_scope=by_scope)


def is_append(request: Request) -> bool:
    return request.is_append


def queued(store: Store) -> int:
    return len(store._committer._queue)


async def test_a_command_cancelled_while_queued_is_not_applied(
    postgres_config: Config, run: Run
) -> None:
    async with (
        open_proxy(postgres_config) as proxy,
        evstore.open(proxy.config) as store,
    ):
        struck = proxy.once(Fault.STALL, is_append)
        first = run(lambda: store.create("Mesh", "first", spec={}))
        await struck.wait()
        second = run(lambda: store.create("Mesh", "second", spec={}))
        third = run(lambda: store.create("Mesh", "third", spec={}))
        await until(lambda: queued(store) == 2)
        second.cancel()
        await second.ended()
        proxy.release()
        await first.ended()
        await third.ended()
        with pytest.raises(NotFoundError):
            await store.get("Mesh", "second", consistent=True)
    events = await checked_history(postgres_config)
    assert [event.name for event in events] == ["first", "third"]


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.STALL_ANSWER])
async def test_an_append_outlives_the_cancellation_of_its_callers(
    postgres_config: Config, run: Run, fault: Fault
) -> None:
    async with (
        open_proxy(postgres_config) as proxy,
        evstore.open(proxy.config) as store,
    ):
        struck = proxy.once(fault, is_append)
        cancelled = run(lambda: store.create("Mesh", "cancelled", spec={}))
        await struck.wait()
        waiting = run(lambda: store.create("Mesh", "waiting", spec={}))
        cancelled.cancel()
        await cancelled.ended()
        proxy.release()
        await waiting.ended()
        assert waiting.result is not None
        assert (await store.get("Mesh", "cancelled")).version == 1
        # The statement was neither cancelled at the server nor its connection given up.
        assert proxy.cancels == 0
        startups = {each.raw for each in proxy.requests if each.kind == "append"}
        assert len(startups) == 2
    events = await checked_history(postgres_config)
    assert [event.name for event in events] == ["cancelled", "waiting"]


async def _cancel_at_random(
    dice: random.Random, calls: dict[str, _Cancellable]
) -> set[str]:
    """Cancel all calls at some moment; return those that had not ended by then."""
    untold: set[str] = set()
    names = list(calls)
    dice.shuffle(names)
    for name in names:
        if dice.random() < 0.3:
            await anyio.sleep(dice.uniform(0, 0.002))
        elif dice.random() < 0.5:
            await anyio.lowlevel.checkpoint()
        if not calls[name].task.done():
            untold.add(name)
        calls[name].cancel()
    for call in calls.values():
        await call.ended()
    return untold


async def test_500_random_cancellations_corrupt_nothing(
    postgres_config: Config,
) -> None:
    dice = random.Random(500)
    acknowledged: dict[str, int] = {}
    untold: set[str] = set()

    async with evstore.open(postgres_config) as store:
        mesh = await store.create("Mesh", "default", spec={})

        async def create(name: str) -> None:
            zone = await store.create("Zone", name, spec={"n": name}, owner=mesh)
            acknowledged[name] = zone.version

        for start in range(0, 500, 10):
            calls: dict[str, _Cancellable] = {}
            for number in range(start, start + 10):
                call = partial(create, f"zone-{number}")
                by_scope = dice.random() < 0.5
                calls[f"zone-{number}"] = _Cancellable(call, by_scope=by_scope)
            untold |= await _cancel_at_random(dice, calls)
        last = await store.create("Mesh", "last", spec={})
        digest = store.digest()
    events = await checked_history(postgres_config)
    found = {event.name: event.position for event in events}
    assert len(found) == len(events)
    assert events[-1].position == last.version
    for name, position in acknowledged.items():
        assert found.pop(name) == position
    assert found.keys() <= untold | {"default", "last"}
    assert untold
    async with evstore.open(postgres_config) as store:
        assert store.digest() == digest


@asynccontextmanager
async def _holder(config: Config) -> AsyncGenerator[asyncio.Task[None]]:
    """Hold a store open in a task that a test may cancel, with an append under way."""
    ready = anyio.Event()

    async def hold() -> None:
        async with evstore.open(config) as store:
            ready.set()
            await store.create("Mesh", "default", spec={})

    task = asyncio.create_task(hold())
    await ready.wait()
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.STALL_ANSWER])
@pytest.mark.parametrize("times", [1, 3])
async def test_cancelling_the_holder_of_a_store_in_an_append_ends_in_bounded_time(
    postgres_config: Config, fault: Fault, times: int
) -> None:
    async with open_proxy(limited(postgres_config, append_timeout=0.4)) as proxy:
        struck = proxy.once(fault, is_append)
        async with _holder(proxy.config) as task:
            await struck.wait()
            with anyio.fail_after(5):
                for _ in range(times):
                    task.cancel()
                    await anyio.sleep(0.01)
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert proxy.cancels == 0
            proxy.release()
    assert len(await checked_history(postgres_config)) <= 1


@pytest.mark.timeout(15)
@pytest.mark.parametrize("purpose", ["writer", "reader", "listener", ""])
async def test_closing_ends_in_bounded_time_when_nothing_answers(
    postgres_config: Config, purpose: str
) -> None:
    config = limited(postgres_config, append_timeout=0.4, command_timeout=0.4)
    config = adjusted(config, heartbeat_interval=0.01, poll_interval=0.01)
    async with open_proxy(config) as proxy:
        stalled = anyio.Event()

        def choose(request: Request) -> Fault | None:
            if not request.purpose.endswith(purpose):
                return None
            stalled.set()
            return Fault.STALL

        async with evstore.open(proxy.config) as store:
            await store.create("Mesh", "default", spec={})
            proxy.choose = choose
            if purpose == "listener":
                return
            await stalled.wait()
            if purpose in {"writer", ""}:
                with pytest.raises(UnavailableError):
                    await store.create("Mesh", "other", spec={})
    assert len(await checked_history(postgres_config)) <= 2


async def test_an_opening_that_gets_no_answer_can_be_cancelled(
    postgres_config: Config, run: Run
) -> None:
    """Also while the writer's statements are prepared."""

    async def hold() -> None:
        async with evstore.open(proxy.config):
            pytest.fail("it was never answered")

    async with open_proxy(postgres_config) as proxy:
        struck = proxy.once(
            Fault.STALL,
            lambda each: each.purpose == "evstore writer" and each.raw[:1] == b"P",
        )
        opening = run(hold)
        await struck.wait()
        opening.cancel()
        with anyio.fail_after(5):
            # Nothing else comes out than the cancellation.
            await opening.ended()
        assert opening.task.cancelled() or opening.task.exception() is None


async def test_what_the_body_raises_comes_out_as_itself(
    postgres_config: Config,
) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with evstore.open(postgres_config):
            raise KeyError("mine")
    with pytest.raises(NotFoundError):
        async with evstore.open() as store:
            await store.get("Mesh", "default")
    with pytest.raises(asyncio.CancelledError):
        async with evstore.open(postgres_config):
            raise asyncio.CancelledError


async def test_an_anyio_scope_around_a_store_ends_it(postgres_config: Config) -> None:
    async with open_proxy(limited(postgres_config, append_timeout=0.4)) as proxy:
        proxy.once(Fault.STALL, is_append)
        with anyio.fail_after(5), anyio.move_on_after(0.2) as scope:
            async with evstore.open(proxy.config) as store:
                await store.create("Mesh", "default", spec={})
        assert scope.cancelled_caught


async def test_a_connection_that_is_given_up_while_it_is_prepared_is_closed(
    postgres_config: Config,
) -> None:
    """A short command may end before its listener has begun to listen."""
    connection = await connect(postgres_config.postgres, purpose="listener")
    wire = Wire(connection)
    asked = statements.prepared("asked", b"SELECT 1")
    preparing = asyncio.ensure_future(wire.prepare((asked,), seconds=30))
    await asyncio.sleep(0)
    preparing.cancel()
    with suppress(asyncio.CancelledError):
        await preparing
    await wire.aclose()
    assert connection.closed
