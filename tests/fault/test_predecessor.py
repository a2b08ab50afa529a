"""A log that lost its end, and another log behind the same address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from evstore.errors import DivergedError, NotFoundError, UnavailableError
from fault.history import adjusted, checked_history, connected, superuser, until
from fault.proxy import open_proxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from evstore import Config, Resource, Store
    from evstore.embedded import EmbeddedServer

pytestmark = pytest.mark.fault


async def lose_tail(config: Config, *, after: int) -> None:
    """Remove the last events, as a failover to a server that lags behind does."""
    async with superuser(config) as admin, admin.transaction():
        await admin.execute("DROP TRIGGER append_only_rows ON evstore.events")
        await admin.execute("DELETE FROM evstore.events WHERE position > %s", (after,))


async def at_last(call: Callable[[], Awaitable[Resource[object]]]) -> Resource[object]:
    """Return what a call returns once the store has got over the divergence."""
    with anyio.fail_after(10):
        while True:
            try:
                return await call()
            except (DivergedError, UnavailableError):
                await anyio.sleep(0.01)


async def _filled(store: Store) -> None:
    for number in range(1, 4):
        await store.create("Mesh", f"mesh-{number}", spec={})


def _deaf(config: Config) -> Config:
    return adjusted(config, notify=False, poll_interval=3600.0)


async def test_a_writer_makes_no_gap_behind_a_lost_tail(
    postgres_config: Config,
) -> None:
    async with evstore.open(_deaf(postgres_config)) as store:
        await _filled(store)
        await lose_tail(postgres_config, after=1)
        with pytest.raises(DivergedError):
            await store.create("Mesh", "mesh-4", spec={})
        assert await store.head() == 1
        created = await at_last(lambda: store.create("Mesh", "mesh-5", spec={}))
        assert created.version == 2
        # The state was rebuilt: what the log lost is gone here too.
        with pytest.raises(NotFoundError):
            await store.get("Mesh", "mesh-3")
        digest = store.digest()
    events = await checked_history(postgres_config)
    assert [event.name for event in events] == ["mesh-1", "mesh-5"]
    async with evstore.open(postgres_config) as store:
        assert store.digest() == digest


class MeshNames(evstore.Projection[list[str]]):
    """All names, in order; cannot take one of them."""

    name = "mesh-names"

    def initial(self) -> list[str]:
        return []

    def fold(self, state: list[str], event: evstore.Event) -> list[str]:
        if event.name == "mesh-3":
            raise ValueError
        state.append(event.name)
        return state


async def test_projections_are_folded_anew_behind_a_lost_tail(
    postgres_config: Config,
) -> None:
    projections = [MeshNames()]
    async with evstore.open(_deaf(postgres_config), projections=projections) as store:
        await _filled(store)
        with pytest.raises(evstore.SchemaError, match="at position 3"):
            store.view(MeshNames)
        await store.health()
        await lose_tail(postgres_config, after=1)
        with pytest.raises(DivergedError):
            await store.create("Mesh", "mesh-4", spec={})
        await at_last(lambda: store.create("Mesh", "mesh-5", spec={}))
        assert store.view(MeshNames) == ["mesh-1", "mesh-5"]
        # What was lost is not held against those who have what came in its place.
        async with evstore.open(postgres_config) as other:
            await until(lambda: other._vitals._presence.beaten_at is not None)
            assert (await store.health()).drift == ()


async def test_a_writer_does_not_follow_positions_that_were_issued_again(
    postgres_config: Config,
) -> None:
    async with evstore.open(_deaf(postgres_config)) as store:
        await _filled(store)
        await lose_tail(postgres_config, after=1)
        async with evstore.open(postgres_config) as other:
            for name in ("a", "b", "c"):
                await other.create("Zone", name, spec={})
            digest = other.digest()
        with pytest.raises(DivergedError):
            await store.create("Mesh", "mesh-4", spec={})
        await until(lambda: store.digest() == digest)
        assert store.position == 4
    assert len(await checked_history(postgres_config)) == 4


async def test_verdicts_without_events_see_that_the_log_lost_its_tail(
    postgres_config: Config,
) -> None:
    async with evstore.open(_deaf(postgres_config)) as store:
        await _filled(store)
        await lose_tail(postgres_config, after=1)
        with pytest.raises(DivergedError):
            await store.create("Mesh", "mesh-3", spec={})


async def test_a_consistent_read_sees_nothing_of_a_lost_tail(
    postgres_config: Config,
) -> None:
    async with evstore.open(_deaf(postgres_config)) as store:
        await _filled(store)
        await lose_tail(postgres_config, after=1)
        with pytest.raises(NotFoundError):
            await store.get("Mesh", "mesh-3", consistent=True)
        page = await store.list("Mesh", consistent=True)
        assert (page.total, page.position) == (1, 1)


async def test_a_consistent_read_sees_what_was_issued_again(
    postgres_config: Config,
) -> None:
    async with evstore.open(_deaf(postgres_config)) as store:
        await _filled(store)
        await lose_tail(postgres_config, after=1)
        async with evstore.open(postgres_config) as other:
            for name in ("a", "b"):
                await other.create("Zone", name, spec={})
        # The head is where it was, and another.
        assert (await store.get("Zone", "b", consistent=True)).version == 3
        with pytest.raises(NotFoundError):
            await store.get("Mesh", "mesh-3")


async def test_watchers_are_told_that_the_log_lost_its_tail(
    postgres_config: Config,
) -> None:
    config = adjusted(postgres_config, poll_interval=0.02)
    async with evstore.open(config) as store, anyio.create_task_group() as tasks:
        await _filled(store)
        told: list[int] = []
        seen: list[int] = []

        async def watch(after: int) -> None:
            try:
                async for event in store.watch(after=after):
                    seen.append(event.position)  # noqa: PERF401 - looked at below
            except DivergedError:
                told.append(after)

        for after in (0, 3):
            tasks.start_soon(watch, after)
        await until(lambda: seen == [1, 2, 3])
        await lose_tail(postgres_config, after=1)
        # Nobody writes: the store finds it out by itself.
        await until(lambda: len(told) == 2)
        await until(lambda: store.position == 1)
        assert (await store.create("Mesh", "mesh-4", spec={})).version == 2
        async for event in store.watch(after=1):
            assert (event.position, event.name) == (2, "mesh-4")
            break
    assert len(await checked_history(postgres_config)) == 2


async def _other_log(config: Config, server: EmbeddedServer, template: str) -> Config:
    """Return the configuration of another log on the same server."""
    name = f"{config.postgres.db_name}_other"
    server.create_database(name, template=template)
    other = server.config(name)
    async with connected(other) as owner:
        await owner.execute("UPDATE evstore.log SET id = gen_random_uuid()")
    async with evstore.open(other) as store:
        for name in ("a", "b", "c", "d"):
            await store.create("Zone", name, spec={})
    return other


async def test_another_log_behind_the_same_address_is_not_followed(
    postgres_config: Config, server: EmbeddedServer, migrated_template: str
) -> None:
    other = await _other_log(postgres_config, server, migrated_template)
    config = adjusted(postgres_config, poll_interval=0.02)
    async with (
        open_proxy(config) as proxy,
        evstore.open(proxy.config) as store,
        anyio.create_task_group() as tasks,
    ):
        await _filled(store)
        told: list[str] = []

        async def watch() -> None:
            with pytest.raises(DivergedError):
                await anext(store.watch(after=3))
            told.append("diverged")

        tasks.start_soon(watch)
        proxy.database = other.postgres.db_name
        proxy.cut_all()
        await until(lambda: bool(told))
        with pytest.raises(DivergedError):
            await store.create("Mesh", "mesh-4", spec={})
        with pytest.raises(DivergedError):
            await store.update(await store.get("Mesh", "mesh-3"), spec={"n": 1})
        assert store.position == 3
        # The first log comes back, and the store goes on with it.
        proxy.database = postgres_config.postgres.db_name
        proxy.cut_all()
        created = await at_last(lambda: store.create("Mesh", "mesh-5", spec={}))
        assert created.version == 4
    assert len(await checked_history(postgres_config)) == 4
    assert len(await checked_history(other)) == 4
    server.drop_database(other.postgres.db_name)


async def test_the_past_is_not_read_from_another_log(
    postgres_config: Config, server: EmbeddedServer, migrated_template: str
) -> None:
    other = await _other_log(postgres_config, server, migrated_template)
    async with (
        open_proxy(postgres_config) as proxy,
        evstore.open(proxy.config) as store,
    ):
        await _filled(store)
        proxy.database = other.postgres.db_name
        proxy.cut_all()
        with pytest.raises(DivergedError):
            await store.head()
        with pytest.raises(DivergedError):
            await store.list("Zone", at=3)
        with pytest.raises(DivergedError):
            [event async for event in store.events()]
    server.drop_database(other.postgres.db_name)


async def test_a_bookmark_of_a_lost_tail_diverges(postgres_config: Config) -> None:
    async with evstore.open(postgres_config) as store:
        await _filled(store)
        bookmarks = [event.bookmark async for event in store.events()]
    await lose_tail(postgres_config, after=1)
    async with evstore.open(postgres_config) as store:
        for bookmark, told in ((bookmarks[2], "has not"), (bookmarks[1], "has not")):
            with pytest.raises(DivergedError, match=told):
                await anext(store.watch(after=bookmark))
        # Position 2 is issued again, and is not what the bookmark means.
        await store.create("Mesh", "again", spec={})
        with pytest.raises(DivergedError, match="another event"):
            await anext(store.watch(after=bookmarks[1]))
        event = await anext(store.watch(after=bookmarks[0]))
        assert event.name == "again"
