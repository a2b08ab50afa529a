"""Request ids: remembered for a day of the log's time."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import orjson
import pytest

import evstore
from events import START, History, create, delete, genesis, key
from evstore.errors import ConflictError
from evstore.folds.requests import (
    MEMORY_MICROSECONDS,
    MEMORY_REQUESTS_MAX,
    Request,
    RequestOverlay,
    Requests,
)
from evstore.model import Operation, StoredEvent

HOUR = 3_600_000_000


@pytest.fixture
def history() -> History:
    return History(genesis(UUID(int=1)))


def request(name: str) -> dict[str, Any]:
    return {"request_id": name, "request_digest": f"digest of {name}"}


def test_a_request_is_remembered_with_its_content_and_its_commit(
    history: History,
) -> None:
    history.transaction(create(key("a")), create(key("b")), **request("r"), time=START)
    memory = history.projections.requests
    assert memory.get("r") == Request("digest of r", 2, START)
    assert memory.get("s") is None
    assert len(memory) == 1


def test_an_event_without_a_request_leaves_nothing(history: History) -> None:
    history.transaction(create(key("a")), reason='says "request_id":"x"')
    assert len(history.projections.requests) == 0


def test_a_request_is_forgotten_after_a_day_of_the_logs_time(history: History) -> None:
    assert MEMORY_MICROSECONDS == 24 * HOUR
    memory = history.projections.requests
    history.transaction(create(key("a")), **request("r"), time=START)
    history.transaction(create(key("b")), time=START + 24 * HOUR)
    assert memory.get("r") is not None
    history.transaction(create(key("c")), time=START + 24 * HOUR + 1)
    assert memory.get("r") is None
    assert len(memory) == 0


def test_a_request_used_again_after_a_day_counts_anew(history: History) -> None:
    memory = history.projections.requests
    history.transaction(create(key("a")), **request("r"), time=START)
    later = START + 25 * HOUR
    history.transaction(create(key("b")), time=later)
    history.transaction(create(key("c")), **request("r"), time=later)
    assert memory.get("r") == Request("digest of r", 3, later)
    history.transaction(create(key("d")), time=START + 48 * HOUR)
    assert memory.get("r") is not None


def test_it_makes_no_difference_in_what_portions_the_log_is_read(
    history: History,
) -> None:
    for number, hours in enumerate([0, 1, 1, 23, 24, 26, 26, 50]):
        history.transaction(
            create(key(f"n{number}")),
            **request(f"r{number % 5}-{number}"),
            time=START + hours * HOUR,
        )
    whole, single = Requests(), Requests()
    whole.apply(history.events)
    for each in history.events:
        single.apply([each])
    assert whole._requests == single._requests == history.projections.requests._requests
    assert list(whole._requests) == list(single._requests)


def event(position: int, request_id: str) -> StoredEvent:
    metadata = {"request_digest": "d", "request_id": request_id}
    return StoredEvent(
        position,
        position,
        "00" * 16,
        START,
        "",
        Operation.CREATED,
        key(f"n{position}"),
        1,
        msgspec.Raw(b"{}"),
        bytes(16),
        None,
        msgspec.Raw(orjson.dumps(metadata)),
        bytes(32),
    )


@pytest.mark.slow
def test_no_more_than_200_000_requests_are_remembered_the_newest() -> None:
    assert MEMORY_REQUESTS_MAX == 200_000
    memory = Requests()
    last = MEMORY_REQUESTS_MAX + 2
    memory.apply([event(position, f"r{position}") for position in range(1, last)])
    memory.apply([event(last, f"r{last}")])
    assert len(memory) == MEMORY_REQUESTS_MAX
    assert memory.get("r1") is None
    assert memory.get("r2") is None
    assert memory.get("r3") is not None
    assert memory.get(f"r{last}") is not None


def test_an_overlay_knows_the_requests_of_the_same_batch(history: History) -> None:
    history.transaction(create(key("a")), **request("old"))
    other = History(history.head)
    overlay = RequestOverlay(history.projections.requests)
    overlay.apply(other.transaction(create(key("b")), **request("new")))
    assert overlay.get("old") is not None
    assert overlay.get("new") is not None
    assert history.projections.requests.get("new") is None


# What callers see of it.


async def test_the_same_create_again_returns_the_original_result() -> None:
    async with evstore.open() as store:
        first = await store.create("Mesh", "m", spec={"n": 1}, request_id="r")
        await store.update(first, spec={"n": 2})
        again = await store.create("Mesh", "m", spec={"n": 1}, request_id="r")
        assert again == first
        assert again.spec == {"n": 1}
        assert store.position == 2


async def test_the_same_create_again_returns_it_even_after_a_deletion() -> None:
    async with evstore.open() as store:
        first = await store.create("Mesh", "m", spec={"n": 1}, request_id="r")
        await store.delete("Mesh", "m")
        assert await store.create("Mesh", "m", spec={"n": 1}, request_id="r") == first
        assert store.position == 2


async def test_the_same_update_again_returns_the_original_result() -> None:
    async with evstore.open() as store:
        mesh = await store.create("Mesh", "m", spec={})
        first = await store.update(mesh, spec={"n": 1}, request_id="r")
        assert await store.update(mesh, spec={"n": 1}, request_id="r") == first
        with pytest.raises(ConflictError):
            await store.update(mesh, spec={"n": 2}, request_id="r")
        assert store.position == 2


async def test_the_same_delete_again_succeeds_without_deleting_what_came_after() -> (
    None
):
    async with evstore.open() as store:
        await store.create("Mesh", "m", spec={})
        await store.delete("Mesh", "m", request_id="r")
        await store.create("Mesh", "m", spec={"n": 1})
        await store.delete("Mesh", "m", request_id="r")
        assert (await store.get("Mesh", "m")).spec == {"n": 1}


async def test_the_same_transaction_again_has_the_original_results() -> None:
    async def transact(store: evstore.Store) -> list[evstore.Resource[object] | None]:
        async with store.transaction(request_id="r") as tx:
            tx.create("Mesh", "a", spec={"n": 1})
            tx.create("Mesh", "b", spec={})
            tx.delete("Mesh", "b")
        return tx.results

    async with evstore.open() as store:
        first = await transact(store)
        await store.delete("Mesh", "a")
        again = await transact(store)
        assert again == first
        assert again[1:] == [None, None]
        assert store.position == 4


async def test_the_same_upsert_again_returns_the_original_result() -> None:
    async with evstore.open() as store:
        calls = 0

        def change(current: evstore.Resource[dict[str, int]] | None) -> dict[str, int]:
            nonlocal calls
            calls += 1
            assert calls < 5, "retried a conflict that never ends"
            return {"n": 0 if current is None else current.spec["n"] + 1}

        first = await store.upsert("Mesh", "m", change=change, request_id="r")
        again = await store.upsert("Mesh", "m", change=change, request_id="r")
        assert again == first
        assert store.position == 1


def test_a_deletion_remembers_its_request(history: History) -> None:
    history.transaction(create(key("a")))
    history.transaction(delete(key("a")), **request("r"))
    found = history.projections.requests.get("r")
    assert found is not None
    assert found.commit == 2
