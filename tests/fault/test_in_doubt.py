"""Appends whose answer is lost: each is applied once, and its caller is told so."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from evstore.commit.live import LiveState
from evstore.errors import ConfigError, OutcomeUnknownError, UnavailableError
from fault.history import (
    adjusted,
    blocked_writers,
    checked_history,
    connected,
    limited,
    superuser,
    until,
)
from fault.proxy import Fault, Proxy, Request, open_proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore import Config, Resource, Store

pytestmark = pytest.mark.fault

CUTS = [
    Fault.CUT_BEFORE,
    Fault.CUT_AFTER,
    Fault.LOSE_ANSWER,
    Fault.DELIVER_LATE,
    Fault.STALL,
    Fault.STALL_ANSWER,
]


def is_append(request: Request) -> bool:
    return request.is_append


def is_commit(request: Request) -> bool:
    return request.is_commit


def is_settle(request: Request) -> bool:
    return request.is_settle


@pytest.fixture
def in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every append wait for its turn, as under contention."""
    monkeypatch.setattr(LiveState, "contended", True)


async def _check_lost_answer(
    config: Config, fault: Fault, where: Callable[[Request], bool]
) -> None:
    async with (
        open_proxy(limited(config, append_timeout=0.3)) as proxy,
        evstore.open(proxy.config) as store,
    ):
        mesh = await store.create("Mesh", "default", spec={})
        struck = proxy.once(fault, where)
        async with anyio.create_task_group() as tasks:
            # What is late or stalls goes on while the store tries again: in a turn, the
            # lock of the old one stands in the way until then.
            tasks.start_soon(_release_after_resend, proxy, struck)
            created = await store.create("Zone", "west", spec={"n": 1}, owner=mesh)
            tasks.cancel_scope.cancel()
        assert struck.is_set()
        await proxy.deliver()
        updated = await store.update(created, spec={"n": 2})
        assert (await store.get("Zone", "west")).version == updated.version
        digest = store.digest()
    assert proxy.cancels == 0
    events = await checked_history(config)
    assert [(event.operation, event.name) for event in events] == [
        ("created", "default"),
        ("created", "west"),
        ("updated", "west"),
    ]
    assert [created.version, updated.version] == [2, 3]
    async with evstore.open(config) as store:
        assert store.digest() == digest


async def _release_after_resend(proxy: Proxy, struck: anyio.Event) -> None:
    await struck.wait()
    seen = len(proxy.requests)
    await until(lambda: any(each.is_append for each in proxy.requests[seen:]))
    proxy.release()


@pytest.mark.parametrize("fault", CUTS)
async def test_an_append_without_an_answer_is_applied_once(
    postgres_config: Config, fault: Fault
) -> None:
    await _check_lost_answer(postgres_config, fault, is_append)


@pytest.mark.usefixtures("in_turns")
@pytest.mark.parametrize("fault", CUTS)
async def test_an_append_in_turn_without_an_answer_is_applied_once(
    postgres_config: Config, fault: Fault
) -> None:
    await _check_lost_answer(postgres_config, fault, is_append)


@pytest.mark.usefixtures("in_turns")
@pytest.mark.parametrize("fault", CUTS)
async def test_a_commit_in_turn_without_an_answer_is_applied_once(
    postgres_config: Config, fault: Fault
) -> None:
    await _check_lost_answer(postgres_config, fault, is_commit)


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.LOSE_ANSWER])
async def test_a_whole_batch_without_an_answer_is_applied_once(
    postgres_config: Config, fault: Fault
) -> None:
    async with (
        open_proxy(postgres_config) as proxy,
        evstore.open(proxy.config) as store,
    ):
        results: dict[str, int] = {}

        async def create(name: str) -> None:
            results[name] = (await store.create("Mesh", name, spec={})).version

        proxy.once(fault, is_append)
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(create, f"mesh-{number}")
    events = await checked_history(postgres_config)
    assert {event.name: event.position for event in events} == results
    assert len(events) == 20


async def test_a_terminated_server_process_loses_and_doubles_nothing(
    postgres_config: Config,
) -> None:
    async with (
        superuser(postgres_config) as admin,
        evstore.open(postgres_config) as store,
        anyio.create_task_group() as tasks,
    ):
        created: list[Resource[object]] = []

        async def create() -> None:
            created.append(await store.create("Mesh", "default", spec={}))

        async with admin.transaction():
            await admin.execute("LOCK TABLE evstore.events IN EXCLUSIVE MODE")
            tasks.start_soon(create)
            for process in await blocked_writers(admin):
                await admin.execute("SELECT pg_terminate_backend(%s)", (process,))
        await until(lambda: bool(created))
    events = await checked_history(postgres_config)
    assert [event.position for event in events] == [created[0].version]


