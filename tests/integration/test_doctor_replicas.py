"""What `evstore doctor` says of replicas, on a primary with a standby that streams."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import msgspec
import pytest

import evstore
from doctoring import as_user, checks
from evstore.config import ReadReplicaConfig
from evstore.doctor.postgres import replicas
from evstore.embedded import EmbeddedServer
from evstore.maintenance import migrate_up
from fault.history import adjusted
from servers import short_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evstore import Config

pytestmark = pytest.mark.slow


def with_replica(config: Config, server: EmbeddedServer, **replica: Any) -> Config:
    """Return the configuration with a read replica."""
    named = ReadReplicaConfig(host=server.host, port=server.port, **replica)
    postgres = msgspec.structs.replace(config.postgres, read_replica=named)
    return msgspec.structs.replace(config, postgres=postgres)


def standby_of(primary: EmbeddedServer, folder: Path) -> EmbeddedServer:
    """Make a standby as a copy of the primary, not yet started."""
    folder.mkdir()
    owner = (primary.folder / "data").stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    primary.run(
        *("pg_basebackup", "--pgdata", str(folder / "data")),
        *("--write-recovery-conf", "--checkpoint=fast"),
    )
    return EmbeddedServer(folder)


class Pair(NamedTuple):
    """A primary and its standby, and a store that has the standby for a read replica."""

    primary: EmbeddedServer
    standby: EmbeddedServer
    config: Config


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Run both, with a migrated database."""
    with short_folder() as folder, EmbeddedServer(folder / "a") as primary:
        config = primary.config()
        anyio.run(migrate_up, config)
        with standby_of(primary, folder / "b") as standby:
            yield Pair(primary, standby, with_replica(config, standby))


async def settled(server: EmbeddedServer, query: str, expected: str = "t") -> None:
    """Return when a server answers a query as expected; nothing tells of it."""
    with anyio.fail_after(20):
        while server.psql(query) != expected:  # noqa: ASYNC110
            await anyio.sleep(0.02)


@pytest.fixture(autouse=True)
async def _caught_up(pair: Pair) -> None:
    end = pair.primary.psql("SELECT pg_current_wal_lsn()")
    await settled(pair.standby, f"SELECT pg_last_wal_replay_lsn() >= '{end}'")
    query = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= "
    await settled(pair.primary, f"{query} '{end}'", "1")


async def test_replicas_that_keep_up_are_well(pair: Pair) -> None:
    found = await checks(as_user(pair.config, "postgres"))
    assert found["replicas"].status == "ok"
    assert "(streaming, async, 0.0 MiB" in found["replicas"].found
    assert found["read replica"].status == "ok"
    assert found["read replica"].found.endswith("is 0 events behind")


async def test_a_role_that_may_not_see_replicas_is_told_so(pair: Pair) -> None:
    found = (await checks(pair.config))["replicas"]
    assert found.status == "ok"
    assert "(hidden)" in found.found
    assert "pg_read_all_stats" in found.advice


async def test_replicas_that_are_late_are_a_warning(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = as_user(pair.config, "postgres")
    pair.standby.psql("SELECT pg_wal_replay_pause()")
    try:
        async with evstore.open(pair.config) as store:
            await store.create("Mesh", "other", spec={})
        found = await checks(admin)
        assert found["read replica"].status == "ok"  # it has only just begun
        assert found["read replica"].found.endswith("is 1 event behind")
        monkeypatch.setattr(replicas, "LAG_SECONDS_MAX", 0.0)
        monkeypatch.setattr(replicas, "LAG_BYTES_MAX", 1)
        found = await checks(admin)
        assert found["read replica"].status == "warn"
        assert found["replicas"].status == "warn"
        unused = with_replica(admin, pair.standby, ratio=0)
        assert (await checks(unused))["read replica"].status == "ok"
    finally:
        pair.standby.psql("SELECT pg_wal_replay_resume()")


async def test_a_synchronous_replica_that_is_not_there_fails(pair: Pair) -> None:
    names = "SHOW synchronous_standby_names"
    pair.primary.psql("ALTER SYSTEM SET synchronous_standby_names = 'ghost'")
    try:
        pair.primary.psql("SELECT pg_reload_conf()")
        await settled(pair.primary, names, "ghost")
        found = (await checks(as_user(pair.config, "postgres")))["replicas"]
        assert found.status == "fail"
        assert "(ghost) is attached" in found.found
    finally:
        pair.primary.psql("ALTER SYSTEM RESET synchronous_standby_names")
        pair.primary.psql("SELECT pg_reload_conf()")
        await settled(pair.primary, names, "")


async def test_a_read_replica_with_another_log_fails(
    pair: Pair, server: EmbeddedServer, migrated_template: str
) -> None:
    pair.primary.create_database("elsewhere")
    config = pair.primary.config("elsewhere")
    await migrate_up(config)
    server.create_database("elsewhere", template=migrated_template)
    try:
        found = (await checks(with_replica(config, server)))["read replica"]
        assert found.status == "fail"
        assert "another log" in found.found
    finally:
        server.drop_database("elsewhere")
        pair.primary.drop_database("elsewhere")


async def test_a_read_replica_that_is_none_is_a_warning(pair: Pair) -> None:
    found = (await checks(with_replica(pair.config, pair.primary)))["read replica"]
    assert found.status == "warn"
    assert "can be written" in found.found


async def test_a_read_replica_that_is_down_is_a_warning(pair: Pair) -> None:
    pair.standby.stop()
    try:
        found = await checks(pair.config)
        assert found["read replica"].status == "warn"
        assert "cannot be used now" in found["read replica"].found
        assert found["migrations"].status == "ok"
    finally:
        pair.standby.start()


async def test_a_read_replica_that_nobody_can_ask_is_a_warning(pair: Pair) -> None:
    passwords = [""]  # one for the primary
    config = as_user(pair.config, "kuma", password=passwords.pop)
    found = await checks(adjusted(config, notify=False))
    assert found["read replica"].status == "warn"
    assert "its callable raised IndexError" in found["read replica"].found
    assert found["migrations"].status == "ok"
