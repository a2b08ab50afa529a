"""Pages of one listing come from one state; a token fits its listing alone."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

import evstore
from evstore import DivergedError, InvalidError, Key
from evstore.past.listing import LISTINGS_KEPT_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from evstore import Page, Store

NAMES = [f"n{number}" for number in range(7)]


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with evstore.open() as opened:
        await fill(opened)
        yield opened


async def fill(store: Store) -> None:
    async with store.transaction() as tx:
        for number, name in enumerate(NAMES):
            labels = {"even": str(number % 2 == 0)}
            tx.create("Zone", name, mesh="m", spec={"n": number}, labels=labels)


def names(page: Page[Any]) -> list[str]:
    return [item.name for item in page.items]


async def token_of(store: Store, **filters: Any) -> str:
    page = await store.list("Zone", page_size=2, **filters)
    assert page.next_page_token is not None
    return page.next_page_token


async def test_pages_follow_one_another_to_the_end(store: Store) -> None:
    page = await store.list("Zone", page_size=3)
    assert (names(page), page.total, page.position) == (NAMES[:3], 7, 7)
    page = await store.list("Zone", page_size=3, page_token=page.next_page_token)
    assert (names(page), page.total) == (NAMES[3:6], 7)
    page = await store.list("Zone", page_size=3, page_token=page.next_page_token)
    assert (names(page), page.next_page_token) == (NAMES[6:], None)


@pytest.mark.parametrize("size", [7, 8, None])
async def test_what_fits_is_one_page(store: Store, size: int | None) -> None:
    page = await store.list("Zone", page_size=size)
    assert (names(page), page.next_page_token) == (NAMES, None)


async def test_a_later_page_may_have_another_size(store: Store) -> None:
    token = await token_of(store)
    page = await store.list("Zone", page_token=token, page_size=4)
    assert names(page) == NAMES[2:6]
    assert names(await store.list("Zone", page_token=token)) == NAMES[2:]


@pytest.mark.parametrize("size", [0, -1])
async def test_a_page_has_at_least_one_resource(store: Store, size: int) -> None:
    with pytest.raises(InvalidError) as caught:
        await store.list("Zone", page_size=size)
    assert caught.value.path == "page_size"


@pytest.mark.parametrize("forgotten", [False, True])
async def test_pages_come_from_the_state_of_the_first(
    store: Store,
    forgotten: bool,  # noqa: FBT001
) -> None:
    token = await token_of(store)
    async with store.transaction() as tx:
        tx.delete("Zone", "n3", mesh="m")
        tx.create("Zone", "n4a", mesh="m", spec={})
        tx.update(Key(type="Zone", mesh="m", name="n5"), spec={"n": "new"})
    if forgotten:
        await crowd_out(store)
    page = await store.list("Zone", page_token=token)
    assert (names(page), page.total, page.position) == (NAMES[2:], 7, 7)
    assert page.items[3].spec == {"n": 5}


async def crowd_out(store: Store) -> None:
    """Begin so many listings that the first is no longer kept."""
    for number in range(LISTINGS_KEPT_MAX):
        keys = [Key(type="Zone", mesh="m", name=name) for name in NAMES]
        keys.append(Key(type="Zone", mesh="m", name=f"x{number}"))
        await store.list("Zone", keys=keys, page_size=1)


@pytest.mark.parametrize(
    "filters",
    [
        {"mesh": "m"},
        {"name_contains": "n"},
        {"labels": {"even": "True"}},
        {"keys": [Key(type="Zone", mesh="m", name=name) for name in NAMES[:5]]},
        {"where": lambda resource: resource.spec["n"] % 2 == 0},
        {"at": 7},
    ],
    ids=lambda filters: next(iter(filters)),
)
@pytest.mark.parametrize("forgotten", [False, True])
async def test_filters_hold_on_every_page(
    store: Store,
    filters: dict[str, Any],
    forgotten: bool,  # noqa: FBT001
) -> None:
    whole = await store.list("Zone", **filters)
    assert whole.total == len(whole.items)
    page = await store.list("Zone", page_size=2, **filters)
    found = names(page)
    while page.next_page_token is not None:
        if forgotten:
            await crowd_out(store)
        page = await store.list(
            "Zone", page_size=2, page_token=page.next_page_token, **filters
        )
        assert page.total == whole.total
        found += names(page)
    assert found == names(whole)


async def test_a_page_that_was_asked_for_twice_is_the_same_twice(store: Store) -> None:
    token = await token_of(store)
    first = await store.list("Zone", page_token=token, page_size=2)
    again = await store.list("Zone", page_token=token, page_size=2)
    assert first.items == again.items
    assert first.next_page_token == again.next_page_token


async def test_a_token_of_another_log_is_refused(store: Store) -> None:
    async with evstore.open() as other:
        await fill(other)
        token = await token_of(other)
    with pytest.raises(InvalidError, match="another log") as caught:
        await store.list("Zone", page_token=token)
    assert caught.value.path == "page_token"


@pytest.mark.parametrize(
    "filters",
    [
        {"mesh": ""},
        {"name_contains": "n1"},
        {"labels": {"even": "False"}},
        {"keys": [Key(type="Zone", mesh="m", name="n1")]},
        {"where": lambda _: True},
    ],
    ids=lambda filters: next(iter(filters)),
)
async def test_a_token_with_other_filters_is_refused(
    store: Store, filters: dict[str, Any]
) -> None:
    token = await token_of(store)
    with pytest.raises(InvalidError, match="other filters"):
        await store.list("Zone", page_token=token, **filters)
    with pytest.raises(InvalidError, match="other filters"):
        await store.list("Mesh", page_token=token)


ONE_STORE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@ONE_STORE
@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
@example("")
@example("é")
@example("====")
@example(base64.urlsafe_b64encode(b"\x96").decode())
async def test_what_is_no_token_is_refused(store: Store, token: str) -> None:
    with pytest.raises(InvalidError) as caught:
        await store.list("Zone", page_token=token)
    assert caught.value.path == "page_token"


@ONE_STORE
@given(
    field=st.integers(0, 5),
    value=st.none()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.sampled_from(["Zone/m/n1", "///", "Zone/m/n9", "a/b"]),
)
@example(field=1, value=2**63)
@example(field=1, value=2**64 - 1)
@example(field=1, value=3)
@example(field=1, value=8)
@example(field=1, value=0)
async def test_a_tampered_token_gives_an_error_or_a_page_of_that_state(
    store: Store, field: int, value: Any
) -> None:
    parts = msgspec.msgpack.decode(base64.urlsafe_b64decode(await token_of(store)))
    if field >= len(parts):
        return
    parts[field] = value
    token = base64.urlsafe_b64encode(msgspec.msgpack.encode(parts)).decode()
    try:
        page = await store.list("Zone", page_token=token)
    except (InvalidError, DivergedError):
        return
    # Only what comes after another key can be had: never half of a transaction.
    assert page.total == len(NAMES)
    assert page.position == 7
    assert names(page) == NAMES[len(NAMES) - len(page.items) :]


@pytest.mark.parametrize("contains", ["%", "_", "N1", ".*", "\\"])
async def test_a_part_of_a_name_is_taken_literally(store: Store, contains: str) -> None:
    assert (await store.list("Zone", name_contains=contains)).items == []


async def test_nothing_is_found_among_no_keys(store: Store) -> None:
    assert (await store.list("Zone", keys=[])).total == 0
    assert (await store.list("Zone", labels={})).total == len(NAMES)
