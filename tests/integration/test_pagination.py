"""All pages of one listing come from one state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import evstore
from evstore import Key
from evstore.errors import InvalidError

if TYPE_CHECKING:
    from evstore import Page, Resource, Store
    from integration.conftest import Backend


async def fill(store: Store, count: int = 10) -> None:
    async with store.transaction() as tx:
        for number in range(count):
            labels = {"even": str(number % 2 == 0)}
            tx.create("Zone", f"zone-{number:03}", spec={"n": number}, labels=labels)


async def rest(
    store: Store, page: Page[Any], page_size: int = 3, **filters: Any
) -> list[Resource[Any]]:
    """Return the items of a page and of all that follow it."""
    items = list(page.items)
    position, total = page.position, page.total
    while page.next_page_token is not None:
        page = await store.list(
            "Zone", page_size=page_size, page_token=page.next_page_token, **filters
        )
        assert page.items
        assert (page.position, page.total) == (position, total)
        items += page.items
    assert len(items) == total
    return items


async def change_everything(store: Store) -> None:
    await store.create("Zone", "aaa", spec={})
    await store.create("Zone", "zone-0045", spec={})
    await store.delete("Zone", "zone-004")
    await store.delete("Zone", "zone-009")
    await store.update(Key(type="Zone", name="zone-005"), spec={"n": -1})


async def test_pages_of_a_listing_come_from_one_state_while_it_changes(
    store: Store,
) -> None:
    await fill(store)
    expected = (await store.list("Zone")).items
    page = await store.list("Zone", page_size=3)
    assert [item.name for item in page.items] == ["zone-000", "zone-001", "zone-002"]
    await change_everything(store)
    assert await rest(store, page) == expected
    now = (await store.list("Zone")).items
    assert [item.name for item in now][:2] == ["aaa", "zone-000"]
    assert len(now) == 10


async def test_a_token_may_be_used_twice_and_with_another_size(store: Store) -> None:
    await fill(store)
    page = await store.list("Zone", page_size=3)
    await change_everything(store)
    expected = await rest(store, page)
    assert await rest(store, page, page_size=1) == expected
    assert await rest(store, page, page_size=100) == expected


async def test_a_token_goes_on_on_another_instance(store: Store, other: Store) -> None:
    await fill(store)
    expected = (await store.list("Zone")).items
    page = await store.list("Zone", page_size=3)
    await change_everything(store)
    assert await rest(other, page) == expected


async def test_a_token_goes_on_after_a_restart(backend: Backend) -> None:
    async with backend.open() as store:
        await fill(store)
        expected = (await store.list("Zone")).items
        page = await store.list("Zone", page_size=3)
        await change_everything(store)
    async with backend.open() as store:
        assert await rest(store, page) == expected


async def test_a_token_goes_on_after_many_other_listings(store: Store) -> None:
    await fill(store)
    page = await store.list("Zone", page_size=3)
    expected = (await store.list("Zone")).items
    for number in range(60):
        await store.list("Zone", page_size=1, name_contains=str(number % 10))
        await store.create("Zone", f"later-{number}", spec={})
    assert await rest(store, page) == expected


@pytest.mark.parametrize("here", [True, False])
async def test_a_listing_with_a_function_keeps_to_its_state(
    store: Store, other: Store, *, here: bool
) -> None:
    await fill(store)

    def where(resource: Resource[Any]) -> bool:
        return bool(resource.spec["n"] % 2 == 0)

    page = await store.list("Zone", page_size=2, where=where)
    assert page.total == 5
    await store.update(Key(type="Zone", name="zone-004"), spec={"n": 5})
    await store.update(Key(type="Zone", name="zone-005"), spec={"n": 4})
    items = await rest(store if here else other, page, page_size=2, where=where)
    assert [item.spec["n"] for item in items] == [0, 2, 4, 6, 8]


async def test_filters_hold_on_all_pages(store: Store) -> None:
    await fill(store)
    filters: dict[str, Any] = {"labels": {"even": "True"}, "name_contains": "zone-00"}
    page = await store.list("Zone", page_size=2, **filters)
    await change_everything(store)
    items = await rest(store, page, page_size=2, **filters)
    assert [item.spec["n"] for item in items] == [0, 2, 4, 6, 8]


async def test_a_listing_of_the_past_has_pages_too(store: Store) -> None:
    await fill(store)
    await change_everything(store)
    page = await store.list("Zone", page_size=3, at=10)
    assert page.position == 10
    assert [item.spec["n"] for item in await rest(store, page)] == list(range(10))


async def test_the_order_is_by_name_then_mesh(store: Store) -> None:
    for mesh, name in (("b", "x"), ("a", "y"), ("a", "x"), ("", "z"), ("c", "a")):
        await store.create("Dataplane", name, mesh=mesh, spec={})
    page = await store.list("Dataplane")
    found = [(item.name, item.mesh) for item in page.items]
    assert found == [("a", "c"), ("x", "a"), ("x", "b"), ("y", "a"), ("z", "")]
    token: str | None = None
    paged: list[tuple[str, str]] = []
    while True:
        one = await store.list("Dataplane", page_size=1, page_token=token)
        paged += [(item.name, item.mesh) for item in one.items]
        token = one.next_page_token
        if token is None:
            break
    assert paged == found


async def test_an_empty_listing_is_one_empty_page(store: Store) -> None:
    page = await store.list("Zone", page_size=3)
    assert (page.items, page.total, page.next_page_token) == ([], 0, None)
    await fill(store, 3)
    assert (await store.list("Zone", page_size=3)).next_page_token is None


@pytest.mark.parametrize(
    "token", ["", "x", "!!!!", "\ud800", "é", "AAAA", "a" * 10_000, "kw=="]
)
async def test_what_is_no_token_is_invalid(store: Store, token: str) -> None:
    await fill(store)
    with pytest.raises(InvalidError, match="page_token"):
        await store.list("Zone", page_token=token)


async def test_a_token_of_another_listing_is_invalid(store: Store) -> None:
    await fill(store)
    token = (await store.list("Zone", page_size=3)).next_page_token
    for filters in (
        {"mesh": "default"},
        {"labels": {"even": "True"}},
        {"name_contains": "z"},
        {"where": lambda _: True},
        {"keys": [Key(type="Zone", name="zone-000")]},
    ):
        with pytest.raises(InvalidError, match="page_token"):
            await store.list("Zone", page_token=token, **filters)
    with pytest.raises(InvalidError, match="page_token"):
        await store.list("Mesh", page_token=token)


async def test_a_token_of_another_log_is_invalid(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store)
    page = await store.list("Zone", page_size=3)
    monkeypatch.undo()  # from here on, a store in memory has a log of its own
    async with evstore.open() as stranger:
        await fill(stranger)
        token = (await stranger.list("Zone", page_size=3)).next_page_token
    assert page.next_page_token != token
    with pytest.raises(InvalidError, match="page_token"):
        await store.list("Zone", page_token=token)


@pytest.mark.parametrize("size", [0, -1])
async def test_a_page_has_at_least_one_resource(store: Store, size: int) -> None:
    with pytest.raises(InvalidError, match="page_size"):
        await store.list("Zone", page_size=size)
