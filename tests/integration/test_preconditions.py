"""A version names one state of one incarnation of a resource in one log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import evstore
from evstore import Key
from evstore.errors import (
    AlreadyExistsError,
    ConflictError,
    DivergedError,
    NotFoundError,
)
from fault.history import adjusted, superuser, until

if TYPE_CHECKING:
    from evstore import Config, Store

WEST = Key(type="Zone", name="west")


async def test_a_changed_resource_is_a_conflict_that_names_both_versions(
    store: Store,
) -> None:
    old = await store.create("Zone", "west", spec={})
    new = await store.update(old, spec={"n": 1})
    with pytest.raises(ConflictError) as caught:
        await store.update(old, spec={"n": 2})
    assert caught.value.expected == old.version == 1
    assert caught.value.actual == new.version == 2
    assert caught.value.key == WEST


async def test_a_deleted_resource_is_a_conflict_for_its_holder(store: Store) -> None:
    old = await store.create("Zone", "west", spec={})
    await store.delete("Zone", "west")
    with pytest.raises(ConflictError) as caught:
        await store.update(old, spec={})
    assert caught.value.actual is None
    with pytest.raises(ConflictError):
        await store.delete("Zone", "west", version=old)
    with pytest.raises(NotFoundError):
        await store.update(WEST, spec={})
    with pytest.raises(NotFoundError):
        await store.delete("Zone", "west")


async def test_a_stale_holder_never_hits_a_later_incarnation(store: Store) -> None:
    old = await store.create("Zone", "west", spec={"n": 1})
    await store.delete("Zone", "west")
    new = await store.create("Zone", "west", spec={"n": 1})
    assert (new.version, new.created_version) == (3, 3)
    for attempt in (
        lambda: store.update(old, spec={"n": 2}),
        lambda: store.delete("Zone", "west", version=old),
        lambda: store.delete("Zone", "west", version=old.version),
        lambda: store.get("Zone", "west", version=old.version),
    ):
        with pytest.raises(ConflictError):
            await attempt()
    assert await store.get("Zone", "west") == new


async def test_a_conflict_appends_nothing(store: Store) -> None:
    old = await store.create("Zone", "west", spec={})
    await store.update(old, spec={"n": 1})
    with pytest.raises(ConflictError):
        await store.update(old, spec={"n": 2})
    with pytest.raises(AlreadyExistsError):
        await store.create("Zone", "west", spec={})
    assert await store.head() == 2


async def test_a_no_op_update_of_a_stale_version_is_a_conflict(store: Store) -> None:
    old = await store.create("Zone", "west", spec={"n": 1})
    new = await store.update(old, spec={"n": 2})
    with pytest.raises(ConflictError):
        await store.update(old, spec={"n": 2})
    assert (await store.update(new, spec={"n": 2})).version == new.version


async def test_one_of_two_stores_wins(store: Store, other: Store) -> None:
    first = await store.create("Zone", "west", spec={})
    same = await other.get("Zone", "west", consistent=True)
    assert same == first
    await store.update(first, spec={"by": "store"})
    with pytest.raises(ConflictError):
        await other.update(same, spec={"by": "other"})
    assert (await other.get("Zone", "west")).spec == {"by": "store"}


async def test_the_version_that_is_asked_for_is_checked(store: Store) -> None:
    created = await store.create("Zone", "west", spec={})
    assert await store.get("Zone", "west", version=1) == created
    with pytest.raises(ConflictError):
        await store.get("Zone", "west", version=2)
    await store.delete("Zone", "west", version=1)


async def test_a_resource_of_another_log_is_a_conflict() -> None:
    async with evstore.open() as one, evstore.open() as two:
        foreign = await one.create("Zone", "west", spec={})
        own = await two.create("Zone", "west", spec={})
        assert foreign.version == own.version
        with pytest.raises(ConflictError):
            await two.update(foreign, spec={"n": 1})
        with pytest.raises(ConflictError):
            await two.delete("Zone", "west", version=foreign)


async def test_an_owner_of_another_log_is_not_found() -> None:
    async with evstore.open() as one, evstore.open() as two:
        foreign = await one.create("Mesh", "default", spec={})
        own = await two.create("Mesh", "default", spec={})
        assert foreign.version == own.version
        with pytest.raises(NotFoundError):
            await two.create("Zone", "west", spec={}, owner=foreign)


async def test_positions_issued_again_after_a_lost_tail_do_not_match(
    postgres_config: Config,
) -> None:
    config = adjusted(postgres_config, poll_interval=0.02)
    async with evstore.open(config) as store:
        await store.create("Mesh", "default", spec={})
        lost = await store.create("Zone", "west", spec={"n": 1})
        async with superuser(config) as admin, admin.transaction():
            await admin.execute("DROP TRIGGER append_only_rows ON evstore.events")
            await admin.execute("DELETE FROM evstore.events WHERE position > 1")
        await until(lambda: store.position == 1)
        again = await store.create("Zone", "west", spec={"n": 2})
        assert again.version == lost.version == 2
        with pytest.raises((ConflictError, DivergedError)):
            await store.update(lost, spec={"n": 3})
        with pytest.raises((ConflictError, DivergedError)):
            await store.delete("Zone", "west", version=lost)
        assert await store.get("Zone", "west") == again
        assert again != lost
