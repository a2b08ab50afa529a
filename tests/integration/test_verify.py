"""Whatever a superuser does to the log is found, and named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import evstore
from evstore import anchors as signing, maintenance
from evstore.log import open_log
from evstore.proof.chain import verify
from evstore.proof.diagnosis import Kind
from fault.history import superuser
from tampering import (
    fill,
    insert,
    rehash,
    remove,
    shift,
    stored,
    swap,
    tamper,
    unguarded,
    update,
)

if TYPE_CHECKING:
    from evstore import Config, Store
    from evstore.anchors import Anchor
    from integration.conftest import Backend

KEY = signing.private_key(signing.make_key())


@pytest.fixture
async def config(postgres_config: Config) -> Config:
    await fill(postgres_config)
    return postgres_config


async def test_an_untouched_log_verifies(store: Store) -> None:
    await store.create("Mesh", "default", spec={})
    found = await store.verify()
    assert found.ok
    assert (found.head, found.log) == (1, store.identity)
    assert (found.redactions, found.unfinished, found.unguarded) == ([], [], [])


async def test_an_empty_log_verifies(store: Store) -> None:
    found = await store.verify()
    assert (found.ok, found.head) == (True, 0)


async def test_a_log_of_many_chunks_verifies(backend: Backend) -> None:
    async with backend.open() as store:
        for number in range(3):
            async with store.transaction() as tx:
                for index in range(700):
                    spec = {"n": number, "text": 'é\u2028"\\' * 3}
                    if number:
                        key = evstore.Key(type="Dataplane", name=f"dp-{index}")
                        tx.update(key, spec=spec)
                    else:
                        tx.create("Dataplane", f"dp-{index}", spec=spec)
        seen: list[int] = []
        found = await verify(store._log, advance=seen.append)
        assert (found.ok, found.head) == (True, 2100)
        assert seen == sorted(seen)
        assert seen[-1] == 2100


async def test_events_larger_than_a_chunk_verify(postgres_config: Config) -> None:
    async with evstore.open(postgres_config) as store:
        for number in range(12):
            await store.create("Mesh", f"m-{number}", spec={"x": "y" * 1_000_000})
        assert (await store.verify()).ok


# One column of an event. Where its value cannot be worked out, the column is None.
CHANGES: dict[str, tuple[int, str, str | None]] = {
    "body": (6, """body = '{"labels": {}, "spec": {"port": 9}}'""", "body"),
    "body, of the same length": (
        6,
        "body = replace(body::text, '2', '9')::json",
        None,
    ),
    "body, of another length": (
        6,
        "body = replace(body::text, '2', '42')::json",
        "body or metadata",
    ),
    "body that is no body": (6, "body = '[1]'", "body"),
    "metadata": (6, """metadata = '{"reason": "none"}'""", "metadata"),
    "metadata, canonical": (
        6,
        "metadata = replace(metadata::text, 'first', 'worse')::json",
        None,
    ),
    "metadata, of another length": (
        6,
        "metadata = replace(metadata::text, 'first', 'other')::json, size = 1",
        "body or metadata",
    ),
    "salt": (6, "salt = decode(repeat('00', 16), 'hex')", None),
    "actor": (6, "actor = 'mallory'", "actor"),
    "actor with odd letters": (6, "actor = E'\"\\\\\\n'", "actor"),
    "operation": (9, "operation = 'created'", "operation"),
    "type": (6, "type = 'Mesh'", "type"),
    "type with a slash": (6, "type = 'Data/plane'", "type, mesh or name"),
    "mesh": (6, "mesh = 'prod'", "mesh"),
    "name": (6, "name = 'c'", "name"),
    "time": (9, "recorded_at = recorded_at + interval '1 us'", None),
    "time within a transaction": (4, "recorded_at = now()", "recorded_at"),
    "time out of any range": (6, "recorded_at = 'infinity'", None),
    "tx": (4, "tx = gen_random_uuid()", "tx"),
    "commit": (6, "commit = 7", "commit"),
    "commit within a transaction": (4, "commit = 4", "commit"),
    "schema version": (6, "schema_version = 2", "schema_version"),
    "hash": (6, "hash = sha256('x')", "hash"),
    "body digest": (6, "body_digest = sha256('x')", "body_digest"),
    "size": (6, "size = size + 1", "size"),
    "the first event": (1, "actor = 'mallory'", "actor"),
    "the last event": (12, "actor = 'mallory'", "actor"),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_changed_event_is_named(config: Config, name: str) -> None:
    position, change, column = CHANGES[name]
    await tamper(config, update(position, change))
    found = await maintenance.verify(config)
    (finding,) = found.findings
    assert (finding.kind, finding.position) == (Kind.CHANGED, position)
    assert finding.column == column
    assert f"position {position} " in finding.text


async def test_what_a_column_was_is_told_where_it_can_be(config: Config) -> None:
    await tamper(config, update(6, "actor = 'mallory'"))
    (finding,) = (await maintenance.verify(config)).findings
    assert finding.text == "position 6 was changed: its actor, which was 'alice'"


async def test_a_change_whose_hash_was_made_anew_shows_at_the_next_event(
    config: Config,
) -> None:
    await tamper(config, update(6, "actor = 'mallory'"))
    await rehash(config, first=6, last=6)
    (finding,) = (await maintenance.verify(config)).findings
    assert (finding.kind, finding.position, finding.column) == (Kind.CHANGED, 7, None)
    assert "or position 6 was, and its hash made anew" in finding.text


@pytest.mark.parametrize(("first", "last"), [(1, 1), (6, 6), (3, 5), (2, 11)])
async def test_removed_events_are_named(config: Config, first: int, last: int) -> None:
    await tamper(config, remove(first, last))
    (finding,) = (await maintenance.verify(config)).findings
    assert (finding.kind, finding.position) == (Kind.REMOVED, first)
    assert finding.last == last


@pytest.mark.parametrize(("first", "last"), [(1, 1), (6, 6), (6, 7), (3, 5)])
async def test_removed_events_are_found_where_the_rest_was_renumbered(
    config: Config, first: int, last: int
) -> None:
    await tamper(config, remove(first, last), *shift(last + 1, first - last - 1))
    (finding,) = (await maintenance.verify(config)).findings
    assert (finding.kind, finding.position) == (Kind.REMOVED, first)


@pytest.mark.parametrize("honest", [False, True])
@pytest.mark.parametrize("position", [1, 3, 6, 10])
async def test_an_inserted_event_is_named(
    config: Config, position: int, *, honest: bool
) -> None:
    await tamper(config, *insert(position, like=9))
    if honest:
        await rehash(config, first=position, last=position)
    (finding,) = (await maintenance.verify(config)).findings
    assert (finding.kind, finding.position, finding.last) == (
        Kind.INSERTED,
        position,
        position,
    )


async def test_several_inserted_events_are_named(config: Config) -> None:
    await tamper(config, *insert(6, like=9))
    await tamper(config, *insert(6, like=10))
    await rehash(config, first=6, last=7)
    (finding,) = (await maintenance.verify(config)).findings
    assert (finding.kind, finding.position, finding.last) == (Kind.INSERTED, 6, 7)


@pytest.mark.parametrize(("one", "other"), [(9, 10), (6, 7), (6, 10), (1, 2), (3, 4)])
async def test_exchanged_events_are_named(config: Config, one: int, other: int) -> None:
    await tamper(config, *swap(one, other))
    (finding,) = (await maintenance.verify(config)).findings
    assert (finding.kind, finding.position) == (Kind.REORDERED, one)
    assert finding.last == other


@pytest.mark.parametrize("to", [7, 9])
async def test_a_moved_event_is_named(config: Config, to: int) -> None:
    """Event 6 goes behind others, which move up."""
    await tamper(
        config,
        "UPDATE evstore.events SET position = 2000000 WHERE position = 6",
        f"UPDATE evstore.events SET position = position + 999999, commit = commit - 1"
        f" WHERE position BETWEEN 7 AND {to}",
        "UPDATE evstore.events SET position = position - 1000000"
        " WHERE position BETWEEN 1000000 AND 1999999",
        f"UPDATE evstore.events SET position = {to}, commit = {to}"
        " WHERE position = 2000000",
    )
    (finding,) = (await maintenance.verify(config)).findings
    assert (finding.kind, finding.position) == (Kind.REORDERED, 6)
    assert finding.last == to


@pytest.mark.parametrize(
    "change",
    ["commit = 4", "tx = gen_random_uuid()", "recorded_at = recorded_at + '1 us'"],
)
async def test_a_torn_transaction_is_named(config: Config, change: str) -> None:
    await tamper(config, update(4, change))
    await rehash(config, first=4)
    (finding,) = (await maintenance.verify(config)).findings
    assert finding.kind is Kind.TORN
    assert finding.position in {4, 5}


async def test_a_time_that_runs_backwards_is_named(config: Config) -> None:
    await tamper(config, update(9, "recorded_at = recorded_at - interval '1 day'"))
    await rehash(config, first=9)
    (finding,) = (await maintenance.verify(config)).findings
    assert (finding.kind, finding.position) == (Kind.BACKDATED, 9)


async def test_a_last_transaction_that_lost_its_end_is_named(config: Config) -> None:
    await tamper(config, remove(12, 12))
    (finding,) = (await maintenance.verify(config)).findings
    assert (finding.kind, finding.position, finding.last) == (Kind.CUT, 12, 12)


async def test_what_is_no_event_at_all_is_named(config: Config) -> None:
    await tamper(
        config,
        "ALTER TABLE evstore.events DROP CONSTRAINT events_operation_check",
        update(6, "operation = 'invented'"),
    )
    (finding,) = (await maintenance.verify(config)).findings
    assert (finding.kind, finding.position) == (Kind.CHANGED, 6)


async def test_a_damaged_log_needs_no_store_to_be_verified(config: Config) -> None:
    await tamper(config, remove(3, 3))
    with pytest.raises(evstore.DivergedError):
        async with evstore.open(config):
            pass
    assert not (await maintenance.verify(config)).ok


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE evstore.events DISABLE TRIGGER append_only_rows",
        (
            "ALTER TABLE evstore.events_0000000000000000001"
            " DISABLE TRIGGER append_only_table"
        ),
        "ALTER TABLE evstore.events ENABLE TRIGGER append_only_table",
    ],
)
async def test_a_guard_that_is_off_is_told(config: Config, change: str) -> None:
    async with superuser(config) as admin:
        await admin.execute(change.encode())
    found = await maintenance.verify(config)
    assert found.ok
    assert found.unguarded
    assert all("append_only" in each for each in found.unguarded)


# Anchors: what the chain alone cannot tell.


async def anchored(config: Config) -> Anchor:
    return await maintenance.anchor(config, KEY)


async def add(config: Config, count: int) -> None:
    async with evstore.open(config) as store:
        for _ in range(count):
            await store.create("Mesh", f"m-{store.position}", spec={})


async def test_an_anchor_vouches_for_what_was_there(config: Config) -> None:
    anchor = await anchored(config)
    await add(config, 2)
    found = await maintenance.verify(config, anchors=[anchor])
    assert (found.ok, found.anchored, found.head) == (True, 12, 14)


async def test_a_cut_end_shows_by_an_anchor_alone(config: Config) -> None:
    anchor = await anchored(config)
    await tamper(config, remove(11, 12))
    assert (await maintenance.verify(config)).ok
    (finding,) = (await maintenance.verify(config, anchors=[anchor])).findings
    assert (finding.kind, finding.position, finding.last) == (Kind.CUT, 11, 12)


async def test_an_end_that_was_cut_and_grew_again_shows_by_an_anchor(
    config: Config,
) -> None:
    anchor = await anchored(config)
    await tamper(config, remove(11, 12))
    await add(config, 3)
    assert (await maintenance.verify(config)).ok
    (finding,) = (await maintenance.verify(config, anchors=[anchor])).findings
    assert (finding.kind, finding.last) == (Kind.REWRITTEN, 12)


async def test_a_log_made_anew_shows_between_two_anchors(config: Config) -> None:
    first = await anchored(config)
    await add(config, 3)
    second = await anchored(config)
    await tamper(config, update(14, "actor = 'mallory'"))
    await rehash(config, first=14)
    assert (await maintenance.verify(config)).ok
    found = await maintenance.verify(config, anchors=[second, first])
    (finding,) = found.findings
    assert (finding.kind, finding.position, finding.last) == (Kind.REWRITTEN, 13, 15)
    assert found.anchored == 12


async def test_another_log_in_its_place_is_told(
    config: Config, unmigrated_config: Config
) -> None:
    anchor = await anchored(config)
    await maintenance.migrate_up(unmigrated_config)
    await fill(unmigrated_config)
    found = await maintenance.verify(unmigrated_config, anchors=[anchor])
    (finding,) = found.findings
    assert finding.kind is Kind.FOREIGN
    assert str(anchor.log) in finding.text


async def test_an_anchor_of_an_empty_log_holds(postgres_config: Config) -> None:
    anchor = await anchored(postgres_config)
    assert anchor.position == 0
    await add(postgres_config, 1)
    found = await maintenance.verify(postgres_config, anchors=[anchor])
    assert (found.ok, found.anchored) == (True, 0)


# Redactions: replaced bodies, and none that nobody announced.


async def test_a_body_that_was_replaced_without_an_event_is_named(
    config: Config,
) -> None:
    await tamper(
        config,
        update(
            6,
            "body_digest = sha256(salt || convert_to(body::text, 'UTF8')),"
            """ body = '{"labels":{},"owner":null,"spec":null,"status":null}'""",
        ),
    )
    (finding,) = (await maintenance.verify(config)).findings
    assert (finding.kind, finding.position, finding.column) == (Kind.CHANGED, 6, "body")
    assert "no event announces" in finding.text


async def test_a_redacted_body_that_was_changed_again_is_named(config: Config) -> None:
    async with evstore.open(config) as store:
        await store.redact("Secret", "key", version=2, reason="leaked")
        assert (await store.verify()).ok
    await tamper(config, update(2, "body = replace(body::text, 'null', '{}')::json"))
    (finding,) = (await maintenance.verify(config)).findings
    assert (finding.kind, finding.position, finding.column) == (Kind.CHANGED, 2, "body")


async def test_the_first_fault_is_told_also_behind_a_redaction(config: Config) -> None:
    async with evstore.open(config) as store:
        await store.redact("Secret", "key", version=2, reason="leaked")
    await tamper(config, update(7, "actor = 'mallory'"))
    found = await maintenance.verify(config)
    assert [each.position for each in found.findings] == [7]
    assert [each.position for each in found.redactions] == [2]


async def test_a_redaction_while_it_verifies_is_no_fault(config: Config) -> None:
    """The announcement lies behind what is read, the replaced body does not."""
    async with evstore.open(config) as store, open_log(config) as log:
        head = log.head

        async def head_then_redaction() -> evstore.model.Head:
            found = await head()
            await store.redact("Secret", "key", version=2, reason="leaked")
            return found

        log.head = head_then_redaction  # type: ignore[method-assign]
        found = await verify(log)
    assert found.ok
    assert found.head == 12


async def test_unguarded_leaves_the_guards_as_they_were(config: Config) -> None:
    async with unguarded(config):
        assert (await maintenance.verify(config)).unguarded
    assert not (await maintenance.verify(config)).unguarded
    async with open_log(config) as log:
        assert len(await stored(log)) == 12
