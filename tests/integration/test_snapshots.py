"""Snapshots in PostgreSQL: taken by themselves; whatever they are, a start is right."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio
import pytest

import evstore
from command import Command
from doctoring import as_user, role_of
from events import folded
from evstore import DivergedError, UnavailableError
from evstore.config import SnapshotsConfig
from evstore.folds.projections import Projections
from evstore.instances import snapshotting
from evstore.instances.snapshotting import Snapshotter
from evstore.log import open_log
from evstore.log.postgres import PostgresLog
from evstore.maintenance import grant
from evstore.snapshots import taking
from evstore.snapshots.start import Origin
from fault.history import adjusted, superuser
from fault.test_predecessor import lose_tail

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

    from evstore import Config, Store
    from evstore.log import Snapshot
    from evstore.model import StoredEvent

EVERY: Final = 40
MESSAGE: Final = "drops the snapshot of resources"


@pytest.fixture
def config(postgres_config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Return settings by which a snapshot is taken soon."""
    monkeypatch.setattr(snapshotting, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(snapshotting, "PAUSE_SECONDS", 0.01)
    return often(postgres_config)


def often(config: Config, every: int = EVERY) -> Config:
    return adjusted(config, snapshots=SnapshotsConfig(every_events=every))


async def change(store: Store, count: int) -> None:
    for number in range(count):
        spec = {"n": store.position}
        await store.upsert("Zone", f"z-{number % 7}", change=lambda _, spec=spec: spec)


async def stored(config: Config) -> list[Snapshot]:
    async with open_log(config) as log:
        return await log.snapshots()


async def stored_up_to(config: Config, position: int) -> list[Snapshot]:
    """Return the snapshots once there is one from that position on."""
    with anyio.fail_after(10):
        async with open_log(config) as log:
            while True:
                found = await log.snapshots()
                if found and found[0].stamp.head.position >= position:
                    return found
                await anyio.sleep(0.01)


class Replays:
    """After which positions events are replayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.after: list[int] = []
        replay = PostgresLog.replay

        def spied(
            log: PostgresLog, *, after: int, until: int
        ) -> AsyncGenerator[list[StoredEvent]]:
            self.after.append(after)
            return replay(log, after=after, until=until)

        monkeypatch.setattr(PostgresLog, "replay", spied)


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> Replays:
    return Replays(monkeypatch)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if each.name.startswith("evstore")]


async def assert_right(store: Store) -> None:
    """Assert that the state is the fold of the whole log."""
    live, whole = store._committer.projections, await folded(store._log)
    assert live.head == whole.head
    assert store.digest() == whole.resources.digest()
    assert {each.key: each for each in live.resources} == {
        each.key: each for each in whole.resources
    }
    assert live.requests.items() == whole.requests.items()


async def test_a_start_reads_the_newest_snapshot_and_what_follows(
    config: Config, replays: Replays
) -> None:
    async with evstore.open(config) as store:
        await change(store, EVERY)
        await stored_up_to(config, EVERY)
        await change(store, 3)
    async with evstore.open(config) as store:
        assert [each for each in replays.after if each] == [EVERY]
        assert store.position == EVERY + 3
        await assert_right(store)
        await change(store, 5)
        await assert_right(store)


async def test_one_is_taken_each_so_many_events_and_the_last_two_are_kept(
    config: Config,
) -> None:
    async with evstore.open(config) as store:
        for round_ in range(1, 5):
            await change(store, EVERY)
            found = await stored_up_to(config, round_ * EVERY)
            assert len(found) == min(2, round_)
            assert found[0].stamp.digest == store.digest()
            assert found[0].stamp.log == store.identity


@pytest.mark.parametrize(("events", "taken"), [(EVERY // 10 - 1, 0), (EVERY // 10, 1)])
async def test_one_is_taken_at_the_end_after_a_tenth_of_them(
    postgres_config: Config, events: int, taken: int
) -> None:
    config = often(postgres_config)
    async with evstore.open(config) as store:
        await change(store, events)
    assert len(await stored(config)) == taken
    async with evstore.open(config) as store:
        await assert_right(store)
    assert len(await stored(config)) == taken, "nothing has been added since"


async def test_none_is_taken_where_none_is_wanted(
    postgres_config: Config, tmp_path: Path
) -> None:
    async with evstore.open(often(postgres_config, 0)) as store:
        await change(store, 50)
    assert await stored(postgres_config) == []
    done = await anyio.to_thread.run_sync(
        lambda: Command(postgres_config, tmp_path).process(
            "list", "Zone", KUMA_STORE_EVSTORE_SNAPSHOTS_EVERY_EVENTS="1"
        )
    )
    assert done.code == 0
    assert await stored(postgres_config) == [], "a command is no instance"


def snapshotter(store: Store) -> Snapshotter:
    log = store._log
    origin = Origin(log, lambda: Projections(log.genesis))
    return Snapshotter(log, store._committer, origin, every=EVERY)


async def test_what_another_instance_has_stored_counts(postgres_config: Config) -> None:
    config = often(postgres_config, 0)
    async with evstore.open(config) as one, evstore.open(config) as other:
        await change(one, EVERY)
        await other.get("Zone", "z-0", consistent=True)
        first, second = snapshotter(one), snapshotter(other)
        await first.aclose(seconds=10)
        await second.aclose(seconds=10)
        (only,) = await stored(config)
        await change(one, EVERY)
        await first.aclose(seconds=10)
        assert len(await stored(config)) == 2
        assert only in await stored(config)


DAMAGES: Final = {
    "a flipped bit": "UPDATE evstore.snapshot_chunks SET data = set_bit(data, 999, 1 -"
    " get_bit(data, 999)) WHERE number = 1",
    "no chunks": "DELETE FROM evstore.snapshot_chunks",
    "the last chunk is missing": "DELETE FROM evstore.snapshot_chunks AS c WHERE number"
    " = (SELECT max(number) FROM evstore.snapshot_chunks WHERE snapshot = c.snapshot)",
    "another log": "UPDATE evstore.snapshots SET log = gen_random_uuid()",
    "another event": "UPDATE evstore.snapshots SET hash = sha256(hash)",
    "another position": "UPDATE evstore.snapshots SET position = position - 1",
    "beyond the head": "UPDATE evstore.snapshots SET position = 1000000",
    "another digest": "UPDATE evstore.snapshots SET digest = sha256(digest)",
    "no snapshot at all": "UPDATE evstore.snapshot_chunks SET data = 'nonsense'",
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_snapshot_that_is_not_right_is_dropped_with_a_warning(
    config: Config, damage: str, replays: Replays, caplog: pytest.LogCaptureFixture
) -> None:
    async with evstore.open(config) as store:
        for round_ in (1, 2):
            await change(store, EVERY)
            await stored_up_to(config, round_ * EVERY)
    assert len(await stored(config)) == 2
    async with superuser(config) as admin:
        await admin.execute(DAMAGES[damage].encode())
    async with evstore.open(often(config, 0)) as store:
        await assert_right(store)
    assert replays.after[-1] == 0
    assert [MESSAGE in each for each in warnings_of(caplog)] == [True, True]
    assert await stored(config) == []


async def test_a_damaged_one_leaves_the_one_before(
    config: Config, replays: Replays, caplog: pytest.LogCaptureFixture
) -> None:
    async with evstore.open(config) as store:
        for round_ in (1, 2):
            await change(store, EVERY)
            await stored_up_to(config, round_ * EVERY)
    async with superuser(config) as admin:
        await admin.execute(
            "UPDATE evstore.snapshots SET checksum = sha256(checksum)"
            " WHERE position = (SELECT max(position) FROM evstore.snapshots)"
        )
    async with evstore.open(often(config, 0)) as store:
        assert replays.after[-1] == EVERY
        await assert_right(store)
    assert f"{MESSAGE} at {2 * EVERY}" in caplog.text
    assert [each.stamp.head.position for each in await stored(config)] == [EVERY]


@pytest.mark.parametrize(
    "change_",
    ["version = version + 1", "fingerprint = 'f00d'", "projection = 'elsewhere'"],
)
async def test_what_other_code_has_folded_is_left_to_it(
    config: Config, change_: str, replays: Replays, caplog: pytest.LogCaptureFixture
) -> None:
    async with evstore.open(config) as store:
        await change(store, EVERY)
        await stored_up_to(config, EVERY)
    async with superuser(config) as admin:
        await admin.execute(f"UPDATE evstore.snapshots SET {change_}".encode())
    async with evstore.open(often(config, 0)) as store:
        assert replays.after[-1] == 0
        await assert_right(store)
    assert not warnings_of(caplog)
    assert len(await stored(config)) == 1


async def test_a_role_that_may_not_read_them_starts_without(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    async with evstore.open(config) as store:
        await change(store, EVERY)
        await stored_up_to(config, EVERY)
    async with role_of(config) as name:
        await grant(config, name)
        async with superuser(config) as admin:
            await admin.execute(
                f"REVOKE ALL ON evstore.snapshots, evstore.snapshot_chunks"
                f' FROM "{name}"'.encode()
            )
        async with evstore.open(as_user(config, name)) as store:
            await assert_right(store)
            await change(store, EVERY)
        assert "starts without snapshots" in caplog.text
        assert "no snapshot was taken" in caplog.text


async def test_after_a_lost_tail_the_state_is_not_that_of_its_snapshots(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    async with evstore.open(config) as store:
        await change(store, EVERY)
        await stored_up_to(config, EVERY)
        await change(store, EVERY)
        await stored_up_to(config, 2 * EVERY)
        await lose_tail(config, after=EVERY + 3)
        with anyio.fail_after(10):
            while store.position != EVERY + 3:
                with suppress(DivergedError, UnavailableError):
                    await store.get("Zone", "z-0", consistent=True)
                await anyio.sleep(0.01)
        await assert_right(store)
    assert f"{MESSAGE} at {2 * EVERY}" in caplog.text
    assert [each.stamp.head.position for each in await stored(config)] == [EVERY]


async def test_commands_go_on_while_one_is_taken(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowly = taking._unhurried
    release, taken = anyio.Event(), anyio.Event()

    async def held(chunks: Iterator[bytes]) -> AsyncGenerator[bytes]:
        taken.set()
        await release.wait()
        async for chunk in slowly(chunks):
            yield chunk

    monkeypatch.setattr(taking, "_unhurried", held)
    async with evstore.open(config) as store:
        await change(store, EVERY)
        digest = store.digest()
        with anyio.fail_after(10):
            await taken.wait()
        await change(store, 5)
        assert await stored(config) == []
        release.set()
        (only,) = await stored_up_to(config, EVERY)
        assert only.stamp.head.position == EVERY
        assert only.stamp.digest == digest