async def test_a_resend_that_meets_the_late_original_counts_once(
    postgres_config: Config,
) -> None:
    async with (
        open_proxy(postgres_config) as proxy,
        evstore.open(proxy.config) as store,
        anyio.create_task_group() as tasks,
    ):
        created: list[int] = []
        resent = anyio.Event()

        async def create() -> None:
            created.append((await store.create("Mesh", "default", spec={})).version)

        def choose(request: Request) -> Fault | None:
            if not request.is_append or resent.is_set():
                return None
            if not proxy.late:
                return Fault.DELIVER_LATE
            resent.set()
            return Fault.STALL

        proxy.choose = choose
        tasks.start_soon(create)
        await resent.wait()
        # The original goes first; the resend goes on when that is done.
        await proxy.deliver(first=True)
        proxy.release()
        await until(lambda: bool(created))
        kinds = [each.kind for each in proxy.requests if each.kind]
        # Found by reading back after the unique violation, therefore settled.
        assert kinds == ["append", "append", "settle"]
    events = await checked_history(postgres_config)
    assert [event.position for event in events] == created == [1]


@pytest.mark.parametrize("fault", [Fault.LOSE_ANSWER, Fault.CUT_BEFORE])
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_caller_whose_deadline_passes_repeats_its_request(
    postgres_config: Config, fault: Fault, *, elsewhere: bool
) -> None:
    config = limited(postgres_config, command_timeout=0.4)
    async with (
        open_proxy(config) as proxy,
        evstore.open(proxy.config) as store,
        evstore.open(postgres_config) as other,
    ):

        def choose(request: Request) -> Fault | None:
            if request.is_append:
                proxy.down = True
                return fault
            return None

        proxy.choose = choose
        with pytest.raises(OutcomeUnknownError) as caught:
            await store.create("Mesh", "default", spec={}, request_id="once")
        assert caught.value.request_id == "once"
        assert not caught.value.retryable
        repeated = None
        if elsewhere:
            repeated = await other.create("Mesh", "default", spec={}, request_id="once")
        proxy.choose = lambda _: None
        proxy.down = False
        again = await _repeated(store)
        assert again.version == 1
        assert repeated in {None, again}
    assert [event.name for event in await checked_history(postgres_config)] == [
        "default"
    ]


async def _repeated(store: Store) -> Resource[object]:
    """Repeat a request until there is an answer: the store may still be reconnecting."""
    with anyio.fail_after(10):
        while True:
            try:
                return await store.create("Mesh", "default", spec={}, request_id="once")
            except UnavailableError:
                continue


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.CUT_BEFORE])
async def test_an_append_found_by_reading_back_is_settled_before_the_answer(
    postgres_config: Config, fault: Fault
) -> None:
    async with (
        open_proxy(postgres_config) as proxy,
        evstore.open(proxy.config) as store,
        anyio.create_task_group() as tasks,
    ):
        answered = anyio.Event()
        settling = anyio.Event()

        async def create() -> None:
            await store.create("Mesh", "default", spec={})
            answered.set()

        def choose(request: Request) -> Fault | None:
            if request.is_append:
                return Fault.LOSE_ANSWER
            if request.is_settle and not settling.is_set():
                settling.set()
                assert not answered.is_set()
                return fault
            return None

        proxy.choose = choose
        tasks.start_soon(create)
        await settling.wait()
        if fault is Fault.STALL:
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            assert not answered.is_set()
            proxy.release()
        await answered.wait()
        settles = sum(request.is_settle for request in proxy.requests)
        assert settles == (1 if fault is Fault.STALL else 2)


async def _warn_on_append(config: Config) -> None:
    async with connected(config) as owner:
        await owner.execute("""
            CREATE FUNCTION evstore.warn() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE WARNING 'the standby does not answer';
                RETURN NULL;
            END
            $$
        """)
        await owner.execute("""
            CREATE TRIGGER warn AFTER INSERT ON evstore.events
            FOR EACH STATEMENT EXECUTE FUNCTION evstore.warn()
        """)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("stalled", ["connect", "read", "settle"])
async def test_a_stall_while_resolving_is_got_over(
    postgres_config: Config, stalled: str
) -> None:
    config = limited(postgres_config, append_timeout=0.3)
    async with open_proxy(config) as proxy, evstore.open(proxy.config) as store:
        lost = anyio.Event()
        struck = anyio.Event()

        def choose(request: Request) -> Fault | None:
            if request.purpose != "evstore writer" or struck.is_set():
                return None
            if request.is_append and not lost.is_set():
                lost.set()
                return Fault.LOSE_ANSWER
            fits = {
                "connect": lost.is_set(),
                "read": lost.is_set() and b"hash = " in request.raw,
                "settle": request.is_settle,
            }
            if not fits[stalled]:
                return None
            struck.set()
            return Fault.STALL

        proxy.choose = choose
        # Nobody ever lets go of what stalls: the store has to.
        with anyio.fail_after(8):
            await store.create("Mesh", "default", spec={})
        assert struck.is_set()
    assert len(await checked_history(postgres_config)) == 1


