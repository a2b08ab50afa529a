"""Bugs that event stores have had, made on purpose: the checker finds each.

Each case is a fault and what a client does meanwhile. Without the bug nothing is wrong
with its history; with it, the checker says what is.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from evstore import Bookmark
from evstore.clock import boot_microseconds
from evstore.model import Event, Key
from fault.bugs import (
    FIRST,
    SECOND,
    DoesNothingOnConflict,
    Recorded,
    RetriesBlindly,
    TrustsNotifications,
    broken_or_not,
    deaf,
    introduce,
)
from fault.history import adjusted, superuser, until
from fault.proxy import Fault, open_proxy
from fault.torture.client import Client, Watcher
from fault.torture.evidence import Rule

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from evstore import Config, Store

pytestmark = pytest.mark.fault

# A sequence for positions.


SEQUENCE: Final = b"""
    CREATE SEQUENCE evstore.positions;
    CREATE FUNCTION evstore.next_position() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        NEW.position := nextval('evstore.positions');
        NEW.commit := NEW.position;
        RETURN NEW;
    END $$;
    CREATE TRIGGER next_position BEFORE INSERT ON evstore.events
    FOR EACH ROW EXECUTE FUNCTION evstore.next_position();
"""
ROLLED_BACK: Final = b"""
    BEGIN;
    CREATE TEMPORARY TABLE next AS SELECT * FROM evstore.events;
    UPDATE next SET position = position + 1, commit = commit + 1;
    INSERT INTO evstore.events SELECT * FROM next;
    ROLLBACK;
"""


@broken_or_not
async def test_a_sequence_for_positions_is_found(
    postgres_config: Config, *, broken: bool
) -> None:
    recorded = Recorded(postgres_config)
    async with superuser(postgres_config) as admin:
        if broken:
            await admin.execute(SEQUENCE)
        async with recorded.open("a", deaf(postgres_config)) as client:
            assert await client.create(FIRST)
            # A writer that fails before its commit gives back its rows, and no number.
            await admin.execute(ROLLED_BACK)
            assert await client.create(SECOND)
    found = await recorded.rules()
    assert {Rule.GAP, Rule.MISTOLD} <= found if broken else not found


# A notification that is trusted to come.


@broken_or_not
async def test_a_trusted_notification_is_found(
    postgres_config: Config, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    config = adjusted(postgres_config, poll_interval=0.05)
    recorded = Recorded(config)
    if broken:
        introduce(monkeypatch, TrustsNotifications)
    async with (
        recorded.open("a", config) as writes,
        recorded.open("b", config) as hears,
        recorded.open("c", adjusted(config, notify=False)) as silent,
    ):
        await _heard(writes, hears.store)
        last = Key(type="Mesh", name="last")
        watcher = Watcher(hears.store, hears.record, name="b")
        for number in range(5):
            assert await silent.create(Key(type="Mesh", name=f"lost-{number}"))
        assert await silent.create(last)
        # Nothing tells that something will not come.
        with anyio.move_on_after(0.5 if broken else 10):
            await watcher.follow(lambda event: event.key == last)
        watcher.end()
    found = await recorded.rules()
    assert found == ({Rule.MISSED} if broken else set())


async def _heard(writes: Client, listens: Store) -> None:
    """Return once a store hears of another one's events."""
    with anyio.fail_after(10):
        while listens.position < writes.store.position or not writes.store.position:
            assert await writes.create(
                Key(type="Mesh", name=f"heard-{boot_microseconds()}")
            )
            with anyio.move_on_after(0.2):
                await until(lambda: listens.position == writes.store.position)
    # Who was woken looks again a little later: that look shall be over.
    await anyio.sleep(0.2)


# A bookmark that is ahead of what was given.


@broken_or_not
async def test_a_bookmark_of_an_event_ahead_of_it_is_found(
    postgres_config: Config, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    recorded = Recorded(postgres_config)
    async with recorded.open("a", postgres_config) as client:
        for number in range(1, 6):
            assert await client.create(Key(type="Mesh", name=f"mesh-{number}"))
        await recorded.read()
        last = recorded.archive.events[-1]
        applied = Bookmark(log=client.store.identity, position=5, hash=last.hash)
        if broken:
            # What the store has applied is taken for what its watcher was given.
            monkeypatch.setattr(Event, "bookmark", applied)
        watcher = Watcher(client.store, client.record, name="a", marks=True)
        # The consumer fails in the middle, and goes on from its bookmark.
        assert await watcher.watch(lambda event: event.position == 2)
        assert await client.create(Key(type="Mesh", name="mesh-6"))
        await watcher.follow(lambda event: event.position == 6)
        watcher.end()
    found = await recorded.rules()
    assert found == ({Rule.SKIPPED} if broken else set())


@broken_or_not
async def test_a_bookmark_yielded_ahead_of_its_events_is_found(
    postgres_config: Config, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    recorded = Recorded(postgres_config)
    async with recorded.open("a", postgres_config) as client:
        for number in range(1, 6):
            assert await client.create(Key(type="Mesh", name=f"mesh-{number}"))
        if broken:
            monkeypatch.setattr(
                client.store, "watch", _bookmark_first(client.store.watch)
            )
        watcher = Watcher(client.store, client.record, name="a", marks=True)
        await watcher.watch(lambda event: event.position == 4)
        watcher.end("the consumer fails")
        await watcher.watch(lambda event: event.position == 5)
        watcher.end()
    found = await recorded.rules()
    assert Rule.AHEAD in found if broken else not found


def _bookmark_first(
    watch: Callable[..., AsyncGenerator[Event | Bookmark]],
) -> Callable[..., AsyncGenerator[Event | Bookmark]]:
    """Return a watch whose bookmarks come before the events that they cover."""

    async def changed(**how: Any) -> AsyncGenerator[Event | Bookmark]:
        held: list[Event | Bookmark] = []
        async with aclosing(watch(**how)) as given:
            async for each in given:
                held.append(each)
                if isinstance(each, Bookmark):
                    yield held.pop()
                    for event in held:
                        yield event
                    held.clear()

    return changed


# ON CONFLICT DO NOTHING.


@broken_or_not
async def test_on_conflict_do_nothing_is_found(
    postgres_config: Config, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    config = deaf(postgres_config)
    recorded = Recorded(config)
    if broken:
        introduce(monkeypatch, DoesNothingOnConflict)
    async with recorded.open("a", config) as quick, recorded.open("b", config) as stale:
        assert await quick.create(FIRST)
        assert await stale.create(SECOND)
    found = await recorded.rules()
    assert found == ({Rule.LOST} if broken else set())


# A retry that does not read back.


@broken_or_not
@pytest.mark.parametrize("fault", [Fault.LOSE_ANSWER, Fault.CUT_BEFORE])
async def test_a_retry_that_does_not_read_back_is_found(
    postgres_config: Config,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    *,
    broken: bool,
) -> None:
    recorded = Recorded(postgres_config)
    if broken:
        introduce(monkeypatch, RetriesBlindly)
    async with (
        open_proxy(postgres_config) as proxy,
        recorded.open("a", deaf(proxy.config)) as client,
    ):
        assert await client.create(FIRST)
        struck = proxy.once(fault, lambda request: request.is_append)
        assert await client.update(FIRST)
        assert struck.is_set()
    found = await recorded.rules()
    # Where the request was lost and not the answer, the bug does no harm.
    harm = broken and fault is Fault.LOSE_ANSWER
    assert Rule.DOUBLED in found if harm else not found
