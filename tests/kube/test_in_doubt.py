"""Appends whose answer is lost: the position itself tells what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from events import History, creations, everything
from evstore.errors import UnavailableError
from evstore.log import HeadMovedError, InDoubtError
from fault.history import checked_history, limited
from kube.interference import Fault, Held, Interference, Reply

if TYPE_CHECKING:
    from evstore.config import Config
    from evstore.log import Log

CHANGES = "/changes"


@pytest.mark.parametrize(
    ("fault", "there"),
    [
        (Fault.CUT_BEFORE, False),
        (Fault.LOSE_ANSWER, True),
        (Reply(500, body={"kind": "Status", "message": "etcd is gone"}), False),
        (Reply(504, body={"kind": "Status", "message": "timeout"}), False),
        (Reply(201, body="welcome"), False),
        (Reply(201, body={"metadata": {"name": "another", "uid": "1"}}), False),
    ],
    ids=["cut before", "answer lost", "500", "504", "no Change", "another Change"],
)
async def test_an_append_without_an_answer_is_in_doubt_and_the_log_tells(
    log: Log, way: Interference, history: History, fault: Fault | Reply, *, there: bool
) -> None:
    events = creations(history, "ab")
    way.plan("POST", CHANGES, fault)
    with pytest.raises(InDoubtError):
        await log.append(events, after=log.genesis)
    found = await log.read_on(log.genesis)
    assert found == (events if there else [])
    if not there:
        await log.append(events, after=log.genesis)
    else:
        with pytest.raises(HeadMovedError):
            await log.append(events, after=log.genesis)
    assert await everything(log) == events


async def test_what_was_delivered_late_meets_its_own_resend(
    log: Log, way: Interference, history: History
) -> None:
    events = creations(history, "ab")
    way.plan("POST", CHANGES, Fault.DELIVER_LATE)
    with pytest.raises(InDoubtError):
        await log.append(events, after=log.genesis)
    assert await log.read_on(log.genesis) == []
    await log.append(events, after=log.genesis)
    way.let.set()
    await way.late.wait()
    assert await everything(log) == events
    assert await log.head() == history.head


async def test_an_append_that_is_broken_off_is_in_doubt(
    log: Log, way: Interference, history: History
) -> None:
    stalled = way.plan("POST", CHANGES, Fault.STALL)
    errors: list[Exception] = []

    async def append() -> None:
        try:
            await log.append(creations(history, "a"), after=log.genesis)
        except InDoubtError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(append)
        await stalled.wait()
        log.abort()
    assert len(errors) == 1


async def test_what_a_full_etcd_refuses_is_not_in_doubt(
    log: Log, way: Interference, history: History
) -> None:
    events = creations(history, "a")
    message = "etcdserver: mvcc: database space exceeded"
    way.plan("POST", CHANGES, Reply(500, body={"kind": "Status", "message": message}))
    with pytest.raises(UnavailableError, match=r"etcd is full: .*evstore compact"):
        await log.append(events, after=log.genesis)
    await log.append(events, after=log.genesis)
    assert await everything(log) == events


class Landed:
    """Sends appends of a name each, and keeps how they ended, in order."""

    def __init__(self, log: Log, history: History) -> None:
        self._log = log
        self._history = history
        self.outcomes: list[tuple[str, Exception | None]] = []
        self.both = anyio.Event()

    def send(self, name: str) -> None:
        def landed(error: Exception | None) -> None:
            self.outcomes.append((name, error))
            if len(self.outcomes) == 2:
                self.both.set()

        after = self._history.head
        events = creations(self._history, name)
        assert self._log.send(events, after=after, landed=landed)


async def test_a_second_append_in_flight_is_sent_when_the_first_stands(
    log: Log, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(log, monkeypatch)
    flights = Landed(log, history)
    flights.send("a")
    flights.send("b")
    await held.there.wait()
    with anyio.move_on_after(0.5):
        await flights.both.wait()  # it does not, however long it may take
    assert flights.outcomes == []
    held.let.set()
    await flights.both.wait()
    assert flights.outcomes == [("a", None), ("b", None)]
    assert await everything(log) == history.events


async def test_a_second_append_in_flight_is_not_sent_where_the_first_is_in_doubt(
    log: Log, way: Interference, history: History
) -> None:
    """Though it could be, as the first stands: who asks for that one is not done yet."""
    way.plan("POST", CHANGES, Fault.LOSE_ANSWER)
    flights = Landed(log, history)
    flights.send("a")
    flights.send("b")
    await flights.both.wait()
    assert [(name, type(error)) for name, error in flights.outcomes] == [
        ("a", InDoubtError),
        ("b", HeadMovedError),
    ]
    assert await everything(log) == history.events[:1]


@pytest.mark.slow
async def test_a_store_applies_each_change_once_whatever_gets_lost(
    config: Config, way: Interference
) -> None:
    slow = limited(way.config(config), append_timeout=1.0)
    async with evstore.open(slow) as store:
        for number in range(12):
            fault = (Fault.CUT_BEFORE, Fault.LOSE_ANSWER, Reply(500))[number % 3]
            way.plan("POST", CHANGES, fault)
            made = await store.create("Zone", f"z{number}", spec={"n": number})
            assert made.version == number + 1
    assert [event.key.name for event in await checked_history(config)] == [
        f"z{number}" for number in range(12)
    ]


@pytest.mark.slow
async def test_two_instances_race_for_every_position(
    config: Config, way: Interference
) -> None:
    async with evstore.open(config) as one, evstore.open(way.config(config)) as two:

        async def write(store: evstore.Store, name: str) -> None:
            for number in range(25):
                await store.create("Zone", f"{name}{number}", spec={})

        async with anyio.create_task_group() as tasks:
            for lane in range(4):
                tasks.start_soon(write, one, f"a{lane}-")
                tasks.start_soon(write, two, f"b{lane}-")
    assert len(await checked_history(config)) == 200


async def test_the_server_that_has_too_much_to_do_is_asked_again_when_it_says(
    log: Log, way: Interference, history: History
) -> None:
    events = creations(history, "a")
    way.plan("POST", CHANGES, Reply(429, {"Retry-After": "0.05"}), times=3)
    await log.append(events, after=log.genesis)
    tries = [each for each in way.requests if each.startswith("POST")]
    assert [each.rpartition("/")[2] for each in tries] == ["logs", *["changes"] * 4]
    assert await everything(log) == events


async def test_the_server_that_wants_to_be_left_alone_for_long_is_unavailable(
    log: Log, way: Interference, history: History
) -> None:
    events = creations(history, "a")
    way.plan("POST", CHANGES, Reply(429, {"Retry-After": "3600"}))
    with pytest.raises(UnavailableError, match="too much to do"):
        await log.append(events, after=log.genesis)
    await log.append(events, after=log.genesis)
    assert await everything(log) == events
