"""Any sequence of calls: the store does what a plain dict with a history does."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import Phase, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import evstore
from events import assert_chained, everything, folded
from evstore import Config, InvalidError, Key, NotFoundError, Resource, StoreError
from model import Change, Creation, Deletion, Entry, Model, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from evstore import Event, Store, Transaction
    from evstore.embedded import EmbeddedServer
    from evstore.model import StoredEvent

# The store's loop runs in a thread of its own, and takes jitter from `random` whenever
# it likes: also while a strategy draws, which then seems to do so.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Do not use the `random` module:"
    "hypothesis.errors.HypothesisDeprecationWarning"
)

KEYS: Final = [
    Key(type=type_, mesh=mesh, name=name)
    for type_ in ("Mesh", "Zone")
    for mesh in ("", "m")
    for name in ("a", "a.b", "b")
]
# Keys are in order here, so that equal values have equal representations.
SPECS = st.sampled_from([{}, {"n": 1}, {"n": 1.0}, {"m": [None, "é"], "n": 2}])
LABELS = st.sampled_from([{}, {"team": "x"}, {"team": "y", "tier": "1"}])
STATUSES = st.none() | st.sampled_from([{}, {"up": True}])


class StoreMachine(RuleBasedStateMachine):
    """Drives a store and the model side by side."""

    config: Config
    restarts = False

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal("asyncio"))
        self.opened = ExitStack()
        self.store = self.open()

    def open(self) -> Store:
        opening = self.portal.wrap_async_context_manager(evstore.open(self.config))
        return self.opened.enter_context(opening)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def call() -> Any:
            return await work

        return self.portal.call(call)

    def outcome(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return the type of the error, or None."""
        try:
            self.run(work)
        except StoreError as error:
            return type(error)
        return None

    def resource(self, key: Key) -> Resource[Any]:
        found: Resource[Any] = self.run(
            self.store.get(key.type, key.name, mesh=key.mesh)
        )
        return found

    def assert_same(self, entry: Entry, resource: Resource[Any], key: Key) -> None:
        assert resource.key == key
        assert repr(resource.spec) == repr(entry.spec)
        assert resource.status == entry.status
        assert resource.labels == entry.labels
        assert resource.owner == entry.owner
        assert resource.version == entry.version
        assert resource.created_version == entry.created_version

    # Changes.

    def add(self, tx: Transaction, step: Step, known: dict[Key, Any]) -> None:
        match step:
            case Creation():
                tx.create(
                    step.key.type,
                    step.key.name,
                    mesh=step.key.mesh,
                    spec=step.spec,
                    status=step.status,
                    labels=step.labels,
                    owner=step.owner
                    if step.incarnation is None
                    else known[step.owner or step.key],
                )
            case Change():
                parts: dict[str, Any] = {"spec": step.spec, "labels": step.labels}
                if step.status is not None:
                    parts["status"] = step.status
                target = step.key if step.version is None else known[step.key]
                tx.update(target, **parts)
            case Deletion():
                tx.delete(
                    step.key.type,
                    step.key.name,
                    mesh=step.key.mesh,
                    version=step.version,
                )

    @rule(data=st.data())
    def transaction(self, data: st.DataObject) -> None:
        """Some changes at once; often one, often of what is there."""
        known = {key: self.resource(key) for key in sorted(self.model.state)}
        steps = [
            data.draw(self.step())
            for _ in range(data.draw(st.sampled_from([1, 1, 1, 2, 3, 5])))
        ]

        async def transact() -> list[Resource[Any] | None]:
            async with self.store.transaction(actor="bob", reason="why") as tx:
                for step in steps:
                    self.add(tx, step, known)
            return tx.results

        wanted = self.model.transact(steps)
        got = self.outcome(transact())
        assert got is wanted, (steps, got, wanted)

    def step(self) -> st.SearchStrategy[Step]:
        state = self.model.state
        there = st.sampled_from(sorted(state) or KEYS)
        anywhere = there | st.sampled_from(KEYS)

        @st.composite
        def change(draw: Any) -> Step:
            kind = draw(st.sampled_from(["create", "create", "update", "delete"]))
            if kind == "create":
                owner = draw(st.none() | anywhere)
                exact = owner in state and draw(st.booleans())
                return Creation(
                    draw(st.sampled_from(KEYS)),
                    draw(SPECS),
                    draw(STATUSES),
                    draw(LABELS),
                    owner,
                    state[owner].created_version if exact and owner else None,
                )
            key = draw(anywhere)
            exact = key in state and draw(st.booleans())
            version = state[key].version if exact else None
            if kind == "delete":
                wrong = st.sampled_from([None, None, 1, 10_000])
                return Deletion(key, version if exact else draw(wrong))
            return Change(
                key,
                version,
                draw(st.none() | SPECS),
                draw(STATUSES),
                draw(st.none() | LABELS),
            )

        return change()

    @rule(key=st.sampled_from(KEYS), spec=SPECS, labels=st.none() | LABELS)
    def upsert(
        self, key: Key, spec: dict[str, Any], labels: dict[str, str] | None
    ) -> None:
        if key in self.model.state:
            step: Step = Change(key, spec=spec, labels=labels)
        else:
            step = Creation(key, spec, labels=labels or {})
        assert self.model.transact([step]) is None
        resource = self.run(
            self.store.upsert(
                key.type, key.name, mesh=key.mesh, change=lambda _: spec, labels=labels
            )
        )
        self.assert_same(self.model.state[key], resource, key)

    @precondition(lambda self: self.model.state)
    @rule(data=st.data(), spec=SPECS)
    def update_of_something_stale(
        self, data: st.DataObject, spec: dict[str, Any]
    ) -> None:
        """A resource as it was at some position: it must be the current one."""
        position = data.draw(st.integers(1, self.model.position))
        past = self.model.at(position)
        if not past:
            return
        key = data.draw(st.sampled_from(sorted(past)))
        stale = self.run(self.store.get(key.type, key.name, mesh=key.mesh, at=position))
        step = Change(key, version=past[key].version, spec=spec)
        wanted = self.model.transact([step])
        assert self.outcome(self.store.update(stale, spec=spec)) is wanted

    @rule(key=st.sampled_from(KEYS), spec=SPECS, number=st.integers(0, 3))
    def same_request_again(self, key: Key, spec: dict[str, Any], number: int) -> None:
        """A creation under an id of its own, sent twice, is done once."""
        request_id = f"{key}-{number}-{self.model.position}"

        def ask() -> Coroutine[Any, Any, Resource[Any]]:
            return self.store.create(
                key.type, key.name, mesh=key.mesh, spec=spec, request_id=request_id
            )

        wanted = self.model.transact([Creation(key, spec)])
        assert self.outcome(ask()) is wanted
        if wanted is None:
            self.assert_same(self.model.state[key], self.run(ask()), key)

    # Questions.

    @rule(key=st.sampled_from(KEYS), data=st.data())
    def get_then(self, key: Key, data: st.DataObject) -> None:
        position = data.draw(st.integers(0, self.model.position))
        entry = self.model.at(position).get(key)
        asking = self.store.get(key.type, key.name, mesh=key.mesh, at=position)
        if entry is None:
            assert self.outcome(asking) is NotFoundError
        else:
            self.assert_same(entry, self.run(asking), key)

    @rule(
        type_=st.sampled_from(["Mesh", "Zone"]),
        mesh=st.sampled_from([None, "", "m"]),
        contains=st.sampled_from([None, "a", ".", "%"]),
        labels=st.none() | LABELS,
        page_size=st.sampled_from([None, 1, 2, 3]),
        data=st.data(),
    )
    def list_then(
        self,
        type_: str,
        mesh: str | None,
        contains: str | None,
        labels: dict[str, str] | None,
        page_size: int | None,
        data: st.DataObject,
    ) -> None:
        position = data.draw(st.none() | st.integers(0, self.model.position))
        state = self.model.state if position is None else self.model.at(position)
        wanted = sorted(
            (
                key
                for key, entry in state.items()
                if key.type == type_
                and mesh in (None, key.mesh)
                and (contains or "") in key.name
                and (labels or {}).items() <= entry.labels.items()
            ),
            key=lambda key: (key.name, key.mesh),
        )
        asked: dict[str, Any] = {
            "mesh": mesh,
            "name_contains": contains,
            "labels": labels,
        }
        page = self.run(
            self.store.list(type_, page_size=page_size, at=position, **asked)
        )
        pages = [page]
        while page.next_page_token is not None:
            page = self.run(
                self.store.list(
                    type_,
                    page_size=page_size,
                    page_token=page.next_page_token,
                    **asked,
                )
            )
            pages.append(page)
        items = [item for page in pages for item in page.items]
        assert [item.key for item in items] == wanted
        for item in items:
            self.assert_same(state[item.key], item, item.key)
        assert {page.total for page in pages} == {len(wanted)}
        assert len({page.position for page in pages}) == 1
        assert all(len(page.items) <= (page_size or 99) for page in pages)

    @rule(beyond=st.sampled_from([1, 2, 1_000]))
    def nothing_is_beyond_the_head(self, beyond: int) -> None:
        at = self.model.position + beyond
        assert self.outcome(self.store.get("Mesh", "a", at=at)) is InvalidError
        assert self.outcome(self.store.list("Mesh", at=at)) is InvalidError

    @precondition(lambda self: self.restarts)
    @rule()
    def restart(self) -> None:
        digest = self.store.digest()
        self.opened.close()
        self.store = self.open()
        assert self.store.digest() == digest

    # What holds after each step.

    @invariant()
    def the_state_is_the_models(self) -> None:
        assert self.store.position == self.model.position
        assert self.run(self.store.head()) == self.model.position
        for key, entry in self.model.state.items():
            self.assert_same(entry, self.resource(key), key)
        for type_ in ("Mesh", "Zone"):
            total = sum(key.type == type_ for key in self.model.state)
            assert self.run(self.store.list(type_)).total == total

    def teardown(self) -> None:
        try:
            self.the_log_is_the_models_history()
            self.a_replay_gives_the_state()
            self.a_watch_yields_the_log()
            self.the_past_is_the_models()
        finally:
            self.opened.close()
            self.stack.close()

    def the_log_is_the_models_history(self) -> None:
        events: list[StoredEvent] = self.run(everything(self.store._log))
        assert_chained(events, self.store._log.genesis)
        assert [
            (event.operation.value, Key.from_text(event.key)) for event in events
        ] == self.model.events
        assert [event.commit for event in events] == self.model.commits[1:]
        times = [event.time for event in events]
        assert times == sorted(times)

    def a_replay_gives_the_state(self) -> None:
        replayed = self.run(folded(self.store._log))
        live = self.store._committer.projections
        assert replayed.head == live.head
        assert replayed.resources.digest() == self.store.digest()
        assert {record.key: record for record in replayed.resources} == {
            record.key: record for record in live.resources
        }

    def a_watch_yields_the_log(self) -> None:
        async def follow() -> list[Event]:
            found: list[Event] = []
            if self.model.position:
                async for event in self.store.watch(after=0):
                    found.append(event)
                    if event.position == self.model.position:
                        break
            return found

        async def log() -> list[Event]:
            return [event async for event in self.store.events()]

        assert self.run(follow()) == self.run(log())

    def the_past_is_the_models(self) -> None:
        for position in range(self.model.position + 1):
            state = self.model.at(position)
            for type_ in ("Mesh", "Zone"):
                page = self.run(self.store.list(type_, at=position))
                assert {item.key for item in page.items} == {
                    key for key in state if key.type == type_
                }
                for item in page.items:
                    self.assert_same(state[item.key], item, item.key)


