"""Reverts: one new transaction, computed against what is there now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest

import evstore
from evstore import (
    ConflictError,
    InvalidError,
    Key,
    NotFoundError,
    Operation,
    Store,
)

if TYPE_CHECKING:
    from integration.conftest import Backend

KEY = Key(type="Dataplane", mesh="m", name="web")


async def content(store: Store) -> dict[str, tuple[Any, ...]]:
    """Return what there is, less versions and times."""
    found: dict[str, tuple[Any, ...]] = {}
    for type_ in ("Mesh", "Dataplane", "Secret"):
        for each in (await store.list(type_)).items:
            whole = (each.spec, each.status, each.labels, each.owner)
            found[str(each.key)] = whole
    return found


async def update(store: Store, **spec: Any) -> int:
    """Change the resource's spec; return the version."""
    return (await store.update(KEY, spec=spec)).version


@pytest.fixture
async def mesh(store: Store) -> evstore.Resource[Any]:
    return await store.create("Mesh", "m", spec={})


@pytest.fixture
async def web(store: Store, mesh: evstore.Resource[Any]) -> evstore.Resource[Any]:
    return await store.create(
        "Dataplane",
        "web",
        mesh="m",
        spec={"port": 1, "tags": ["a", "b"]},
        labels={"l": "1"},
        status={"up": True},
        owner=mesh,
    )


@pytest.mark.usefixtures("web")
async def test_the_last_transaction_is_taken_back_whole(store: Store) -> None:
    before = await content(store)
    async with store.transaction() as tx:
        tx.update(KEY, spec={"port": 2}, labels={}, status=None)
        tx.create(
            "Dataplane", "new", mesh="m", spec={}, owner=Key(type="Mesh", name="m")
        )
    done = await store.revert(commit=store.position)
    assert await content(store) == before
    assert done.commit == store.position
    assert [(each.key.name, each.operation) for each in done.changes] == [
        ("web", Operation.UPDATED),
        ("new", Operation.DELETED),
    ]
    assert done.changes[0].after == await store.get("Dataplane", "web", mesh="m")
    # And taking that back brings it again.
    await store.revert(commit=store.position)
    assert (await store.get("Dataplane", "web", mesh="m")).spec == {"port": 2}
    assert (await store.get("Dataplane", "new", mesh="m")).spec == {}


@pytest.mark.usefixtures("web")
async def test_later_changes_of_other_fields_stay(store: Store) -> None:
    bad = await update(store, port=2, tags=["a", "bad", "b"])
    await update(store, port=2, tags=["a", "bad", "b", "later"], timeout=5)
    await store.update(KEY, labels={"l": "2"})
    done = await store.revert(commit=bad)
    assert done.conflicts == []
    found = await store.get("Dataplane", "web", mesh="m")
    assert found.spec == {"port": 1, "tags": ["a", "b", "later"], "timeout": 5}
    assert found.labels == {"l": "2"}
    assert [each.path for each in done.changes[0].differences] == [
        "/spec/port",
        "/spec/tags/1",
    ]


@pytest.mark.usefixtures("web")
async def test_later_changes_of_the_same_fields_are_conflicts(store: Store) -> None:
    bad = await update(store, port=2, tags=[])
    await update(store, port=3, tags=[])
    position = store.position
    with pytest.raises(ConflictError, match="web in mesh m /spec/port") as caught:
        await store.revert(commit=bad)
    assert not caught.value.retryable
    assert await store.head() == position

    plan = await store.revert(commit=bad, dry_run=True)
    (conflict,) = plan.conflicts
    assert (conflict.key, conflict.path, conflict.forcible) == (KEY, "/spec/port", True)
    assert (conflict.base, conflict.ours, conflict.theirs) == (2, 1, 3)
    assert plan.standing == [conflict]
    assert await store.head() == position

    skipped = await store.revert(commit=bad, on_conflict="skip")
    assert skipped.conflicts == [conflict]
    found = await store.get("Dataplane", "web", mesh="m")
    assert found.spec == {"port": 3, "tags": ["a", "b"]}
    forced = await store.revert(commit=bad, on_conflict="force")
    assert [each.path for each in forced.conflicts] == ["/spec/port"]
    found = await store.get("Dataplane", "web", mesh="m")
    assert found.spec == {"port": 1, "tags": ["a", "b"]}


