"""Leadership: one at a time, in the log, fenced; and what ends it."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the other way of cancelling a task
from contextlib import aclosing
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import evstore
import evstore.blocking
from command import Command
from evstore.errors import ConflictError, InvalidError, UnavailableError
from evstore.model import LEASE_TYPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from evstore import Config, Event, Lease, Store
    from evstore.instances.instance import Presence

    from .conftest import Backend

SHORT = 0.3
LONG = 3600


def presence_of(store: Store) -> Presence:
    return store._leaderships._presence


def fall_silent(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no heartbeat of the store be recorded from now on."""

    async def no_beat() -> None:
        await anyio.sleep(0.01)

    monkeypatch.setattr(presence_of(store), "_beat", no_beat)


async def leases(store: Store) -> list[Event]:
    return [event async for event in store.events(type=LEASE_TYPE)]


async def outline(store: Store) -> list[str]:
    return [event.operation.value for event in await leases(store)]


async def lead_and_wait(
    store: Store, leads: anyio.Event, *, ended: list[str] | None = None, **options: Any
) -> None:
    async with store.leadership("task", **options):
        leads.set()
        try:
            await anyio.sleep_forever()
        finally:
            if ended is not None:
                ended.append("ended")


async def test_of_all_candidates_one_leads_at_a_time(backend: Backend) -> None:
    fences: list[int] = []
    leading: list[str] = []

    async def candidate(store: Store, name: str) -> None:
        async with store.leadership("task", ttl=LONG, actor=name) as lease:
            leading.append(name)
            assert leading == [name]
            await anyio.sleep(0.002)
            lease.check()
            fences.append(lease.fence)
            leading.remove(name)

    with anyio.fail_after(30):
        async with (
            backend.open() as one,
            backend.open() as two,
            backend.open() as three,
        ):
            async with anyio.create_task_group() as tasks:
                for number, store in enumerate((one, two, three)):
                    for candidate_number in range(3):
                        name = f"c-{number}-{candidate_number}"
                        tasks.start_soon(candidate, store, name)
            found = await leases(one)
    assert len(fences) == 9
    assert all(before < after for before, after in pairwise(fences))
    assert [event.operation.value for event in found] == ["created", "deleted"] * 9
    assert [event.position for event in found[::2]] == fences
    for taken, given_up in zip(found[::2], found[1::2], strict=True):
        assert taken.actor == given_up.actor
    assert len({event.actor for event in found}) == 9


async def test_names_do_not_exclude_each_other(store: Store) -> None:
    with anyio.fail_after(5):
        async with (
            store.leadership("one", ttl=LONG) as one,
            store.leadership("two", ttl=LONG) as two,
        ):
            assert one.fence < two.fence


async def test_the_events_say_who_took_it_and_gave_it_up(store: Store) -> None:
    async with store.leadership(
        "task", ttl=5, actor="alice", reason="nightly"
    ) as lease:
        (instance,) = await store.instances()
        assert (lease.name, lease.fence) == ("task", store.position)
    taken, given_up = await leases(store)
    assert (taken.type, taken.mesh, taken.name) == (LEASE_TYPE, "", "task")
    assert (taken.position, taken.actor) == (lease.fence, "alice")
    assert taken.reason == "taken: nightly"
    assert taken.spec["instance"] == str(instance.id)
    assert (taken.spec["actor"], taken.spec["ttl"]) == ("alice", 5)
    assert (given_up.actor, given_up.reason) == ("alice", "given up: nightly")
    assert given_up.spec is None


async def test_renewals_leave_the_log_as_it_is(store: Store) -> None:
    presence = presence_of(store)
    async with store.leadership("task", ttl=0.1) as lease:
        beats = set[int | None]()
        with anyio.fail_after(10):
            while len(beats) < 5:
                beats.add(presence.beaten_at)
                await anyio.sleep(0.005)
        lease.check()
        assert await store.head() == lease.fence


async def test_leading_needs_no_other_heartbeats(backend: Backend) -> None:
    async with backend.open(heartbeat_interval=0.0) as store:
        assert await store.instances() == []
        async with store.leadership("task", ttl=0.1) as lease:
            await anyio.sleep(0.3)
            lease.check()
            assert len(await store.instances()) == 1