async def test_a_warning_while_appending_means_in_doubt(
    postgres_config: Config,
) -> None:
    await _warn_on_append(postgres_config)
    async with (
        open_proxy(postgres_config) as proxy,
        evstore.open(proxy.config) as store,
    ):
        created = await store.create("Mesh", "default", spec={})
        assert created.version == 1
        kinds = [each.kind for each in proxy.requests if each.kind]
        assert kinds == ["append", "settle"]
    assert len(await checked_history(postgres_config)) == 1


@pytest.mark.usefixtures("in_turns")
async def test_a_warning_in_a_turn_means_in_doubt(postgres_config: Config) -> None:
    await _warn_on_append(postgres_config)
    async with evstore.open(postgres_config) as store:
        assert (await store.create("Mesh", "default", spec={})).version == 1
        assert (await store.create("Mesh", "other", spec={})).version == 2
    assert len(await checked_history(postgres_config)) == 2


async def test_an_append_in_doubt_outlives_a_refused_login(
    postgres_config: Config,
) -> None:
    async with (
        open_proxy(postgres_config) as proxy,
        evstore.open(proxy.config) as store,
        anyio.create_task_group() as tasks,
    ):
        created: list[int] = []

        async def create() -> None:
            created.append((await store.create("Mesh", "default", spec={})).version)

        struck = proxy.once(Fault.STALL_ANSWER, is_append)
        tasks.start_soon(create)
        await struck.wait()
        # The append is there; whoever connects now is refused for good, it seems.
        proxy.database = "nowhere"
        proxy.cut_all()
        await until(lambda: proxy.refusals["evstore writer"] > 1)
        proxy.database = postgres_config.postgres.db_name
        await until(lambda: bool(created))
    assert len(await checked_history(postgres_config)) == 1


async def test_a_refused_login_does_not_end_a_store(postgres_config: Config) -> None:
    config = adjusted(postgres_config, poll_interval=0.05, heartbeat_interval=0.05)
    async with open_proxy(config) as proxy, evstore.open(proxy.config) as store:
        await store.create("Mesh", "default", spec={})
        proxy.database = "nowhere"
        proxy.cut_all()
        for purpose in ("evstore writer", "evstore reader", "evstore listener"):
            await until(partial(_refused, proxy, purpose))
        proxy.database = postgres_config.postgres.db_name
        with anyio.fail_after(10):
            await _created_at_last(store, "other")
    assert len(await checked_history(postgres_config)) == 2


def _refused(proxy: Proxy, purpose: str) -> bool:
    return proxy.refusals[purpose] > 0


async def _created_at_last(store: Store, name: str) -> None:
    while True:
        try:
            await store.create("Mesh", name, spec={})
        except (UnavailableError, ConfigError):
            await anyio.sleep(0.05)
        else:
            return


class _Chaos:
    """Strikes requests at random, and lets go of them at random."""

    def __init__(self, proxy: Proxy, seed: int) -> None:
        self._proxy = proxy
        self._dice = random.Random(seed)

    def choose(self, request: Request) -> Fault | None:
        if request.purpose != "evstore writer":
            return None
        bound = 0.4 if request.is_append or request.is_commit else 0.03
        return self._dice.choice(CUTS) if self._dice.random() < bound else None

    async def release_now_and_then(self) -> None:
        while True:
            await anyio.sleep(self._dice.uniform(0.05, 0.5))
            self._proxy.release()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_random_faults_lose_nothing_and_double_nothing(
    postgres_config: Config, seed: int
) -> None:
    config = limited(postgres_config, append_timeout=0.25)
    acknowledged: dict[str, int] = {}

    async with open_proxy(config) as proxy, evstore.open(proxy.config) as store:

        async def write(writer: int) -> None:
            for number in range(50):
                name = f"mesh-{writer}-{number}"
                created = await store.create("Mesh", name, spec={"n": number})
                acknowledged[name] = created.version

        chaos = _Chaos(proxy, seed)
        proxy.choose = chaos.choose
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(chaos.release_now_and_then)
            async with anyio.create_task_group() as writers:
                for writer in range(2):
                    writers.start_soon(write, writer)
            tasks.cancel_scope.cancel()
        proxy.choose = lambda _: None
        await proxy.deliver()
        digest = store.digest()
        assert proxy.faults.total() >= 10
    events = await checked_history(postgres_config)
    assert {event.name: event.position for event in events} == acknowledged
    assert len(events) == 100
    for event in events:
        assert event.spec == {"n": int(event.name.rsplit("-", 1)[1])}
    async with evstore.open(postgres_config) as store:
        assert store.digest() == digest