@pytest.mark.usefixtures("web")
async def test_one_resource_goes_back_to_a_version(store: Store) -> None:
    first = await store.get("Dataplane", "web", mesh="m")
    await update(store, port=2)
    await store.create("Dataplane", "other", mesh="m", spec={})
    await update(store, port=3)
    await store.delete("Dataplane", "web", mesh="m")
    await store.revert(to=first.version, type="Dataplane", name="web", mesh="m")
    again = await store.get("Dataplane", "web", mesh="m")
    assert (again.spec, again.labels, again.status, again.owner) == (
        first.spec,
        first.labels,
        first.status,
        first.owner,
    )
    assert again.created_version == again.version > first.version
    assert (await store.get("Dataplane", "other", mesh="m")).spec == {}


async def test_everything_of_a_filter_goes_back_to_a_time(
    store: Store, mesh: evstore.Resource[Any]
) -> None:
    for name in ("a", "b"):
        await store.create("Dataplane", name, mesh="m", spec={"v": 1}, owner=mesh)
        await store.create("Secret", name, mesh="m", spec={"v": 1}, owner=mesh)
    then = (await store.get("Secret", "b", mesh="m")).modified_at
    before = await content(store)
    async with store.transaction() as tx:
        tx.delete("Dataplane", "a", mesh="m")
        tx.create("Dataplane", "c", mesh="m", spec={})
        tx.update(Key(type="Secret", mesh="m", name="a"), spec={"v": 2})
    await store.revert(to=then, type="Dataplane")
    found = await content(store)
    assert found.pop("Secret a in mesh m")[0] == {"v": 2}
    assert found == {key: it for key, it in before.items() if key in found}
    await store.revert(to=then)
    assert await content(store) == before
    position = store.position
    nothing = await store.revert(to=then)
    assert (nothing.changes, nothing.commit) == ([], None)
    assert await store.head() == position


async def test_a_chain_of_owners_comes_back_owners_first(store: Store) -> None:
    owner = await store.create("Mesh", "m", spec={})
    for name in ("c", "b", "a"):  # by name, what is owned would come first
        owner = await store.create("Dataplane", name, mesh="m", spec={}, owner=owner)
    before = await content(store)
    await store.delete("Mesh", "m")
    done = await store.revert(commit=store.position)
    assert [each.key.name for each in done.changes] == ["m", "c", "b", "a"]
    assert await content(store) == before
    # And goes again, what is owned first, one event each.
    position = store.position
    await store.revert(commit=position)
    assert await content(store) == {}
    events = [event async for event in store.events(after=position)]
    assert [event.name for event in events] == ["a", "b", "c", "m"]
    assert all("cause" not in event.metadata for event in events)


async def test_what_lost_its_owner_is_not_brought_back(
    store: Store, mesh: evstore.Resource[Any]
) -> None:
    await store.create("Dataplane", "web", mesh="m", spec={}, owner=mesh)
    await store.delete("Dataplane", "web", mesh="m")
    deletion = store.position
    await store.delete("Mesh", "m")
    for choice in ("fail", "force"):
        with pytest.raises(ConflictError, match="owner Mesh m is not there"):
            await store.revert(commit=deletion, on_conflict=choice)
    skipped = await store.revert(commit=deletion, on_conflict="skip")
    assert (skipped.changes, skipped.commit) == ([], None)
    assert [each.forcible for each in skipped.conflicts] == [False]


async def test_what_got_children_since_is_deleted_by_force_alone(
    store: Store, mesh: evstore.Resource[Any]
) -> None:
    child = await store.create("Dataplane", "web", mesh="m", spec={}, owner=mesh)
    await store.create("Dataplane", "sub", mesh="m", spec={}, owner=child)
    with pytest.raises(ConflictError, match="Mesh m: owns Dataplane web in mesh m"):
        await store.revert(commit=mesh.version)
    assert (await store.revert(commit=1, on_conflict="skip")).changes == []
    done = await store.revert(commit=mesh.version, on_conflict="force")
    assert [each.key.name for each in done.changes] == ["sub", "web", "m"]
    assert await content(store) == {}