async def test_a_waiting_candidate_follows_at_once(store: Store, other: Store) -> None:
    leads = anyio.Event()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            async with store.leadership("task", ttl=LONG):
                tasks.start_soon(lead_and_wait, other, leads)
                while not other._leaderships._seats:  # noqa: ASYNC110 - no event tells
                    await anyio.sleep(0.001)
                assert not leads.is_set()
            await leads.wait()
            tasks.cancel_scope.cancel()
    assert await outline(other) == ["created", "deleted"] * 2


async def test_a_leader_that_is_not_seen_is_succeeded_after_its_body_has_ended(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    leads = anyio.Event()

    async def give_up_nothing(_: object) -> None:
        raise UnavailableError

    async def lead_until_lost() -> None:
        try:
            await lead_and_wait(store, leads, ttl=SHORT, ended=order)
        except UnavailableError as error:
            assert "'task' was lost: no heartbeat" in str(error)  # noqa: PT017

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lead_until_lost)
            await leads.wait()
            fall_silent(store, monkeypatch)
            # Nor is anything given up: the ttl alone decides.
            monkeypatch.setattr("evstore.instances.leadership.GIVE_UP_SECONDS", 0.01)
            monkeypatch.setattr(store._leaderships, "_remove", give_up_nothing)
            async with other.leadership("task", ttl=SHORT, actor="bob"):
                order.append("succeeded")
            monkeypatch.undo()
    assert order == ["ended", "succeeded"]
    found = await leases(other)
    assert [event.operation.value for event in found] == [
        "created",
        "updated",
        "deleted",
    ]
    instance = found[0].spec["instance"]
    assert found[1].reason == f"taken over from {instance}, not seen for 0.3 s"


async def test_who_was_taken_for_dead_has_lost_what_it_held(store: Store) -> None:
    presence = presence_of(store)
    before = presence.id

    async def lead() -> None:
        async with store.leadership("task", ttl=1):
            await store._log.expire(before, seconds=0)
            await anyio.sleep_forever()

    with anyio.fail_after(10):
        with pytest.raises(UnavailableError, match="took this instance for dead"):
            await lead()
    assert presence.id != before
    # It goes on under another id, and can lead again.
    with anyio.fail_after(10):
        async with store.leadership("task", ttl=1) as lease:
            lease.check()
    assert await outline(store) == ["created", "deleted"] * 2


