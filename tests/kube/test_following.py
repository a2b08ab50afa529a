"""Watches that end, tokens that expire, pages that come: no gap and no repeat."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest

import evstore
from events import History, create, creations, everything, key
from evstore.errors import SchemaError, UnavailableError
from evstore.log import open_log
from evstore.log.kubernetes import listing, objects, watches
from fault.history import limited
from kube.interference import Fault, Interference, Reply

if TYPE_CHECKING:
    from apiserver import ApiServer
    from evstore.config import Config
    from evstore.log import Log

WATCH = "watch=1"
SECONDS = 10


async def appended(log: Log, history: History, name: str) -> None:
    after = history.head
    await log.append(creations(history, [name]), after=after)


async def heard(log: Log, position: int) -> None:
    """Wait until the watch has brought a position; nothing is asked for by name."""
    with anyio.fail_after(SECONDS):
        await log.wait(position - 1, seconds=SECONDS)


async def test_a_watch_brings_what_another_instance_appends(
    log: Log, other: Log, way: Interference, history: History
) -> None:
    await appended(other, history, "a")
    await heard(log, 1)
    asked = len(way.requests)
    for name in "bcd":
        await appended(other, history, name)
    await heard(log, 4)
    assert way.requests[asked:] == []


async def test_a_watch_that_is_dropped_is_begun_again_where_it_was(
    log: Log, other: Log, way: Interference, history: History
) -> None:
    await appended(other, history, "a")
    await heard(log, 1)
    way.cut_all()
    await appended(other, history, "b")
    await heard(log, 2)
    assert await everything(log) == history.events


async def test_a_server_that_refuses_for_a_while_is_followed_again(
    log: Log, other: Log, way: Interference, history: History
) -> None:
    await appended(other, history, "a")
    await heard(log, 1)
    way.refuse(refusing=True)
    for name in "bc":
        await appended(other, history, name)
    way.refuse(refusing=False)
    await heard(log, 3)
    assert await everything(log) == history.events


async def test_what_we_append_wakes_nobody_even_if_the_watch_is_quicker(
    log: Log, other: Log, way: Interference, history: History
) -> None:
    woken = anyio.Event()

    async def wait() -> None:
        await log.wait(0, seconds=SECONDS)
        woken.set()

    way.plan("POST", "/changes", Fault.HOLD_ANSWER)
    async with anyio.create_task_group() as waiting:
        waiting.start_soon(wait)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(appended, log, history, "a")
            await heard(other, 1)
            await anyio.sleep(0.5)
            way.let.set()
        assert not woken.is_set()
        waiting.cancel_scope.cancel()
    assert await everything(log) == history.events


async def test_what_follows_our_append_is_taken_in_before_its_answer_comes(
    log: Log, other: Log, way: Interference, history: History
) -> None:
    way.plan("POST", "/changes", Fault.HOLD_ANSWER)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(appended, log, history, "a")
        await heard(other, 1)
        await appended(other, history, "b")
        await heard(log, 2)
        way.let.set()
    assert await everything(log) == history.events


GONE: dict[str, Any] = {
    "kind": "Status",
    "reason": "Expired",
    "message": "too old resource version",
    "code": 410,
}


@pytest.mark.parametrize(
    "reply",
    [
        Reply(410, body=GONE),
        Reply(200, body={"type": "ERROR", "object": GONE}),
        Reply(504, body={"message": "Too large resource version", "code": 504}),
        Reply(200, body={"type": "nonsense"}),
    ],
    ids=["410", "410 inside", "too large", "nonsense"],
)
async def test_a_watch_whose_beginning_is_forgotten_begins_now_without_a_gap(
    log: Log, other: Log, way: Interference, history: History, reply: Reply
) -> None:
    await appended(other, history, "a")
    await heard(log, 1)
    asked = len(way.requests)
    refused = way.plan("GET", WATCH, reply)
    way.cut_all()
    await appended(other, history, "b")
    with anyio.fail_after(SECONDS):
        await refused.wait()
    await appended(other, history, "c")
    await heard(log, 3)
    assert await everything(log) == history.events
    # From a moment, and by name: the log is not listed again.
    lists = [each for each in way.requests[asked:] if "limit=" in each]
    assert all(each.endswith("limit=1") for each in lists)


async def test_a_line_that_is_too_long_ends_the_watch_and_no_more(
    log: Log, other: Log, way: Interference, history: History
) -> None:
    """etcd may have been told to take objects of any size, whoever makes them."""
    await appended(other, history, "a")
    await heard(log, 1)
    huge = {"type": "ADDED", "object": {"spec": "x" * 6_000_000}}
    told = way.plan("GET", WATCH, Reply(200, body=huge))
    way.cut_all()
    with anyio.fail_after(SECONDS):
        await told.wait()
    await appended(other, history, "b")
    await heard(log, 2)
    assert await everything(log) == history.events


async def test_a_watch_without_an_answer_holds_no_start_up(
    config: Config, way: Interference
) -> None:
    way.plan("GET", WATCH, Fault.STALL, times=1000)
    hasty = limited(way.config(config), append_timeout=0.5)
    with anyio.fail_after(SECONDS):
        async with open_log(hasty) as log:
            assert not log.listening


async def test_a_watch_that_we_may_not_have_is_told_once(
    config: Config, way: Interference, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"kind": "Status", "message": "changes.evstore.dev is forbidden"}
    way.plan("GET", WATCH, Reply(403, body=body), times=3)
    async with open_log(way.config(config)) as log:
        with anyio.fail_after(SECONDS):
            while not log.listening:  # noqa: ASYNC110 - at the fourth try
                await anyio.sleep(0.01)
    told = [each for each in caplog.messages if "cannot watch the log" in each]
    assert len(told) == 1
    assert "we may not watch /apis/evstore.dev" in told[0]


@pytest.mark.parametrize(
    "body",
    ["default backend", {"kind": "Status", "reason": "NotFound"}],
    ids=["proxy", "no such kind"],
)
async def test_not_every_404_is_the_end_of_the_log(
    log: Log, other: Log, way: Interference, history: History, body: object
) -> None:
    """A proxy may say so of anything, and a server that does not know the kind yet."""
    await appended(other, history, "a")
    await heard(log, 1)
    way.plan("GET", WATCH, Fault.STALL, times=1000)
    way.plan("GET", f"/changes/{2:020}", Reply(404, body=body), times=1000)
    way.cut_all()
    await appended(other, history, "b")
    with pytest.raises(SchemaError, match="the cluster has no"):
        await log.head()
    way.forget()
    assert await log.head() == history.head


async def test_objects_that_are_no_changes_of_ours_do_not_end_the_watch(
    apiserver: ApiServer, config: Config, log: Log, other: Log, history: History
) -> None:
    await appended(log, history, "a")
    path = f"/apis/evstore.dev/v1/namespaces/{config.kubernetes.system_namespace}"
    _, found = apiserver.request("GET", f"{path}/changes/{1:020}")
    for name in ("somebodys", f"{7:020}"):
        mine = found | {"metadata": {"name": name}}
        made = apiserver.create(f"{path}/changes", mine)
        made["spec"]["summary"] = "another"
        assert apiserver.request("PUT", f"{path}/changes/{name}", made)[0] == 200
        assert apiserver.request("DELETE", f"{path}/changes/{name}")[0] == 200
    feed: Any = other._feed  # type: ignore[attr-defined]
    upsets = feed._upsets
    await appended(log, history, "b")
    await heard(other, 2)
    assert await everything(other) == history.events
    # Two were seen to go: nothing else has happened.
    assert feed._upsets <= upsets + 2


async def test_a_change_that_somebody_labels_is_what_it_was(
    apiserver: ApiServer, config: Config, log: Log, other: Log, history: History
) -> None:
    """Its version is then newer than that of what follows it."""
    for name in "abc":
        await appended(log, history, name)
    path = f"/apis/evstore.dev/v1/namespaces/{config.kubernetes.system_namespace}"
    for position in (1, 3):
        target = f"{path}/changes/{position:020}"
        _, found = apiserver.request("GET", target)
        found["metadata"]["labels"] = {"somebodys": "label"}
        assert apiserver.request("PUT", target, found)[0] == 200
    async with open_log(config) as opened:
        assert await everything(opened) == history.events
        await appended(opened, history, "d")
    for each in (log, other):
        await heard(each, 4)
        assert await everything(each) == history.events


@pytest.mark.parametrize("damage", ["changed", "gone"])
async def test_a_chunk_that_is_not_what_was_stored_is_noticed(
    apiserver: ApiServer, config: Config, log: Log, history: History, damage: str
) -> None:
    for number in range(3):
        blob = Random(number).randbytes(500_000).hex()
        history.transaction(create(key(f"n{number}"), {"blob": blob}))
    await log.append(history.events, after=log.genesis)
    path = f"/apis/evstore.dev/v1/namespaces/{config.kubernetes.system_namespace}"
    _, change = apiserver.request("GET", f"{path}/changes/{1:020}")
    names = [part["name"] for part in change["spec"]["chunks"]]
    targets = [f"{path}/chunks/{name}" for name in names]
    if damage == "gone":
        assert apiserver.request("DELETE", targets[0])[0] == 200
    else:
        # Other events, as well made as those that were stored.
        other = objects.pack(
            [msgspec.structs.replace(each, actor="mallory") for each in history.events],
            after=log.genesis.hash,
            log=log.identity,
        )
        for target, piece in zip(targets, other.pieces, strict=True):
            _, chunk = apiserver.request("GET", target)
            chunk["spec"]["payload"] = piece
            assert apiserver.request("PUT", target, chunk)[0] == 200
    hasty = limited(config, start_timeout=0.0)
    with pytest.raises(UnavailableError, match="stored at position 1 cannot be read"):
        async with open_log(hasty):
            pass


async def test_the_first_list_comes_in_pages(
    config: Config, log: Log, way: Interference, history: History
) -> None:
    for number in range(120):
        await appended(log, history, f"n{number}")
    asked = len(way.requests)
    async with open_log(way.config(config)) as opened:
        assert await everything(opened) == history.events
    pages = [each for each in way.requests[asked:] if "?limit=" in each]
    pages = [each for each in pages if not each.endswith("limit=1")]
    assert ["continue=" in each for each in pages] == [False, True]


async def test_a_list_whose_moment_is_forgotten_goes_on_by_name(
    apiserver: ApiServer,
    config: Config,
    log: Log,
    way: Interference,
    history: History,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(30):
        await appended(log, history, f"n{number}")
    monkeypatch.setattr(listing, "PAGE_OBJECTS_MAX", 100)
    path = f"/apis/evstore.dev/v1/namespaces/{config.kubernetes.system_namespace}"
    _, page = apiserver.request("GET", f"{path}/changes?limit=10")
    # What an API server sends along with 410: to go on after that name, as of now.
    body = GONE | {"metadata": {"continue": inconsistent(page)}}
    expired = way.plan("GET", "continue=", Reply(410, body=body), times=2)
    asked = len(way.requests)
    async with open_log(way.config(config)) as opened:
        assert await everything(opened) == history.events
        # Nothing comes twice, also where what is stored is handed out unchecked.
        chunks = [chunk async for chunk in opened.audit(after=0, until=30)]
    assert expired.is_set()
    positions = [event.position for chunk in chunks for event in chunk]
    assert positions == list(range(1, 31))
    firsts = [each for each in way.requests[asked:] if each.endswith("limit=10")]
    assert len(firsts) == 2


async def test_a_list_that_cannot_go_on_is_begun_again(
    config: Config,
    log: Log,
    way: Interference,
    history: History,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(12):
        await appended(log, history, f"n{number}")
    monkeypatch.setattr(listing, "PAGE_OBJECTS_MAX", 100)
    expired = way.plan("GET", "continue=", Reply(410, body=GONE))
    async with open_log(way.config(config)) as opened:
        assert expired.is_set()
        assert await everything(opened) == history.events


def inconsistent(page: dict[str, Any]) -> str:
    """Return the token with which the API server goes on from newer data."""
    token = page["metadata"]["continue"]
    text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    changed = json.loads(text) | {"rv": -1}
    made = base64.urlsafe_b64encode(json.dumps(changed).encode()).decode()
    return made.rstrip("=")


async def test_without_a_watch_an_instance_polls(
    config: Config, way: Interference
) -> None:
    way.plan("GET", WATCH, Fault.CUT_BEFORE, times=1000)
    async with evstore.open(config) as one, evstore.open(way.config(config)) as two:
        await one.create("Zone", "a", spec={})
        with anyio.fail_after(SECONDS):
            async for event in two.watch(after=0):
                assert event.key.name == "a"
                break


async def test_large_appends_lie_in_chunks_that_come_back_whole(
    apiserver: ApiServer, config: Config, log: Log, other: Log, history: History
) -> None:
    for number in range(3):
        blob = Random(number).randbytes(500_000).hex()
        history.transaction(create(key(f"n{number}"), {"blob": blob}))
    await log.append(history.events, after=log.genesis)
    path = f"/apis/evstore.dev/v1/namespaces/{config.kubernetes.system_namespace}"
    _, changes = apiserver.request("GET", f"{path}/changes")
    (change,) = changes["items"]
    assert "payload" not in change["spec"]
    _, chunks = apiserver.request("GET", f"{path}/chunks")
    assert len(chunks["items"]) == len(change["spec"]["chunks"]) > 1
    for each in (log, other):
        assert await everything(each) == history.events


def test_what_the_watch_relies_on_is_as_long_as_it_says() -> None:
    assert watches.SILENCE_SECONDS_MAX > 60
    assert watches.WATCH_SECONDS > watches.SILENCE_SECONDS_MAX