@pytest.mark.usefixtures("web")
async def test_what_was_changed_or_deleted_since_is_a_conflict_as_a_whole(
    store: Store,
) -> None:
    created = store.position
    bad = await update(store, port=2)
    with pytest.raises(ConflictError, match="has been changed since it was created"):
        await store.revert(commit=created)
    await store.delete("Dataplane", "web", mesh="m")
    with pytest.raises(ConflictError, match="has been deleted since"):
        await store.revert(commit=bad)
    # Gone is gone: there is nothing left of its creation to take back.
    assert (await store.revert(commit=created)).changes == []
    deletion = store.position
    await store.create("Dataplane", "web", mesh="m", spec={"new": True})
    plan = await store.revert(commit=deletion, dry_run=True)
    assert "has been created again since" in plan.conflicts[0].message
    with pytest.raises(ConflictError, match="an owner cannot be changed"):
        await store.revert(commit=deletion, on_conflict="force")


@pytest.mark.usefixtures("web")
async def test_what_it_reverts_is_in_the_metadata_and_hashed(
    store: Store, backend: Backend
) -> None:
    bad = await update(store, port=2)
    await store.revert(commit=bad, actor="op", reason="a bad port")
    await store.revert(to=bad)
    events = [event async for event in store.events(after=bad)]
    assert [event.metadata["reverts"] for event in events] == [
        {"commit": bad},
        {"to": bad},
    ]
    assert [(event.actor, event.reason) for event in events] == [
        ("op", "a bad port"),
        ("", f"return to position {bad}"),
    ]
    # Another instance, which begins by reading, comes to the same state.
    async with backend.open() as again:
        assert again.digest() == store.digest()


@pytest.mark.usefixtures("web")
async def test_exactly_the_plan_of_a_dry_run_is_applied_or_nothing(
    store: Store, other: Store
) -> None:
    bad = await update(store, port=2, tags=[])
    plan = await store.revert(commit=bad, dry_run=True)
    assert plan.changes[0].after is not None
    assert plan.changes[0].after.version == 0
    await other.update(KEY, labels={"l": "2"})
    with pytest.raises(ConflictError) as caught:
        await store.revert(plan)
    assert caught.value.key == KEY
    plan = await store.revert(commit=bad, dry_run=True)
    done = await store.revert(plan, actor="op")
    assert done.commit == store.position
    found = await store.get("Dataplane", "web", mesh="m")
    assert (found.spec["port"], found.labels) == (1, {"l": "2"})


async def test_a_plan_is_not_applied_to_what_came_or_went_after_it(
    store: Store, other: Store, mesh: evstore.Resource[Any]
) -> None:
    await store.create("Dataplane", "web", mesh="m", spec={}, owner=mesh)
    await store.delete("Dataplane", "web", mesh="m")
    plan = await store.revert(commit=store.position, dry_run=True)
    await other.create("Dataplane", "web", mesh="m", spec={"new": True})
    with pytest.raises(ConflictError, match="web in mesh m already exists") as caught:
        await store.revert(plan)
    assert caught.value.key == KEY
    await other.delete("Dataplane", "web", mesh="m")
    await other.delete("Mesh", "m")
    with pytest.raises(ConflictError, match="owner Mesh m not found"):
        await store.revert(plan)
    assert await content(store) == {}


async def test_a_plan_deletes_nothing_that_came_after_it(
    store: Store, other: Store, mesh: evstore.Resource[Any]
) -> None:
    plan = await store.revert(commit=mesh.version, dry_run=True)
    await other.create("Dataplane", "web", mesh="m", spec={}, owner=mesh)
    with pytest.raises(ConflictError, match="owns Dataplane web in mesh m by now"):
        await store.revert(plan)
    assert len(await content(store)) == 2


@pytest.mark.usefixtures("web")
async def test_a_repeated_request_is_answered_as_before(store: Store) -> None:
    bad = await update(store, port=2)
    done = await store.revert(commit=bad, request_id="r")
    await update(store, port=9)
    again = await store.revert(commit=bad, request_id="r")
    assert again.commit == done.commit
    assert again.reverts == done.reverts
    assert [each.after for each in again.changes] == [
        each.after for each in done.changes
    ]
    with pytest.raises(ConflictError, match="was used for another"):
        await store.revert(to=bad, request_id="r")