async def test_a_transaction_needs_the_lease_that_it_is_given(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lead() -> None:
        async with store.leadership("task", ttl=SHORT) as lease:
            async with store.transaction(lease=lease) as tx:
                tx.create("Mesh", "led", spec={})
            fall_silent(store, monkeypatch)
            with anyio.CancelScope(shield=True):
                async with other.leadership("task", ttl=SHORT, actor="bob") as newer:
                    with pytest.raises(ConflictError) as caught:
                        async with store.transaction(lease=lease) as tx:
                            tx.create("Mesh", "stale", spec={})
                    assert caught.value.expected == lease.fence
                    assert caught.value.actual == newer.fence
                    async with other.transaction(lease=newer) as tx:
                        tx.create("Mesh", "newer", spec={})
                await anyio.lowlevel.checkpoint()
                with pytest.raises(UnavailableError, match="was lost"):
                    lease.check()
            await anyio.sleep_forever()

    with anyio.fail_after(20):
        with pytest.raises(UnavailableError, match="was lost"):
            await lead()
    page = await other.list("Mesh", consistent=True)
    assert [mesh.name for mesh in page.items] == ["led", "newer"]


async def test_a_transaction_after_giving_up_is_refused(store: Store) -> None:
    async with store.leadership("task", ttl=LONG) as lease:
        pass
    with pytest.raises(ConflictError):
        async with store.transaction(lease=lease) as tx:
            tx.create("Mesh", "late", spec={})
    with pytest.raises(UnavailableError):
        lease.check()
    async with store.leadership("task", ttl=LONG):
        with pytest.raises(ConflictError):
            async with store.transaction(lease=lease) as tx:
                tx.create("Mesh", "late", spec={})
    assert (await store.list("Mesh")).total == 0


async def test_a_repeated_request_is_answered_under_any_lease(store: Store) -> None:
    async def create(lease: Lease) -> int:
        async with store.transaction(lease=lease, request_id="r-1") as tx:
            tx.create("Mesh", "m", spec={})
        (mesh,) = tx.results
        assert mesh is not None
        return mesh.version

    async with store.leadership("task", ttl=LONG) as first:
        version = await create(first)
    async with store.leadership("task", ttl=LONG) as second:
        assert await create(second) == version
        assert await create(first) == version


async def test_what_is_no_lease_is_refused(store: Store) -> None:
    with pytest.raises(InvalidError, match="lease: must be a Lease, not str"):
        async with store.transaction(lease="task"):  # type: ignore[arg-type]
            pass


async def test_what_the_body_raises_comes_out_and_gives_up(store: Store) -> None:
    async def fail() -> None:
        async with store.leadership("task", ttl=LONG):
            message = "of my own"
            raise ValueError(message)

    with pytest.raises(ValueError, match="of my own"):
        await fail()
    assert await outline(store) == ["created", "deleted"]


def by_anyio(scope: anyio.CancelScope, _: asyncio.Task[None]) -> None:
    scope.cancel()


def by_asyncio(_: anyio.CancelScope, task: asyncio.Task[None]) -> None:
    task.cancel()


@pytest.mark.parametrize("cancel", [by_anyio, by_asyncio])
async def test_a_cancelled_body_gives_up(
    store: Store,
    other: Store,
    cancel: Callable[[anyio.CancelScope, asyncio.Task[None]], None],
) -> None:
    leads = anyio.Event()
    scope = anyio.CancelScope()

    async def lead() -> None:
        with scope:
            await lead_and_wait(store, leads, ttl=LONG)

    with anyio.fail_after(10):
        task = asyncio.create_task(lead())
        await leads.wait()
        cancel(scope, task)
        await asyncio.wait([task])
        async with other.leadership("task", ttl=LONG):
            assert await outline(other) == ["created", "deleted", "created"]


@pytest.mark.parametrize("cancel", [by_anyio, by_asyncio])
async def test_a_cancelled_candidate_leaves_nothing_behind(
    store: Store,
    other: Store,
    cancel: Callable[[anyio.CancelScope, asyncio.Task[None]], None],
) -> None:
    scope = anyio.CancelScope()

    async def lead() -> None:
        with scope:
            await lead_and_wait(other, anyio.Event(), ttl=LONG)

    async with store.leadership("task", ttl=LONG):
        task = asyncio.create_task(lead())
        while not other._leaderships._seats:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.001)
        cancel(scope, task)
        await asyncio.wait([task])
    assert not other._leaderships._seats
    assert await outline(store) == ["created", "deleted"]


