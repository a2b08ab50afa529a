"""What type checkers must accept; `make check` runs mypy and pyright over it."""

from collections.abc import Callable
from typing import Any, assert_type

import msgspec

import evstore
import evstore.blocking
from evstore.config import PostgresConfig


class Dataplane(msgspec.Struct):
    port: int


async def typed_specs(store: evstore.Store) -> None:
    resource = await store.get(Dataplane, "web", mesh="default")
    assert_type(resource, evstore.Resource[Dataplane])
    assert_type(resource.spec, Dataplane)
    changed = await store.update(resource, spec=Dataplane(port=81))
    assert_type(changed, evstore.Resource[Dataplane])


async def plain_specs(store: evstore.Store) -> None:
    resource = await store.get("Dataplane", "web")
    assert_type(resource, evstore.Resource[Any])
    page = await store.list("Dataplane", page_size=10)
    assert_type(page.next_page_token, str | None)
    async for event in store.watch(after=page.position):
        assert_type(event, evstore.Event)


async def transactions(store: evstore.Store) -> None:
    async with store.transaction(actor="alice") as tx:
        tx.create("Mesh", "default", spec={})
    assert_type(tx.results, list[evstore.Resource[Any] | None])


def threads() -> None:
    with evstore.blocking.open() as store:
        assert_type(store, evstore.blocking.Store)
        assert_type(store.position, int)
        for event in store.events():
            assert_type(event, evstore.Event)
        with store.transaction() as tx:
            tx.delete("Mesh", "default")
        assert_type(store.get(Dataplane, "web").spec, Dataplane)


class Tags(evstore.Projection[dict[str, list[str]]]):
    name = "tags"

    def initial(self) -> dict[str, list[str]]:
        return {}

    def fold(
        self, state: dict[str, list[str]], event: evstore.Event
    ) -> dict[str, list[str]]:
        state.setdefault(event.type, []).append(event.name)
        return state


async def projections() -> None:
    async with evstore.open(projections=[Tags()]) as store:
        assert_type(store.view(Tags), dict[str, list[str]])
    with evstore.blocking.open(projections=[Tags()]) as waiting:
        assert_type(waiting.view(Tags), dict[str, list[str]])


def passwords(read_token: Callable[[], str]) -> None:
    PostgresConfig(password=read_token())
    PostgresConfig(password=read_token)
