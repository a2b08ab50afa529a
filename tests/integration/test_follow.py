"""Two stores on one log: what one appends, the other has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

import evstore
from evstore import Key
from evstore.errors import InvalidError, NotFoundError, UnavailableError
from fault.history import adjusted, limited, until
from fault.proxy import open_proxy
from integration.conftest import Backend

if TYPE_CHECKING:
    from evstore import Config, Store

WEST = Key(type="Zone", name="west")


@pytest.fixture(params=["notified", "polling"])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "notified":
        # Only the notification can be so quick.
        return {"notify": True, "poll_interval": 3600.0}
    return {"notify": False, "poll_interval": 0.02}


async def test_a_store_follows_another(
    backend: Backend, settings: dict[str, Any]
) -> None:
    async with backend.open(**settings) as one, backend.open(**settings) as two:
        zone = await one.create("Zone", "west", spec={"n": 1})
        await until(lambda: two.position == 1)
        assert await two.get("Zone", "west") == zone
        await two.update(zone, spec={"n": 2})
        await two.create("Zone", "east", spec={})
        await until(lambda: one.position == 3)
        assert one.digest() == two.digest()
        await one.delete("Zone", "west")
        await until(lambda: two.position == 4)
        with pytest.raises(NotFoundError):
            await two.get("Zone", "west")
        assert one.digest() == two.digest()


async def test_many_changes_from_both_sides_end_in_one_state(
    backend: Backend, settings: dict[str, Any]
) -> None:
    async def write(store: Store, prefix: str) -> None:
        for number in range(30):
            zone = await store.create("Zone", f"{prefix}-{number}", spec={})
            await store.update(zone, spec={"n": number})
            if number % 3 == 0:
                await store.delete("Zone", f"{prefix}-{number}")

    async with backend.open(**settings) as one, backend.open(**settings) as two:
        async with anyio.create_task_group() as tasks:
            for store, prefix in ((one, "a"), (two, "b"), (one, "c"), (two, "d")):
                tasks.start_soon(write, store, prefix)
        await until(lambda: one.position == two.position == 280)
        assert one.digest() == two.digest()


@pytest.fixture
def deaf(postgres_config: Config) -> Backend:
    """Return where stores live that hear of nothing by themselves."""
    config = adjusted(postgres_config, notify=False, poll_interval=3600.0)
    return Backend("postgres", config)


async def test_a_consistent_get_has_what_another_store_wrote(deaf: Backend) -> None:
    async with deaf.open() as one, deaf.open() as two:
        zone = await one.create("Zone", "west", spec={"n": 1})
        with pytest.raises(NotFoundError):
            await two.get("Zone", "west")
        assert await two.get("Zone", "west", consistent=True) == zone
        await one.delete("Zone", "west")
        assert await two.get("Zone", "west") == zone
        with pytest.raises(NotFoundError):
            await two.get("Zone", "west", consistent=True)


async def test_a_consistent_list_has_what_another_store_wrote(deaf: Backend) -> None:
    async with deaf.open() as one, deaf.open() as two:
        for number in range(20):
            await one.create("Zone", f"zone-{number}", spec={})
            page = await two.list("Zone", consistent=True)
            assert (page.total, page.position) == (number + 1, number + 1)
        await one.delete("Zone", "zone-0")
        assert (await two.list("Zone")).total == 20
        assert (await two.list("Zone", consistent=True)).total == 19


async def test_a_read_waits_for_the_version_that_it_is_given(backend: Backend) -> None:
    settings = {"notify": False, "poll_interval": 0.1}
    async with backend.open(**settings) as one, backend.open(**settings) as two:
        for number in range(5):
            zone = await one.create("Zone", f"zone-{number}", spec={})
            version = zone.version
            assert await two.get("Zone", zone.name, min_version=version) == zone
        zone = await one.create("Zone", "last", spec={})
        page = await two.list("Zone", min_version=zone.version)
        assert (page.total, page.position) == (6, 6)


async def test_a_version_that_does_not_come_is_waited_for_in_bounds(
    backend: Backend,
) -> None:
    bounded = Backend(backend.name, limited(backend.config, command_timeout=0.1))
    async with bounded.open() as store:
        await store.create("Zone", "west", spec={})
        assert (await store.get("Zone", "west", min_version=1)).version == 1
        with pytest.raises(UnavailableError, match="position 2 was not reached"):
            await store.get("Zone", "west", min_version=2)
        with pytest.raises(UnavailableError, match="position 2 was not reached"):
            await store.list("Zone", min_version=2)
        with pytest.raises(InvalidError, match="min_version"):
            await store.get("Zone", "west", min_version=-1)


async def test_without_notifications_the_log_is_looked_at_often_while_events_come(
    postgres_config: Config,
) -> None:
    """And rarely while none do: the pause doubles up to the longest."""
    config = adjusted(postgres_config, notify=False, poll_interval=0.8)
    async with evstore.open(config) as store:
        log, waited = store._log, list[float]()
        wait = log.wait

        async def noted(after: int, *, seconds: float) -> None:
            waited.append(seconds)
            await wait(after, seconds=seconds)

        log.wait = noted  # type: ignore[method-assign]
        await until(lambda: bool(waited) and waited[-1] == 0.8)
        waited.clear()
        async with evstore.open(config) as other:
            await other.create("Zone", "west", spec={})
        await until(lambda: 0.05 in waited)
        await until(lambda: waited[-1] == 0.8)
    quick = waited[waited.index(0.05) :]
    assert quick[:5] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8])


async def test_many_consistent_reads_at_once_are_all_consistent(deaf: Backend) -> None:
    async with deaf.open() as one, deaf.open() as two:

        async def check(number: int) -> None:
            await one.create("Zone", f"zone-{number}", spec={})
            await two.get("Zone", f"zone-{number}", consistent=True)

        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(check, number)


async def test_a_store_reads_what_it_wrote(backend: Backend) -> None:
    async with backend.open() as store:
        zone = await store.create("Zone", "west", spec={"n": 0})
        for number in range(1, 20):
            zone = await store.update(zone, spec={"n": number})
            assert await store.get("Zone", "west") == zone
            assert (await store.list("Zone")).items == [zone]
            assert store.position == zone.version
        await store.delete("Zone", "west")
        with pytest.raises(NotFoundError):
            await store.get("Zone", "west")


async def test_a_store_that_starts_later_has_everything(backend: Backend) -> None:
    async with backend.open() as one:
        for number in range(10):
            await one.create("Zone", f"zone-{number}", spec={"n": number})
        async with backend.open() as two:
            assert (two.position, two.digest()) == (one.position, one.digest())
            assert two.identity == one.identity


async def test_a_store_that_lost_its_listener_still_follows(
    postgres_config: Config,
) -> None:
    config = adjusted(postgres_config, poll_interval=0.05)
    async with open_proxy(config) as proxy:
        one = Backend("postgres", postgres_config)
        two = Backend("postgres", proxy.config)
        async with one.open() as writer, two.open() as reader:
            proxy.down = True
            proxy.cut_all()
            await writer.create("Zone", "west", spec={})
            assert reader.position == 0
            proxy.down = False
            await until(lambda: reader.position == 1)


async def test_opening_and_following_append_nothing(backend: Backend) -> None:
    async with backend.open(heartbeat_interval=0.01) as one:
        async with backend.open(heartbeat_interval=0.01) as two:
            with anyio.fail_after(10):
                while len(await two.instances()) < 2:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
        assert await one.head() == 0