@pytest.mark.usefixtures("web")
async def test_a_position_inside_a_transaction_means_the_whole_of_it(
    store: Store,
) -> None:
    before = await content(store)
    async with store.transaction() as tx:
        for number in range(3):
            tx.create("Dataplane", f"n{number}", mesh="m", spec={})
        tx.update(KEY, spec={"port": 7})
    await store.revert(commit=store.position - 2)
    assert await content(store) == before


async def test_a_transaction_of_thousands_is_taken_back(store: Store) -> None:
    async with store.transaction() as tx:
        for number in range(1_200):
            tx.create("Dataplane", f"n{number}", mesh="m", spec={"n": number})
    done = await store.revert(commit=1)
    assert len(done.changes) == 1_200
    assert await content(store) == {}


@pytest.mark.usefixtures("web")
async def test_concurrent_changes_are_never_lost(store: Store, other: Store) -> None:
    bad = await update(store, port=2)

    async def label() -> None:
        for number in range(20):
            await other.update(KEY, labels={"n": str(number)})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(label)
        await store.revert(commit=bad)
    await store.get("Dataplane", "web", mesh="m", consistent=True)
    found = await store.get("Dataplane", "web", mesh="m")
    assert (found.spec, found.labels) == ({"port": 1, "tags": ["a", "b"]}, {"n": "19"})


@pytest.mark.usefixtures("web")
async def test_what_was_redacted_is_refused_by_name(store: Store) -> None:
    secret = await update(store, port=1, password="hunter2")
    await update(store, port=1, password="better")
    last = await update(store, port=2, password="better")
    await store.redact(
        "Dataplane",
        "web",
        mesh="m",
        version=secret,
        fields=["spec.password"],
        reason="leaked",
    )
    for choice in ("fail", "force"):
        with pytest.raises(ConflictError, match="/spec/password: has been redacted"):
            await store.revert(to=secret, on_conflict=choice)
    plan = await store.revert(to=secret, dry_run=True, on_conflict="skip")
    assert [(each.path, each.forcible) for each in plan.conflicts] == [
        ("/spec/password", False)
    ]
    assert plan.changes == []
    # What does not touch it can be taken back.
    await store.revert(commit=last)
    found = await store.get("Dataplane", "web", mesh="m")
    assert found.spec == {"port": 1, "password": "better"}


class Dataplane(msgspec.Struct):
    port: int


async def test_what_is_not_valid_any_more_is_refused(backend: Backend) -> None:
    async with backend.open() as store:
        await store.create("Dataplane", "web", mesh="m", spec={"port": "one"})
        await store.update(KEY, spec={"port": 1})
    async with backend.open(types=[Dataplane]) as store:
        with pytest.raises(InvalidError, match="port"):
            await store.revert(commit=2)
        assert await store.head() == 2


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({}, "commit"),
        ({"commit": 1, "to": 1}, "commit"),
        ({"commit": 0}, "commit"),
        ({"commit": True}, "commit"),
        ({"commit": 99}, "at"),
        ({"to": 99}, "at"),
        ({"to": -1}, "at"),
        ({"to": 1, "on_conflict": "ignore"}, "on_conflict"),
        ({"to": 1, "type": "EvstoreLease"}, "type"),
        ({"to": 1, "name": "A"}, "name"),
    ],
)
@pytest.mark.usefixtures("web")
async def test_wrong_arguments_are_named(
    store: Store, wrong: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        await store.revert(**wrong)
    assert caught.value.path == path


@pytest.mark.usefixtures("web")
async def test_what_never_existed_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="Dataplane wbe in mesh m never existed"):
        await store.revert(to=1, type="Dataplane", name="wbe", mesh="m")


async def test_leaderships_are_left_alone(store: Store) -> None:
    async with store.leadership("job"):
        await store.create("Mesh", "m", spec={})
        plan = await store.revert(to=0)
        assert [each.key.type for each in plan.changes] == ["Mesh"]
        assert (await store.diff(0)).changes == []