@pytest.mark.slow
def test_a_store_in_memory_does_what_the_model_does() -> None:
    class InMemory(StoreMachine):
        config = Config()

    run_state_machine_as_test(
        InMemory, settings=settings(stateful_step_count=40, deadline=None)
    )


@pytest.fixture
def databases(
    server: EmbeddedServer, migrated_template: str
) -> Iterator[Callable[[], Config]]:
    """Return a maker of migrated databases."""
    numbers = count(1)
    names: list[str] = []

    def make() -> Config:
        names.append(f"property_{next(numbers)}")
        server.create_database(names[-1], template=migrated_template)
        return server.config(names[-1])

    yield make
    for name in names:
        server.drop_database(name)


@pytest.mark.slow
def test_a_store_in_postgresql_does_what_the_model_does(
    databases: Callable[[], Config],
) -> None:
    class InPostgres(StoreMachine):
        restarts = True

        @property
        def config(self) -> Config:  # type: ignore[override]
            if not hasattr(self, "_config"):
                self._config = databases()
            return self._config

    run_state_machine_as_test(
        InPostgres,
        settings=settings(
            max_examples=8,
            stateful_step_count=25,
            deadline=None,
            # A database an example: shrinking would make hundreds.
            phases=[Phase.generate],
        ),
    )


@pytest.mark.slow
def test_a_store_in_kubernetes_does_what_the_model_does(
    namespaces: Callable[[], Config],
) -> None:
    class InKubernetes(StoreMachine):
        restarts = True

        @property
        def config(self) -> Config:  # type: ignore[override]
            if not hasattr(self, "_config"):
                self._config = namespaces()
            return self._config

    run_state_machine_as_test(
        InKubernetes,
        settings=settings(
            max_examples=8,
            stateful_step_count=25,
            deadline=None,
            # A namespace an example: shrinking would make hundreds.
            phases=[Phase.generate],
        ),
    )
