"""Any history: diff, blame and revert agree with plain folds of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from hypothesis import given, settings, strategies as st

import evstore
from evstore import Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore import Store

KEYS: Final = [Key(type="Dataplane", mesh="m", name=name) for name in "abc"]
LEAVES: Final = st.sampled_from([None, True, 1, 1.0, "x"])
# Flat fields, an object, and a list whose elements are all different.
SPECS: Final = st.fixed_dictionaries(
    {},
    optional={
        "x": LEAVES,
        "y": LEAVES,
        "in": st.dictionaries(st.sampled_from("pq"), LEAVES),
        "to": st.lists(st.integers(0, 3), unique=True, min_size=1, max_size=4),
    },
)
FLAT: Final = st.dictionaries(st.sampled_from("uvwxyz"), LEAVES)
DELETIONS_ONE_IN: Final = 8
NUMBERS: Final = st.integers(0, 100)
Step = tuple[Key, dict[str, Any] | None]
State = dict[Key, dict[str, Any]]


def histories(
    specs: st.SearchStrategy[Any], keys: Sequence[Key] = KEYS
) -> st.SearchStrategy[list[list[Step]]]:
    """Return transactions, each of some steps; a spec of None deletes."""
    step = st.tuples(
        st.sampled_from(keys), st.one_of(st.none(), *[specs] * DELETIONS_ONE_IN)
    )
    return st.lists(
        st.lists(step, min_size=1, max_size=3, unique_by=lambda each: each[0]),
        min_size=1,
        max_size=15,
    )


async def play(store: Store, history: Sequence[Sequence[Step]]) -> dict[int, State]:
    """Make the history; return the specs after each commit."""
    state: State = {}
    states = {0: state}
    for steps in history:
        state = dict(state)
        async with store.transaction() as tx:
            for key, spec in steps:
                if spec is None and key in state:
                    tx.delete(key.type, key.name, mesh=key.mesh)
                    del state[key]
                elif spec is not None and key in state:
                    tx.update(key, spec=spec)
                    state[key] = spec
                elif spec is not None:
                    tx.create(key.type, key.name, mesh=key.mesh, spec=spec)
                    state[key] = spec
        states[store.position] = state
    return states


def text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


async def state_of(store: Store) -> dict[Key, str]:
    return {each.key: text(each.spec) for each in (await store.list("Dataplane")).items}


@settings(max_examples=60)
@given(histories(SPECS), NUMBERS, NUMBERS)
async def test_a_diff_is_that_of_two_folds(
    history: list[list[Step]], one: int, other: int
) -> None:
    async with evstore.open() as store:
        states = await play(store, history)
        commits = sorted(states)
        before, after = (commits[each % len(commits)] for each in (one, other))
        found = await store.diff(before, after)
        told = {
            each.key: tuple(
                None if side is None else text(side.spec)
                for side in (each.before, each.after)
            )
            for each in found.changes
        }
        sides = [
            {key: text(spec) for key, spec in states[commit].items()}
            for commit in (before, after)
        ]
        assert told == {
            key: (sides[0].get(key), sides[1].get(key))
            for key in KEYS
            if sides[0].get(key) != sides[1].get(key)
        }
        for each in found.changes:
            assert each.differences


def leaves(spec: dict[str, Any]) -> set[str]:
    """Return each leaf as a text; an element of a list by its value, not its place."""
    found: set[str] = set()
    for name, value in spec.items():
        if isinstance(value, dict | list) and not value:
            found.add(f"{name} empty {value}")
        elif isinstance(value, dict):
            found |= {f"{name}/{member}={text(value[member])}" for member in value}
        elif isinstance(value, list):
            found |= {f"{name}[]={text(element)}" for element in value}
        else:
            found.add(f"{name}={text(value)}")
    return found


def leaf(path: str, value: Any) -> str:
    """Return a blamed leaf as `leaves` has it."""
    _, _, name, *more = path.split("/")
    if isinstance(value, dict | list):
        return f"{name} empty {value}"
    if name == "to":
        return f"{name}[]={text(value)}"
    return f"{'/'.join([name, *more])}={text(value)}"


@settings(max_examples=200)
@given(histories(SPECS, KEYS[:1]))
async def test_blame_is_the_event_since_which_a_leaf_is_as_it_is(
    history: list[list[Step]],
) -> None:
    async with evstore.open() as store:
        await play(store, history)
        for key in KEYS:
            events = [
                event async for event in store.events(type=key.type, name=key.name)
            ]
            if not events or events[-1].operation == "deleted":
                continue
            expected: dict[str, int] = {}
            for event in events:
                there = leaves(event.spec or {})
                expected = {each: expected.get(each, event.position) for each in there}
                if event.operation == "created":
                    expected = dict.fromkeys(there, event.position)
            found = await store.blame(key.type, key.name, mesh=key.mesh)
            told = {
                leaf(each.path, each.value): each.event.position
                for each in found.leaves
                if each.path != "/spec"
            }
            assert told == expected


@settings(max_examples=60)
@given(histories(SPECS))
async def test_taking_the_last_transaction_back_restores_what_was_before(
    history: list[list[Step]],
) -> None:
    async with evstore.open() as store:
        states = await play(store, history)
        if len(states) == 1:
            return
        last, before = sorted(states, reverse=True)[:2]
        done = await store.revert(commit=last)
        assert done.conflicts == []
        wanted = {key: text(spec) for key, spec in states[before].items()}
        assert await state_of(store) == wanted
        # And all at once, to any commit.
        for commit, state in states.items():
            await store.revert(to=commit)
            wanted = {key: text(spec) for key, spec in state.items()}
            assert await state_of(store) == wanted


@settings(max_examples=100)
@given(histories(FLAT), NUMBERS)
async def test_taking_an_old_transaction_back_touches_its_fields_alone(
    history: list[list[Step]], number: int
) -> None:
    async with evstore.open() as store:
        states = await play(store, history)
        commits = sorted(states)
        if len(commits) == 1:
            return
        index = 1 + number % (len(commits) - 1)
        target, base = states[commits[index - 1]], states[commits[index]]
        now = states[commits[-1]]
        done = await store.revert(commit=commits[index], on_conflict="skip")
        conflicts = {(each.key, each.path) for each in done.conflicts}
        page = await store.list("Dataplane")
        after = {each.key: each.spec for each in page.items}
        for key in KEYS:
            if target.get(key) is None or base.get(key) is None or key not in now:
                continue  # as a whole: tests/integration/test_revert.py
            for field in "uvwxyz":
                values = [
                    text([state[key][field]]) if field in state[key] else None
                    for state in (target, base, now, after)
                ]
                wanted, was, current, result = values
                if wanted in (was, current):
                    assert result == current
                elif current == was:
                    assert result == wanted
                else:
                    assert result == current
                    assert (key, f"/spec/{field}") in conflicts
