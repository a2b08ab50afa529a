"""The past: resources and listings as they were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from evstore import Key
from evstore.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from evstore import Store

WEST = Key(type="Zone", name="west")


async def fill(store: Store) -> None:
    west = await store.create("Zone", "west", spec={"n": 1})  # 1
    west = await store.update(west, spec={"n": 2})  # 2
    async with store.transaction() as tx:
        tx.update(WEST, spec={"n": 3})  # 3
        tx.create("Zone", "east", spec={})  # 4
        tx.update(WEST, spec={"n": 5})  # 5
    await store.delete("Zone", "west")  # 6
    await store.create("Zone", "west", spec={"n": 7})  # 7


async def names(store: Store, at: int | datetime) -> list[str]:
    return [item.name for item in (await store.list("Zone", at=at)).items]


async def test_a_resource_is_had_as_it_was(store: Store) -> None:
    await fill(store)
    first = await store.get("Zone", "west", at=1)
    assert (first.version, first.spec, first.created_version) == (1, {"n": 1}, 1)
    second = await store.get("Zone", "west", at=2)
    assert (second.version, second.spec, second.created_version) == (2, {"n": 2}, 1)
    assert second.created_at == first.created_at == first.modified_at
    assert second.modified_at > second.created_at
    with pytest.raises(NotFoundError):
        await store.get("Zone", "west", at=6)
    again = await store.get("Zone", "west", at=7)
    assert (again.spec, again.created_version) == ({"n": 7}, 7)
    with pytest.raises(NotFoundError):
        await store.get("Zone", "west", at=0)


async def test_the_past_is_the_state_that_was_handed_out_then(store: Store) -> None:
    handed: dict[int, object] = {}
    west = await store.create("Zone", "west", spec={"n": 0}, labels={"a": "b"})
    for number in range(1, 5):
        handed[store.position] = await store.get("Zone", "west")
        west = await store.update(west, spec={"n": number}, status={"n": number})
    for position, resource in handed.items():
        then = await store.get("Zone", "west", at=position)
        assert then == resource
        assert then.labels == {"a": "b"}


@pytest.mark.parametrize("at", [3, 4, 5])
async def test_a_position_inside_a_transaction_means_all_of_it(
    store: Store, at: int
) -> None:
    await fill(store)
    west = await store.get("Zone", "west", at=at)
    assert (west.version, west.commit, west.spec) == (5, 5, {"n": 5})
    page = await store.list("Zone", at=at)
    assert page.position == 5
    assert [item.name for item in page.items] == ["east", "west"]


async def test_a_listing_is_had_as_it_was(store: Store, other: Store) -> None:
    await fill(store)
    for each in (store, other):
        assert await names(each, 0) == []
        assert await names(each, 2) == ["west"]
        assert await names(each, 5) == ["east", "west"]
        assert await names(each, 6) == ["east"]
        assert await names(each, 7) == ["east", "west"]


async def test_a_time_means_the_last_event_not_after_it(store: Store) -> None:
    await fill(store)
    events = [event async for event in store.events()]
    for event in events:
        page = await store.list("Zone", at=event.recorded_at)
        assert page.position == event.commit
    before = events[1].recorded_at - timedelta(microseconds=1)
    assert (await store.get("Zone", "west", at=before)).version == 1
    assert await names(store, events[0].recorded_at - timedelta(seconds=1)) == []
    assert await names(store, datetime(1970, 1, 1, tzinfo=UTC)) == []
    # The zone that it is written in does not matter.
    elsewhere = events[1].recorded_at.astimezone(timezone(timedelta(hours=-7)))
    assert (await store.get("Zone", "west", at=elsewhere)).version == 2


async def test_beyond_the_head_is_invalid_and_names_the_head(store: Store) -> None:
    await fill(store)
    for at in (8, 2**63 - 1):
        with pytest.raises(InvalidError, match=r"head.* 7\b"):
            await store.get("Zone", "west", at=at)
        with pytest.raises(InvalidError, match=r"head.* 7\b"):
            await store.list("Zone", at=at)


@pytest.mark.parametrize("at", [-1, 2**64, True])
async def test_what_is_no_position_is_invalid(store: Store, at: int) -> None:
    await fill(store)
    with pytest.raises(InvalidError, match="at"):
        await store.get("Zone", "west", at=at)


async def test_the_future_is_invalid(store: Store) -> None:
    await fill(store)
    last = [event async for event in store.events()][-1]
    with pytest.raises(InvalidError, match="future"):
        await store.get("Zone", "west", at=last.recorded_at + timedelta(hours=1))
    with pytest.raises(InvalidError):
        await store.get("Zone", "west", at=datetime.max.replace(tzinfo=UTC))


async def test_a_naive_datetime_is_invalid(store: Store) -> None:
    await fill(store)
    naive = datetime(2024, 1, 1)  # noqa: DTZ001 - that is the point
    with pytest.raises(InvalidError, match="time zone"):
        await store.get("Zone", "west", at=naive)
    with pytest.raises(InvalidError, match="time zone"):
        await store.list("Zone", at=naive)
    with pytest.raises(InvalidError, match="time zone"):
        [event async for event in store.events(since=naive)]
    with pytest.raises(InvalidError, match="time zone"):
        [event async for event in store.events(until=naive)]


async def test_filters_apply_to_the_past(store: Store) -> None:
    west = await store.create("Zone", "west", spec={}, labels={"a": "1"})
    await store.update(west, labels={"a": "2"})
    assert (await store.list("Zone", at=1, labels={"a": "1"})).total == 1
    assert (await store.list("Zone", at=2, labels={"a": "1"})).total == 0
    assert (await store.list("Zone", at=2, name_contains="es")).total == 1
    assert (await store.list("Zone", at=2, where=lambda _: False)).total == 0


async def test_the_past_of_another_mesh_is_another(store: Store) -> None:
    for mesh in ("a", "b"):
        await store.create("Dataplane", "web", mesh=mesh, spec={"mesh": mesh})
    await store.delete("Dataplane", "web", mesh="a")
    assert (await store.get("Dataplane", "web", mesh="a", at=2)).spec == {"mesh": "a"}
    page = await store.list("Dataplane", mesh="b", at=3)
    assert [item.mesh for item in page.items] == ["b"]
