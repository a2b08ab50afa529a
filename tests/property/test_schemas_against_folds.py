"""Random histories over several schema versions, read by programs of each of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import anyio
import orjson
import pytest
from hypothesis import given, strategies as st

from events import assert_chained, create, delete, key, update
from evstore.commit.changes import Change, Command
from evstore.commit.commands import Decided, decide
from evstore.commit.stamp import stamp
from evstore.errors import SchemaError, StoreError
from evstore.folds.projections import Projections
from evstore.folds.requests import RequestOverlay
from evstore.log import MemoryLog
from evstore.log.current import current_log
from evstore.model import Operation
from evstore.proof.chain import verify
from evstore.schemas import AS_STORED, Schemas, Upcaster, upcaster
from evstore.snapshots.start import origin_of
from evstore.transfer.exported import ExportedLine, transaction_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore.model import StoredEvent

Body = dict[str, Any]
FIELDS = st.sampled_from("abcd")
NAMES = st.sampled_from(["one", "two", "three"])
SPECS = st.dictionaries(
    FIELDS, st.integers(0, 2) | st.text("xy", max_size=2), max_size=3
)


def renames(old: str, new: str) -> Callable[[Body], Body]:
    def function(body: Body) -> Body:
        if old in body["spec"]:
            body["spec"][new] = body["spec"].pop(old)
        return body

    return function


def sets(field: str, value: object) -> Callable[[Body], Body]:
    def function(body: Body) -> Body:
        body["spec"].setdefault(field, value)
        body["labels"][field] = str(value)
        return body

    return function


def moves(field: str) -> Callable[[Body], Body]:
    def function(body: Body) -> Body:
        kept = {name: each for name, each in body["spec"].items() if name != field}
        return {**body, "spec": kept, "status": {"was": body["spec"].get(field)}}

    return function


STEPS = (
    st.builds(renames, FIELDS, FIELDS)
    | st.builds(sets, FIELDS, st.integers(0, 2))
    | st.builds(moves, FIELDS)
)
CHANGES = st.one_of(
    st.builds(lambda name, spec: create(key(name), spec), NAMES, SPECS),
    st.builds(lambda name, spec: update(key(name), spec), NAMES, SPECS),
    st.builds(lambda name: delete(key(name)), NAMES),
)


def program(chain: list[Upcaster], version: int) -> Schemas:
    """Return what the program declares that writes a schema version."""
    return Schemas([], chain[: version - 1])


async def write(
    log: MemoryLog, schemas: Schemas, change: Change
) -> list[StoredEvent] | None:
    """Decide a change as a program does, and append it; None where it is refused."""
    state = await origin_of(current_log(log, schemas), schemas).state()
    command = Command(changes=(change,))
    try:
        decided = decide(
            command, state.resources, RequestOverlay(state.requests), schemas
        )
    except StoreError:
        return None
    assert isinstance(decided, Decided)
    events = stamp(
        command,
        decided.drafts,
        state=state.resources,
        after=state.head,
        tx=os.urandom(16).hex(),
        time=state.head.time + 1,
    )
    await log.append(events, after=state.head)
    return events


def model(events: list[StoredEvent], chain: list[Upcaster]) -> dict[str, Body]:
    """Return the bodies of a state: each as its event has it, through the chain."""
    state: dict[str, Body] = {}
    for event in events:
        if event.operation is Operation.DELETED:
            del state[event.key]
            continue
        body = orjson.loads(bytes(event.body))
        owner = body.pop("owner")
        for link in chain[event.schema_version - 1 :]:
            body = link.function(body)
        state[event.key] = {**body, "owner": owner}
    return state


@given(
    chain=st.lists(STEPS, max_size=4),
    history=st.lists(st.tuples(st.booleans(), CHANGES), max_size=25),
)
def test_the_state_is_the_fold_of_upcast_events(
    chain: list[Callable[[Body], Body]], history: list[tuple[bool, Change]]
) -> None:
    links = [
        upcaster("Dataplane", from_version=number)(step)
        for number, step in enumerate(chain, 1)
    ]
    anyio.run(check, links, history)


async def check(chain: list[Upcaster], history: list[tuple[bool, Change]]) -> None:
    log, version = MemoryLog(), 1
    written: list[StoredEvent] = []
    for released, change in history:
        version = min(version + released, len(chain) + 1)
        events = await write(log, program(chain, version), change)
        assert {each.schema_version for each in events or ()} <= {version}
        written += events or []
    newest = max((each.schema_version for each in written), default=1)
    stored = [event async for chunk in log.read() for event in chunk]
    as_stored = (await origin_of(log, AS_STORED).state()).resources

    for known in range(1, len(chain) + 2):
        schemas = program(chain, known)
        bodied = [each for each in written if each.operation is not Operation.DELETED]
        if any(each.schema_version > known for each in bodied):
            with pytest.raises(SchemaError) as caught:
                await origin_of(current_log(log, schemas), schemas).state()
            first = next(each for each in bodied if each.schema_version > known)
            assert caught.value.position == first.position
            continue
        resources = (
            await origin_of(current_log(log, schemas), schemas).state()
        ).resources
        found = {each.key: orjson.loads(each.body) for each in resources}
        assert found == model(written, chain[: known - 1])
        assert resources.digest() == as_stored.digest()
        piecewise = Projections(log.genesis)
        for event in stored:
            piecewise.apply(schemas.current([event]))
        assert list(piecewise.resources) == list(resources)
        for record in resources:
            (event,) = await current_log(log, schemas).pick([record.version])
            assert bytes(event.body) == record.body

    assert stored == written
    assert_chained(stored, log.genesis)
    assert (await verify(log)).ok
    assert all(
        ExportedLine(1, transaction_line([each]).strip()).events() == [each]
        for each in stored
    )
    if written:
        new = await write(log, AS_STORED, create(key("new"), {}))
        assert new is not None
        bodied = [each for each in written if each.operation is not Operation.DELETED]
        assert new[0].schema_version == max(each.schema_version for each in bodied)
        assert newest >= new[0].schema_version
