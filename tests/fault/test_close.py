"""The end of a store: what waits is appended, what comes later is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from evstore.errors import OutcomeUnknownError, UnavailableError
from fault.history import adjusted, checked_history, limited, until
from fault.proxy import Fault, open_proxy

if TYPE_CHECKING:
    from evstore import Config, Store

pytestmark = pytest.mark.fault


async def test_commands_that_wait_at_the_end_are_appended(
    postgres_config: Config,
) -> None:
    versions: list[int] = []

    async def create(store: Store, number: int) -> None:
        versions.append((await store.create("Mesh", f"m-{number}", spec={})).version)

    async with open_proxy(postgres_config) as proxy, anyio.create_task_group() as tasks:
        async with evstore.open(proxy.config) as store:
            struck = proxy.once(Fault.STALL, lambda request: request.is_append)
            tasks.start_soon(create, store, 0)
            await struck.wait()
            for number in range(1, 50):
                tasks.start_soon(create, store, number)
            await until(lambda: store._committer.unanswered == 50)

            async def release() -> None:
                await until(lambda: store._committer._closing)
                proxy.release()

            tasks.start_soon(release)
        await until(lambda: len(versions) == 50)
    assert sorted(versions) == list(range(1, 51))
    assert len(await checked_history(postgres_config)) == 50


async def test_commands_whose_callers_have_gone_do_not_hold_up_the_end(
    postgres_config: Config,
) -> None:
    # Nobody else wakes the committer.
    config = adjusted(postgres_config, notify=False, poll_interval=3600.0)
    async with open_proxy(config) as proxy, anyio.create_task_group() as tasks:
        async with evstore.open(proxy.config) as store:
            struck = proxy.once(Fault.STALL, lambda request: request.is_append)
            tasks.start_soon(lambda: store.create("Mesh", "sent", spec={}))
            await struck.wait()
            async with anyio.create_task_group() as callers:
                callers.start_soon(lambda: store.create("Mesh", "gone", spec={}))
                await until(lambda: len(store._committer._queue) == 1)
                callers.cancel_scope.cancel()

            async def release() -> None:
                await until(lambda: store._committer._closing)
                proxy.release()

            tasks.start_soon(release)
        assert not store._committer._abandoned
    assert [event.name for event in await checked_history(postgres_config)] == ["sent"]


@pytest.mark.timeout(20)
async def test_nobody_waits_at_the_end_for_a_log_that_is_only_read(
    postgres_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    config = limited(postgres_config, append_timeout=600.0)
    async with open_proxy(config) as proxy, evstore.open(proxy.config) as store:
        struck = proxy.once(Fault.STALL, lambda each: each.purpose.endswith("writer"))
        store._committer.nudge()
        await struck.wait()
    # That it was broken off is nothing to warn of.
    assert not caplog.records


@pytest.mark.parametrize("postgres", [False, True])
async def test_a_closed_store_answers_nothing_any_more(
    postgres_config: Config, *, postgres: bool
) -> None:
    async with evstore.open(postgres_config if postgres else None) as store:
        await store.create("Mesh", "default", spec={})
    with pytest.raises(UnavailableError):
        await store.create("Mesh", "other", spec={})
    # What is in memory may be out of date by now, and nothing would tell.
    with pytest.raises(UnavailableError):
        await store.get("Mesh", "default")
    with pytest.raises(UnavailableError):
        await store.list("Mesh")


async def test_what_cannot_be_appended_at_the_end_is_given_up_in_time(
    postgres_config: Config,
) -> None:
    results: dict[str, Exception] = {}

    async def create(store: Store, name: str) -> None:
        try:
            await store.create("Mesh", name, spec={})
        except UnavailableError as error:
            results[name] = error

    config = limited(postgres_config, append_timeout=0.4)
    async with open_proxy(config) as proxy, anyio.create_task_group() as tasks:
        with anyio.fail_after(8):
            async with evstore.open(proxy.config) as store:
                struck = proxy.once(Fault.LOSE_ANSWER, lambda each: each.is_append)
                tasks.start_soon(create, store, "sent")
                await struck.wait()
                proxy.down = True
                tasks.start_soon(create, store, "queued")
                await until(lambda: len(store._committer._queue) == 1)
        await until(lambda: len(results) == 2)
    assert isinstance(results["sent"], OutcomeUnknownError)
    assert not isinstance(results["queued"], OutcomeUnknownError)
    assert [event.name for event in await checked_history(postgres_config)] == ["sent"]


async def test_a_full_queue_refuses_at_once_and_takes_again_later(
    postgres_config: Config,
) -> None:
    config = limited(postgres_config, queue_commands_max=3)
    async with (
        open_proxy(config) as proxy,
        evstore.open(proxy.config) as store,
        anyio.create_task_group() as tasks,
    ):
        struck = proxy.once(Fault.STALL, lambda request: request.is_append)
        tasks.start_soon(lambda: store.create("Mesh", "in-flight", spec={}))
        await struck.wait()
        for number in range(3):
            tasks.start_soon(lambda n=number: store.create("Mesh", f"m-{n}", spec={}))
        await until(lambda: store._committer.unanswered == 4)
        with pytest.raises(UnavailableError, match="try again") as caught:
            await store.create("Mesh", "refused", spec={})
        assert caught.value.retryable
        proxy.release()
        await until(lambda: store._committer.unanswered == 0)
        await store.create("Mesh", "later", spec={})
    names = [event.name for event in await checked_history(postgres_config)]
    assert sorted(names) == ["in-flight", "later", "m-0", "m-1", "m-2"]
