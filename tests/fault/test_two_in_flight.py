"""Two appends in flight: what befalls one of them, and what the other then is."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from evstore import AlreadyExistsError, InvalidError, Key, Resource, StoreError
from evstore.commit.changes import Command, Create
from evstore.commit.committer import SECOND_FROM
from evstore.commit.live import LiveState
from evstore.folds.resources import Overlay
from fault.history import checked_history, limited, until
from fault.proxy import Fault, Proxy, Request, open_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from anyio.abc import TaskGroup

    from evstore import Config, Store
    from evstore.commit.batch import Attempt
    from evstore.folds.resources import State

pytestmark = pytest.mark.fault

CUTS = [
    Fault.CUT_BEFORE,
    Fault.CUT_AFTER,
    Fault.LOSE_ANSWER,
    Fault.CRASH,
    Fault.DELIVER_LATE,
    Fault.STALL_ANSWER,
]


class Pair:
    """A store, and the calls whose appends are in flight together."""

    def __init__(self, store: Store, proxy: Proxy, tasks: TaskGroup) -> None:
        self.store = store
        self.proxy = proxy
        self.results: dict[str, object] = {}
        self._tasks = tasks

    def begin(self, name: str, call: Callable[[], Awaitable[object]]) -> None:
        async def run() -> None:
            try:
                self.results[name] = await call()
            except StoreError as error:
                self.results[name] = error

        self._tasks.start_soon(run)

    def create(self, name: str) -> Callable[[], Awaitable[object]]:
        return lambda: self.store.create("Mesh", name, spec={})

    async def fly(
        self,
        first: dict[str, Callable[[], Awaitable[object]]],
        second: dict[str, Callable[[], Awaitable[object]]],
        *,
        fault: Fault = Fault.STALL_ANSWER,
    ) -> None:
        """Send two appends: the first meets a fault, the second is sent meanwhile."""
        assert len(second) >= SECOND_FROM
        struck = self.proxy.once(fault, is_append)
        for name, call in first.items():
            self.begin(name, call)
        flights = self.store._committer._flights
        for name, call in second.items():
            self.begin(name, call)
        await until(lambda: len(flights) == 2 or struck.is_set())
        await struck.wait()

    async def land(self) -> None:
        """Let go on what stalls, and wait for all results."""
        with anyio.fail_after(20):
            while self.store._committer.unanswered:
                self.proxy.release()
                await anyio.sleep(0.01)

    def versions(self) -> dict[str, int]:
        """Return what version each call returned."""
        found: dict[str, int] = {}
        for name, result in self.results.items():
            assert isinstance(result, Resource), result
            found[name] = result.version
        return found


@asynccontextmanager
async def pair(config: Config, *, append_timeout: float = 20) -> AsyncGenerator[Pair]:
    async with (
        open_proxy(limited(config, append_timeout=append_timeout)) as proxy,
        evstore.open(proxy.config) as store,
        anyio.create_task_group() as tasks,
    ):
        yield Pair(store, proxy, tasks)


def is_append(request: Request) -> bool:
    return request.is_append


NAMES = [f"m-{number}" for number in range(SECOND_FROM + 4)]


async def test_the_second_is_decided_on_what_the_first_will_leave(
    postgres_config: Config,
) -> None:
    async with pair(postgres_config) as flying:
        store = flying.store
        await flying.fly(
            {"create": flying.create("default")},
            {
                name: lambda name=name: store.update(
                    Key(type="Mesh", name="default"), labels={"by": name}
                )
                for name in NAMES
            },
        )
        await flying.land()
        versions = flying.versions()
    assert [versions[name] for name in ("create", *NAMES)] == list(
        range(1, len(NAMES) + 2)
    )
    assert len(await checked_history(postgres_config)) == len(versions)


@pytest.mark.parametrize("fault", CUTS)
@pytest.mark.parametrize("struck", ["first", "second"])
async def test_both_are_applied_once_when_an_answer_is_lost(
    postgres_config: Config, fault: Fault, struck: str
) -> None:
    async with pair(postgres_config, append_timeout=0.5) as flying:
        appends = 0
        in_flight: list[int] = []

        def choose(request: Request) -> Fault | None:
            nonlocal appends
            if not request.is_append:
                return None
            appends += 1
            in_flight.append(len(flying.store._committer._flights))
            if appends == 1 and struck == "second":
                # Held up until the second is on its way.
                return Fault.STALL
            return fault if appends == ("first", "second").index(struck) + 1 else None

        flying.proxy.choose = choose
        flying.begin("first", flying.create("first"))
        for name in NAMES:
            flying.begin(name, flying.create(name))
        await until(lambda: bool(in_flight))
        await flying.land()
        assert in_flight[0] == 2
        await flying.proxy.deliver()
        versions = flying.versions()
    events = await checked_history(postgres_config)
    assert {event.name: event.position for event in events} == versions
    assert set(versions) == {"first", *NAMES}


async def test_both_are_decided_anew_when_the_first_loses_its_race(
    postgres_config: Config,
) -> None:
    async with (
        evstore.open(postgres_config) as other,
        pair(postgres_config) as flying,
    ):
        # The first does not get to the server before the other store has appended.
        await flying.fly(
            {"mine": flying.create("taken")},
            {name: flying.create(name) for name in NAMES},
            fault=Fault.STALL,
        )
        await other.create("Mesh", "taken", spec={"by": "other"})
        await other.create("Mesh", NAMES[3], spec={"by": "other"})
        await flying.land()
        results = flying.results
    lost = {name for name, each in results.items() if isinstance(each, StoreError)}
    assert lost == {"mine", NAMES[3]}
    assert all(isinstance(results[name], AlreadyExistsError) for name in lost)
    events = await checked_history(postgres_config)
    assert len(events) == len(NAMES) + 1


@pytest.mark.parametrize("guilty_in", ["first", "second"])
async def test_a_poisonous_event_fails_alone_beside_another_append(
    postgres_config: Config, guilty_in: str
) -> None:
    async with pair(postgres_config) as flying:
        # The server refuses what the library would not have let through.
        poison = Command(changes=(Create(key="Mesh//guilty", spec=b'{"a":"\\u0000'),))
        calls = {name: flying.create(name) for name in NAMES}
        calls["guilty"] = lambda: flying.store._committer.submit(poison)
        if guilty_in == "first":
            guilty = calls.pop("guilty")
            await flying.fly({"guilty": guilty}, calls)
        else:
            await flying.fly({"innocent": flying.create("innocent")}, calls)
        await flying.land()
        assert isinstance(flying.results.pop("guilty"), InvalidError)
        versions = set(flying.versions().values())
        assert versions == set(range(1, len(NAMES) + 1 + (guilty_in == "second")))
    await checked_history(postgres_config)


async def test_states_in_flight_do_not_pile_up(
    monkeypatch: pytest.MonkeyPatch, postgres_config: Config
) -> None:
    depths: list[int] = []
    genuine = LiveState.settle

    def settle(live: LiveState, attempt: Attempt) -> None:
        depth = 0
        base: State = attempt.resources
        while isinstance(base, Overlay):
            depth, base = depth + 1, base._base
        depths.append(depth)
        genuine(live, attempt)

    monkeypatch.setattr(LiveState, "settle", settle)
    async with evstore.open(postgres_config) as store:

        async def caller(number: int) -> None:
            mine = await store.create("Mesh", f"m-{number}", spec={})
            for count in range(20):
                mine = await store.update(mine, spec={"count": count})

        async with anyio.create_task_group() as tasks:
            for number in range(4 * SECOND_FROM):
                tasks.start_soon(caller, number)
    assert set(depths) == {1}
    assert len(await checked_history(postgres_config)) == 4 * SECOND_FROM * 21
