"""Events that the database refuses do not fail their neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from evstore.commit.changes import Command, Create
from evstore.commit.live import LiveState
from evstore.errors import InvalidError, StoreError
from fault.history import checked_history, connected, until
from fault.proxy import Fault, open_proxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from evstore import Config, Store

pytestmark = pytest.mark.fault


async def _together(
    config: Config, calls: dict[str, Callable[[Store], Awaitable[object]]]
) -> dict[str, object]:
    """Make calls that meet in one batch; return what each returned or raised."""
    results: dict[str, object] = {}

    async def call(name: str, store: Store) -> None:
        try:
            results[name] = await calls[name](store)
        except StoreError as error:
            results[name] = error

    async with (
        open_proxy(config) as proxy,
        evstore.open(proxy.config) as store,
        anyio.create_task_group() as tasks,
    ):
        struck = proxy.once(Fault.STALL, lambda request: request.is_append)
        tasks.start_soon(lambda: store.create("Mesh", "first", spec={}))
        await struck.wait()
        for name in calls:
            tasks.start_soon(call, name, store)
        await until(lambda: len(store._committer._queue) == len(calls))
        proxy.release()
        with anyio.fail_after(10):
            await until(lambda: len(results) == len(calls))
        # The store lives on.
        await store.create("Mesh", "last", spec={})
    return results


def _create(name: str) -> Callable[[Store], Awaitable[object]]:
    return lambda store: store.create("Mesh", name, spec={})


@pytest.mark.parametrize("in_turns", [False, True])
async def test_a_refused_event_fails_alone(
    postgres_config: Config, monkeypatch: pytest.MonkeyPatch, *, in_turns: bool
) -> None:
    if in_turns:
        monkeypatch.setattr(LiveState, "contended", True)
    async with connected(postgres_config) as owner:
        await owner.execute(
            "ALTER TABLE evstore.events ADD CONSTRAINT poison CHECK (name <> 'poison')"
        )

    async def transaction(store: Store) -> None:
        async with store.transaction() as tx:
            tx.create("Zone", "innocent", spec={})
            tx.create("Zone", "poison", spec={})

    results = await _together(
        postgres_config,
        {
            "a": _create("a"),
            "poison": _create("poison"),
            "b": _create("b"),
            "transaction": transaction,
            "c": _create("c"),
        },
    )
    assert isinstance(results["poison"], InvalidError)
    assert isinstance(results["transaction"], InvalidError)
    events = await checked_history(postgres_config)
    assert [event.name for event in events] == ["first", "a", "b", "c", "last"]


SMUGGLED = {
    "no JSON": Command(changes=(Create(key="Mesh//guilty", spec=b'{"a"'),)),
    "a NUL in a text": Command(
        changes=(Create(key="Mesh//guilty", spec=b"{}"),), actor="nul\0"
    ),
    "a NUL in the body": Command(changes=(Create(key="Mesh//guilty", spec=b'"\0"'),)),
    "a body that is not UTF-8": Command(
        changes=(Create(key="Mesh//guilty", spec=b'"\xff"'),)
    ),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("content", SMUGGLED)
async def test_content_smuggled_past_validation_fails_alone(
    postgres_config: Config, content: str
) -> None:
    command = SMUGGLED[content]
    results = await _together(
        postgres_config,
        {
            "a": _create("a"),
            "guilty": lambda store: store._committer.submit(command),
            "b": _create("b"),
        },
    )
    assert isinstance(results["guilty"], InvalidError)
    events = await checked_history(postgres_config)
    assert [event.name for event in events] == ["first", "a", "b", "last"]
