"""A redaction goes through projections of one's own: they are folded again without it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import evstore
from evstore.commit.refolding import Refolder
from evstore.errors import UnavailableError
from fault.history import limited, until
from integration.conftest import Backend

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evstore import Event, Store

SECRET = "hunter2-correct-horse"
MARK = "[redacted]"


class Passwords(evstore.Projection[dict[str, list[str]]]):
    """Every password that a secret ever had, and how many redactions there were."""

    name = "passwords"

    def initial(self) -> dict[str, list[str]]:
        return {"redactions": []}

    def fold(self, state: dict[str, list[str]], event: Event) -> dict[str, list[str]]:
        if event.operation == "redacted":
            state["redactions"].append(event.name)
        elif event.spec is not None:
            state.setdefault(event.name, []).append(event.spec["password"])
        return state


class Pedantic(evstore.Projection[list[str]]):
    """Cannot take a secret that is one, and says which one that was."""

    name = "pedantic"

    def initial(self) -> list[str]:
        return []

    def fold(self, state: list[str], event: Event) -> list[str]:
        if event.spec is not None and event.spec["password"] == SECRET:
            raise ValueError(event.spec["password"])
        return [*state, event.name]


class Gate:
    """Holds folding again until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = anyio.Event()
        self.passed = 0
        refold = Refolder._refold

        async def wait_first(refolder: Refolder) -> bool:
            await self.opened.wait()
            self.passed += 1
            return await refold(refolder)

        monkeypatch.setattr(Refolder, "_refold", wait_first)


async def create(store: Store, name: str, password: str = SECRET) -> Any:
    return await store.create(
        "Secret", name, mesh="default", spec={"password": password}
    )


async def redact(store: Store, name: str, version: int) -> None:
    await store.redact(
        "Secret",
        name,
        mesh="default",
        version=version,
        fields=["spec.password"],
        reason="leaked",
    )


async def of_the_log(store: Store, projection: Any) -> Any:
    state = projection.initial()
    async for event in store.events():
        state = projection.fold(state, event)
    return state


async def view_of(store: Store, projection: type[evstore.Projection[Any]]) -> Any:
    """Return the view once there is one."""

    def there() -> bool:
        try:
            store.view(projection)
        except UnavailableError:
            return False
        return True

    await until(there)
    return store.view(projection)


@pytest.fixture(params=[10_000, 3], ids=["all in the tail", "most out of the tail"])
def small(backend: Backend, request: pytest.FixtureRequest) -> Backend:
    config = limited(backend.config, tail_events_max=request.param)
    return Backend(backend.name, config)


async def test_views_become_what_a_replay_of_the_log_comes_to(small: Backend) -> None:
    async with (
        small.open(projections=[Passwords()]) as store,
        small.open(projections=[Passwords()]) as follower,
    ):
        first = await create(store, "one")
        for index in range(10):
            await create(store, f"other-{index}", password=str(index))
        assert store.view(Passwords)["one"] == [SECRET]
        await redact(store, "one", first.version)
        await until(lambda: follower.position == 12)
        expected = await of_the_log(store, Passwords())
        assert expected["one"] == [MARK]
        assert expected["redactions"] == ["one"]
        assert await view_of(store, Passwords) == expected
        assert await view_of(follower, Passwords) == expected
        await create(store, "last")
        assert store.view(Passwords) == await of_the_log(store, Passwords())
        async with small.open(projections=[Passwords()]) as late:
            assert late.view(Passwords) == store.view(Passwords)