async def test_a_cancelled_taking_is_given_up(store: Store, other: Store) -> None:
    """Whenever it comes: before the command is decided, or after it was appended."""
    for turns in range(12):
        scope = anyio.CancelScope()

        async def lead(scope: anyio.CancelScope = scope) -> None:
            with scope:
                await lead_and_wait(store, anyio.Event(), ttl=LONG)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lead)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            scope.cancel()
    with anyio.fail_after(10):
        async with other.leadership("task", ttl=LONG):
            found = await outline(other)
    assert found == ["created", "deleted"] * (len(found) // 2) + ["created"]


async def test_a_store_that_closes_gives_up(backend: Backend) -> None:
    leads = anyio.Event()

    async def lead(store: Store) -> None:
        with pytest.raises(UnavailableError, match="the store was closed"):
            await lead_and_wait(store, leads, ttl=LONG)

    async def wait(store: Store) -> None:
        with pytest.raises(UnavailableError, match="the store is closed"):
            await lead_and_wait(store, anyio.Event(), ttl=LONG)

    with anyio.fail_after(10):
        async with backend.open() as other, anyio.create_task_group() as tasks:
            async with backend.open() as store:
                tasks.start_soon(lead, store)
                await leads.wait()
                tasks.start_soon(wait, store)
                while len(store._leaderships._seats) < 2:  # noqa: ASYNC110
                    await anyio.sleep(0.001)
            async with other.leadership("task", ttl=LONG):
                assert await outline(other) == ["created", "deleted", "created"]


async def refused(call: Awaitable[object]) -> None:
    with pytest.raises(InvalidError, match="EvstoreLease is reserved"):
        await call


async def test_leases_are_the_stores_own(store: Store) -> None:
    async with store.leadership("task", ttl=LONG):
        key = evstore.Key(type=LEASE_TYPE, name="task")
        mesh = await store.create("Mesh", "m", spec={})
        await refused(store.create(LEASE_TYPE, "task", spec={}))
        await refused(store.update(key, spec={}))
        await refused(store.delete(LEASE_TYPE, "task"))
        await refused(store.upsert(LEASE_TYPE, "task", change=lambda _: {}))
        await refused(store.get(LEASE_TYPE, "task"))
        await refused(store.get(LEASE_TYPE, "task", at=1))
        await refused(store.list(LEASE_TYPE))
        await refused(store.create("Mesh", "owned", spec={}, owner=key))
        async with store.transaction() as tx:
            with pytest.raises(InvalidError, match="is reserved"):
                tx.delete(LEASE_TYPE, "task")
        # To those who read or follow what happens, they are events like any other.
        assert [event.type async for event in store.events()] == [LEASE_TYPE, "Mesh"]
        for type_ in (None, LEASE_TYPE):
            async with aclosing(store.watch(type=type_, after=0)) as events:
                assert (await anext(events)).type == LEASE_TYPE
        assert mesh.version == 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Task", {}, "'Task' is not allowed"),
        ("", {}, "'' is not allowed"),
        ("task", {"ttl": 0}, "ttl: must be between 0.1 and 3600 seconds, not 0"),
        ("task", {"ttl": 3601}, "ttl: must be between"),
        ("task", {"ttl": float("nan")}, "ttl: must be between"),
        ("task", {"ttl": "15s"}, "ttl: must be a number of seconds, not str"),
        ("task", {"ttl": True}, "ttl: must be a number of seconds, not bool"),
        ("task", {"actor": "a" * 254}, "actor"),
    ],
)
async def test_wrong_arguments_are_refused(
    store: Store, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidError, match=message):
        async with store.leadership(name, **options):
            pass
    assert await store.head() == 0


async def test_a_closed_store_leads_nothing(backend: Backend) -> None:
    async with backend.open() as store:
        pass
    with pytest.raises(UnavailableError, match="closed"):
        async with store.leadership("task"):
            pass


def test_the_command_tells_who_led_when(
    postgres_config: Config, tmp_path: Path
) -> None:
    with (
        evstore.blocking.open(postgres_config) as store,
        store.leadership("task", actor="alice", reason="nightly"),
    ):
        pass
    command = Command(postgres_config, tmp_path)
    done = command("history", LEASE_TYPE, "task", "-o", "json")
    assert done.code == 0, done.err
    assert [each["operation"] for each in done.documents] == ["created", "deleted"]
    table = command("log", "--type", LEASE_TYPE).out
    assert "alice" in table
    assert "taken: nightly" in table
    assert command("get", LEASE_TYPE, "task").code != 0
    assert "is reserved" in command("list", LEASE_TYPE).err


def test_a_thread_leads_and_is_told_by_check(postgres_config: Config) -> None:
    with evstore.blocking.open(postgres_config) as store:
        with store.leadership("task", actor="thread") as lease:
            lease.check()
            with store.transaction(lease=lease) as tx:
                tx.create("Mesh", "m", spec={})
        with pytest.raises(UnavailableError):
            lease.check()
        inner = store._store

        def lead() -> None:
            with store.leadership("task", ttl=1) as lease:
                dead = presence_of(inner).id
                store._portal.call(lambda: inner._log.expire(dead, seconds=0))
                while True:
                    lease.check()

        with pytest.raises(UnavailableError, match="took this instance for dead"):
            lead()
        assert [event.operation.value for event in store.events(type=LEASE_TYPE)] == [
            "created",
            "deleted",
        ] * 2