async def test_while_it_is_folded_again_nothing_is_handed_out(
    small: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    async with small.open(projections=[Passwords()]) as store:
        first = await create(store, "one")
        await redact(store, "one", first.version)
        with pytest.raises(UnavailableError, match="passwords is folded again") as told:
            store.view(Passwords)
        assert told.value.retryable
        (status,) = (await store.health()).projections
        assert (status.tainted, status.stopped) == (True, None)
        for index in range(5):
            await create(store, f"while-{index}")
        gate.opened.set()
        view = await view_of(store, Passwords)
        assert view == await of_the_log(store, Passwords())
        assert view["while-4"] == [SECRET]
        (status,) = (await store.health()).projections
        assert (status.tainted, status.position) == (False, 7)


async def test_another_redaction_meanwhile_is_not_missed(
    small: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    async with small.open(projections=[Passwords()]) as store:
        versions = [(await create(store, name)).version for name in "abcdef"]
        await redact(store, "a", versions[0])
        await redact(store, "b", versions[1])
        gate.opened.set()
        for name, version in zip("cde", versions[2:], strict=False):
            await redact(store, name, version)
        view = await view_of(store, Passwords)
        assert view == await of_the_log(store, Passwords())
        assert [view[name] for name in "abcdef"] == [[MARK]] * 5 + [[SECRET]]


async def test_one_announced_while_the_log_is_read_is_not_missed(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = limited(backend.config, tail_events_max=1)
    async with Backend(backend.name, config).open(projections=[Passwords()]) as store:
        versions = [(await create(store, name)).version for name in "abc"]
        replay = store._log.replay
        announced = anyio.Event()
        reading = anyio.Event()

        async def replay_slowly(**places: int) -> AsyncGenerator[Any]:
            async for chunk in replay(**places):
                yield chunk
                reading.set()
                await announced.wait()

        monkeypatch.setattr(store._log, "replay", replay_slowly)
        await redact(store, "a", versions[0])
        await reading.wait()
        await redact(store, "b", versions[1])
        announced.set()
        view = await view_of(store, Passwords)
        assert [view[name] for name in "abc"] == [[MARK], [MARK], [SECRET]]
        assert view == await of_the_log(store, Passwords())


async def fail(*_: object, **__: object) -> bool:
    raise UnavailableError


@asynccontextmanager
async def half_done(backend: Backend) -> AsyncGenerator[Store]:
    """Open a store on a log with a redaction that was announced and not done."""
    async with backend.open(projections=[Passwords(), Pedantic()]) as store:
        first = await create(store, "one")
        await create(store, "two", password="other")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store._stored, "redact", fail)
            with pytest.raises(UnavailableError):
                await redact(store, "one", first.version)
        yield store


async def test_what_was_announced_is_gone_also_where_it_is_in_the_log_still(
    small: Backend,
) -> None:
    async with half_done(small) as store:
        assert (await of_the_log(store, Passwords()))["one"] == [SECRET]
        expected = {"redactions": ["one"], "one": [MARK], "two": ["other"]}
        assert await view_of(store, Passwords) == expected
        async with small.open(projections=[Passwords()]) as late:
            assert await view_of(late, Passwords) == expected
        await redact(store, "one", 1)
        view = await view_of(store, Passwords)
        assert view == await of_the_log(store, Passwords())
        assert view["one"] == [MARK]


async def test_an_unfinished_one_lets_pass_too_also_after_a_start(
    small: Backend,
) -> None:
    async with half_done(small) as store:
        assert await view_of(store, Pedantic) == ["one", "two", "one"]
        async with small.open(projections=[Pedantic()]) as late:
            assert await view_of(late, Pedantic) == ["one", "two", "one"]


async def test_an_unfinished_one_that_only_the_log_knows_of_is_learnt(
    small: Backend,
) -> None:
    async with half_done(small) as store:
        await view_of(store, Passwords)
        await view_of(store, Pedantic)
        custom = store._committer.projections.custom
        clean = custom.get(Passwords)
        # As after a start from a snapshot that was taken now.
        restored = custom.anew(clean.head)
        for each in (Passwords, Pedantic):
            restored.get(each).restore(clean.head, custom.get(each).freeze())
        store._committer.projections.custom = restored
        await redact(store, "two", 2)
        expected = {"redactions": ["one", "two"], "one": [MARK], "two": [MARK]}
        assert await view_of(store, Passwords) == expected


async def test_what_a_redaction_lets_pass_runs_again_as_after_a_start(
    small: Backend,
) -> None:
    async with small.open(projections=[Pedantic()]) as store:
        await create(store, "good", password="fine")
        bad = await create(store, "bad")
        await create(store, "later", password="fine")
        with pytest.raises(evstore.SchemaError, match=SECRET):
            store.view(Pedantic)
        await redact(store, "bad", bad.version)
        view = await view_of(store, Pedantic)
        assert view == ["good", "bad", "later", "bad"]
        async with small.open(projections=[Pedantic()]) as late:
            assert late.view(Pedantic) == view


async def test_a_log_that_was_redacted_before_is_folded_once(
    small: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with small.open() as store:
        first = await create(store, "one")
        await redact(store, "one", first.version)
        gate = Gate(monkeypatch)
        gate.opened.set()
        async with small.open(projections=[Passwords()]) as late:
            assert late.view(Passwords) == await of_the_log(store, Passwords())
            await create(late, "two")
            assert gate.passed == 0


async def test_it_gets_there_while_others_go_on_writing(small: Backend) -> None:
    async with small.open(projections=[Passwords()]) as store:
        first = await create(store, "one")
        done = anyio.Event()

        async def write(name: str) -> None:
            index = 0
            while not done.is_set():
                index += 1
                await create(store, f"{name}-{index}")

        async with anyio.create_task_group() as tasks:
            for name in "abcd":
                tasks.start_soon(write, name)
            await until(lambda: store.position > 100)
            await redact(store, "one", first.version)
            view = await view_of(store, Passwords)
            assert view["one"] == [MARK]
            done.set()
        assert store.view(Passwords) == await of_the_log(store, Passwords())


@pytest.mark.parametrize("trouble", ["unreachable", "empty"])
async def test_it_is_tried_again_where_the_log_cannot_be_read(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr("evstore.commit.refolding.AGAIN_SECONDS", 0.01)
    config = limited(backend.config, tail_events_max=1)
    async with Backend(backend.name, config).open(projections=[Passwords()]) as store:
        first = await create(store, "one")
        await create(store, "two")
        replay = store._log.replay
        calls = 0

        async def replay_at_last(**places: int) -> AsyncGenerator[Any]:
            nonlocal calls
            calls += 1
            if calls > 3:
                async for chunk in replay(**places):
                    yield chunk
            elif trouble == "unreachable":
                raise UnavailableError

        monkeypatch.setattr(store._log, "replay", replay_at_last)
        await redact(store, "one", first.version)
        view = await view_of(store, Passwords)
        assert calls > 3
        assert view == await of_the_log(store, Passwords())


@evstore.upcaster("Secret", from_version=1)
def nested(body: dict[str, Any]) -> dict[str, Any]:
    """Move the password to where a redaction of what is stored does not name it."""
    spec = body["spec"] and {"login": {"secret": body["spec"]["password"]}}
    return {**body, "spec": spec}


class Nested(Passwords):
    """The same of bodies in the newer shape."""

    name = "nested"

    def fold(self, state: dict[str, list[str]], event: Event) -> dict[str, list[str]]:
        if event.operation != "redacted" and event.spec is not None:
            state.setdefault(event.name, []).append(event.spec["login"]["secret"])
        return state


@pytest.mark.parametrize("done", [True, False], ids=["done", "unfinished"])
async def test_bodies_in_another_shape_lose_it_as_well(
    small: Backend, monkeypatch: pytest.MonkeyPatch, *, done: bool
) -> None:
    async with small.open() as store:
        first = await create(store, "one")
        await create(store, "two", password="other")
    async with small.open(upcasters=[nested], projections=[Nested()]) as store:
        assert store.view(Nested)["one"] == [SECRET]
        if done:
            await redact(store, "one", first.version)
        else:
            monkeypatch.setattr(store._stored, "redact", fail)
            with pytest.raises(UnavailableError):
                await redact(store, "one", first.version)
        expected = {"redactions": [], "one": [MARK], "two": ["other"]}
        assert await view_of(store, Nested) == expected
        async with small.open(upcasters=[nested], projections=[Nested()]) as late:
            assert await view_of(late, Nested) == expected
