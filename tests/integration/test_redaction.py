"""A redaction takes a secret out for good, says so, and leaves the log verifiable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import evstore
from evstore import maintenance
from evstore.log import MemoryLog, open_log
from evstore.log.kubernetes import KubernetesLog
from evstore.log.postgres import PostgresLog
from fault.history import connected, superuser, value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evstore import Config, Resource, Store
    from integration.conftest import Backend

SECRET = "hunter2-correct-horse"
MARK = "[redacted]"


async def create(store: Store) -> Resource[Any]:
    return await store.create(
        "Secret",
        "key",
        mesh="default",
        spec={"user": "web", "password": SECRET},
        labels={"team": "shop"},
    )


async def redact(store: Store, version: int, **more: Any) -> Any:
    asked: dict[str, Any] = {"fields": ["spec.password"], "reason": "leaked", **more}
    return await store.redact("Secret", "key", mesh="default", version=version, **asked)


async def everything(store: Store) -> bytes:
    """Return all that can be read of a log, as one text."""
    events = [event async for event in store.events()]
    return repr([msgspec.structs.astuple(event.stored) for event in events]).encode()


async def test_every_read_says_what_was_redacted(store: Store) -> None:
    first = await create(store)
    second = await store.update(first, spec={"user": "web", "password": "new"})
    done = await redact(store, first.version)
    assert done.fields == {first.version: ("/spec/password",)}
    assert done.holding == []
    past = await store.get("Secret", "key", mesh="default", at=first.version)
    listed = await store.list("Secret", at=first.version)
    events = [event async for event in store.events(type="Secret")]
    for found in (past, listed.items[0], events[0]):
        assert found.spec == {"user": "web", "password": MARK}
        assert found.redacted == ("/spec/password",)
        assert found.labels == {"team": "shop"}
    assert (past.version, past.record.hash) == (first.version, first.record.hash)
    assert (await store.get("Secret", "key", mesh="default")) == second
    assert SECRET.encode() not in await everything(store)


async def test_an_event_says_who_when_why_and_what(store: Store) -> None:
    first = await create(store)
    await redact(store, first.version, actor="alice", reason="ticket 7")
    last = [event async for event in store.events()][-1]
    assert (last.operation, last.actor, last.reason) == (
        "redacted",
        "alice",
        "ticket 7",
    )
    assert last.key == first.key
    assert last.metadata["position"] == first.version
    assert last.metadata["fields"] == ["/spec/password"]
    assert last.spec is None


async def test_the_state_loses_it_and_keeps_version_and_digest(
    store: Store, other: Store, backend: Backend
) -> None:
    first = await create(store)
    before = store.digest()
    await redact(store, first.version)
    here = await store.get("Secret", "key", mesh="default")
    assert (here.version, here.spec["password"]) == (first.version, MARK)
    there = await other.get("Secret", "key", mesh="default", consistent=True)
    assert there.redacted == ("/spec/password",)
    assert there.spec["password"] == MARK
    async with backend.open() as restarted:
        again = await restarted.get("Secret", "key", mesh="default")
        assert again.spec == there.spec
        assert restarted.digest() == other.digest() == store.digest() == before
        assert (await restarted.verify()).ok
    for each in (store, other):
        record = each._resources.get(first.key.text)
        assert record is not None
        assert SECRET.encode() not in record.body


async def test_watchers_read_it_redacted_from_then_on(store: Store) -> None:
    first = await create(store)
    await redact(store, first.version)
    seen: list[Any] = []
    async for event in store.watch(after=0):
        seen.append((event.operation.value, event.redacted))
        if len(seen) == 2:
            break
    assert seen == [("created", ("/spec/password",)), ("redacted", ())]


async def test_a_holder_of_a_redacted_version_may_update_it(store: Store) -> None:
    first = await create(store)
    await redact(store, first.version)
    second = await store.update(first, spec={"user": "web", "password": "new"})
    assert second.redacted == ()


async def test_what_nobody_gave_another_value_stays_redacted(store: Store) -> None:
    """The mark never becomes a value by reading, changing and writing a spec."""
    first = await create(store)
    await redact(store, first.version)
    current = await store.get("Secret", "key", mesh="default")
    relabelled = await store.update(current, labels={"team": "mesh"})
    assert relabelled.redacted == ("/spec/password",)
    renamed = await store.update(relabelled, spec={**relabelled.spec, "user": "api"})
    assert renamed.redacted == ("/spec/password",)
    replaced = await store.update(renamed, spec={"user": "api", "password": "new"})
    assert replaced.redacted == ()


async def test_what_moved_in_its_list_stays_redacted(store: Store) -> None:
    users = [{"name": "web", "pin": SECRET}]
    made = await store.create("Secret", "key", mesh="default", spec={"users": users})
    await redact(store, made.version, fields=["spec.users[0].pin"])
    current = await store.get("Secret", "key", mesh="default")
    users = [{"name": "api", "pin": "other"}, *current.spec["users"]]
    moved = await store.update(current, spec={"users": users})
    assert moved.redacted == ("/spec/users/1/pin",)
    await store.delete("Secret", "key", mesh="default")
    with pytest.raises(evstore.ConflictError, match="has been redacted"):
        await store.revert(commit=store.position)


async def test_a_whole_body_goes_but_for_the_owner(store: Store) -> None:
    mesh = await store.create("Mesh", "default", spec={})
    child = await store.create(
        "Secret",
        "key",
        mesh="default",
        spec={"x": SECRET},
        owner=mesh,
        labels={"a": "b"},
    )
    await redact(store, child.version, fields=())
    found = await store.get("Secret", "key", mesh="default")
    assert (found.spec, found.labels, found.owner) == (None, {}, mesh.key)
    assert found.redacted == ("/labels", "/spec")
    await store.delete("Mesh", "default")
    with pytest.raises(evstore.NotFoundError):
        await store.get("Secret", "key", mesh="default")
    assert (await store.verify()).ok


async def test_one_event_can_be_redacted_again(store: Store) -> None:
    first = await create(store)
    await redact(store, first.version)
    done = await redact(store, first.version, fields=["/spec/user", "/labels/team"])
    assert done.fields == {1: ("/labels/team", "/spec/password", "/spec/user")}
    found = await store.get("Secret", "key", mesh="default")
    assert found.spec == {"user": MARK, "password": MARK}
    assert found.labels == {"team": MARK}
    await redact(store, first.version, fields=["/spec"])
    found = await store.get("Secret", "key", mesh="default")
    assert (found.spec, found.redacted) == (None, ("/labels/team", "/spec"))
    verified = await store.verify()
    assert verified.ok
    assert [each.fields for each in verified.redactions] == [
        ("/spec/password",),
        ("/spec/user", "/labels/team"),
        ("/spec",),
    ]


async def test_what_is_redacted_already_appends_nothing(store: Store) -> None:
    first = await create(store)
    await redact(store, first.version)
    before = await store.head()
    done = await redact(store, first.version)
    assert done.fields == {first.version: ("/spec/password",)}
    assert await store.head() == before


async def test_other_versions_that_hold_it_are_told_and_go_if_asked(
    store: Store,
) -> None:
    first = await create(store)
    second = await store.update(first, labels={"team": "mesh"})
    third = await store.update(second, spec={"user": "web", "password": "new"})
    await store.delete("Secret", "key", mesh="default")
    reborn = await create(store)
    done = await redact(store, second.version)
    assert done.holding == [first.version, reborn.version]
    with_all = await redact(store, reborn.version, everywhere=True)
    assert with_all.holding == []
    assert sorted(with_all.fields) == [first.version, reborn.version]
    assert SECRET.encode() not in await everything(store)
    kept = await store.get("Secret", "key", mesh="default", at=third.version)
    assert kept.spec["password"] == "new"
    assert (await store.verify()).ok


async def test_a_redaction_of_another_version_leaves_the_current_one(
    store: Store,
) -> None:
    first = await create(store)
    second = await store.update(first, spec={"password": "new"})
    await redact(store, first.version)
    found = await store.get("Secret", "key", mesh="default")
    assert (found, found.spec, found.redacted) == (second, {"password": "new"}, ())


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"fields": ["spec.none"]}, evstore.InvalidError, "nothing at /spec/none"),
        ({"fields": ["owner"]}, evstore.InvalidError, "no part of spec"),
        ({"fields": ["spec..x"]}, evstore.InvalidError, "no field"),
        ({"fields": ["/spec/~2"]}, evstore.InvalidError, "no JSON Pointer"),
        ({"fields": [""]}, evstore.InvalidError, "no field"),
        ({"reason": ""}, evstore.InvalidError, "reason"),
        ({"version": 2}, evstore.NotFoundError, "has no version 2"),
        ({"version": 3}, evstore.NotFoundError, "has no version 3"),
        ({"version": 99}, evstore.NotFoundError, "has no version 99"),
    ],
)
async def test_what_cannot_be_redacted_is_refused(
    store: Store, asked: dict[str, Any], error: type[Exception], message: str
) -> None:
    await create(store)
    await store.create("Mesh", "default", spec={})
    await store.delete("Secret", "key", mesh="default")
    head = await store.head()
    with pytest.raises(error, match=message):
        await redact(store, **{"version": 1, **asked})
    assert await store.head() == head


async def test_parts_that_take_too_much_to_name_are_refused_before_anything_is_done(
    store: Store,
) -> None:
    names = [f"{'x' * 90}-{number}" for number in range(700)]
    made = await store.create("Secret", "key", spec=dict.fromkeys(names, "y"))
    with pytest.raises(evstore.InvalidError, match="name what they are parts of"):
        await store.redact(
            "Secret",
            "key",
            version=made.version,
            fields=[f"spec.{name}" for name in names],
            reason="leaked",
        )
    assert await store.head() == made.version
    fits = [f"spec.{name}" for name in names[:500]]
    await store.redact(
        "Secret", "key", version=made.version, fields=fits, reason="leaked"
    )
    verified = await store.verify()
    assert (verified.ok, verified.unfinished) == (True, [])


async def test_typed_specs_say_why_they_are_none(backend: Backend) -> None:
    class Secret(msgspec.Struct):
        pin: int

    async with backend.open(types=[Secret]) as store:
        made = await store.create(Secret, "key", spec=Secret(1234))
        await store.redact(
            Secret, "key", version=made.version, fields=["spec.pin"], reason="leaked"
        )
        found = await store.get(Secret, "key")
        with pytest.raises(evstore.InvalidError, match="redacted: /spec/pin"):
            assert found.spec


# A process that dies between the announcement and the change.


class DiedError(Exception):
    """The process is gone."""


@pytest.fixture
def dying() -> Iterator[pytest.MonkeyPatch]:
    """Make the second step of each redaction fail, until it is undone."""

    async def die(*_: object, **__: object) -> bool:
        raise DiedError

    with pytest.MonkeyPatch.context() as patch:
        for log in (MemoryLog, PostgresLog, KubernetesLog):
            patch.setattr(log, "redact", die)
        yield patch


async def test_what_was_announced_and_not_done_is_told_and_finished(
    backend: Backend, dying: pytest.MonkeyPatch
) -> None:
    async with backend.open() as store:
        first = await create(store)
        second = await store.update(first, labels={})
        with pytest.raises(DiedError):
            await redact(store, first.version, everywhere=True)
        # What runs has let go of it all the same.
        current = await store.get("Secret", "key", mesh="default")
        assert current.spec["password"] == MARK
        found = await store.verify()
        assert found.ok
        assert [each.position for each in found.unfinished] == [1, 2]
        digest = store.digest()
    dying.undo()
    async with backend.open() as store:
        # The fold tells it, although the body is still stored.
        current = await store.get("Secret", "key", mesh="default")
        assert (current.spec["password"], store.digest()) == (MARK, digest)
        done = await redact(store, first.version)
        assert sorted(done.fields) == [first.version, second.version]
        found = await store.verify()
        assert (found.ok, found.unfinished) == (True, [])
        assert SECRET.encode() not in await everything(store)
        assert store.digest() == digest


async def test_two_redactions_at_once_both_come_about(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one's body was made of a body that is gone when its turn comes."""
    log = {
        "memory": MemoryLog,
        "postgres": PostgresLog,
        "kubernetes": KubernetesLog,
    }[backend.name]
    real = log.redact
    async with backend.open() as store, backend.open() as other:
        first = await create(store)

        async def later(self: Any, position: int, **binds: Any) -> bool:
            monkeypatch.setattr(log, "redact", real)
            await redact(other, position, fields=["spec.user"])
            return await real(self, position, **binds)

        monkeypatch.setattr(log, "redact", later)
        await redact(store, first.version)
        found = await store.get("Secret", "key", mesh="default", at=1)
        assert found.spec == {"user": MARK, "password": MARK}
        verified = await store.verify()
        assert (verified.ok, verified.unfinished) == (True, [])


# PostgreSQL: rights, and what is left in the table.


async def test_nothing_of_it_is_left_in_any_column(postgres_config: Config) -> None:
    async with evstore.open(postgres_config) as store:
        first = await create(store)
        await store.update(first, labels={})
        await redact(store, first.version, everywhere=True)
    async with superuser(postgres_config) as admin:
        query = "SELECT string_agg(e::text, '') FROM evstore.events AS e"
        text = await value(admin, query)
        assert SECRET not in text
        assert SECRET.encode().hex() not in text
        query = (
            "SELECT count(*) FROM evstore.resources WHERE spec::text LIKE '%%' || %s"
        )
        assert await value(admin, query, SECRET) == 0


async def test_the_digests_that_stay_do_not_give_what_is_left_away(
    postgres_config: Config,
) -> None:
    """No salt is kept of a body that another redaction has replaced since."""
    async with evstore.open(postgres_config) as store:
        first = await create(store)
        await redact(store, first.version)
        (before,) = await store._log.pick([first.version])
        await redact(store, first.version, fields=["spec.user"])
        text = await everything(store)
    assert repr(before.salt).encode() not in text


async def test_the_runtime_role_is_refused_before_anything_is_done(
    postgres_config: Config,
) -> None:
    async with superuser(postgres_config) as admin:
        await admin.execute("CREATE ROLE runs LOGIN")
        try:
            for right in (
                "USAGE ON SCHEMA evstore",
                "SELECT, INSERT ON evstore.events",
                "SELECT ON evstore.log, evstore.schema_migration",
                "SELECT, INSERT, UPDATE, DELETE ON evstore.instances",
                "EXECUTE ON FUNCTION evstore.ensure_partition",
            ):
                await admin.execute(f"GRANT {right} TO runs".encode())
            postgres = postgres_config.postgres.__replace__(user="runs")
            config = postgres_config.__replace__(postgres=postgres)
            async with evstore.open(config) as store:
                first = await create(store)
                with pytest.raises(evstore.ConfigError, match="only kuma, the owner"):
                    await redact(store, first.version)
                assert await store.head() == first.version
                # Nor past our check.
                with pytest.raises(evstore.ConfigError):
                    await store._log.redact(
                        1, body=b"{}", salt=bytes(16), before=bytes(32), announced=1
                    )
                await admin.execute("GRANT UPDATE ON evstore.events TO runs")
                with pytest.raises(evstore.ConfigError, match="only kuma, the owner"):
                    await redact(store, first.version)
                assert (await store.verify()).ok
        finally:
            await admin.execute("DROP OWNED BY runs")
            await admin.execute("DROP ROLE runs")


async def test_the_guard_refuses_what_was_not_announced(
    postgres_config: Config,
) -> None:
    async with evstore.open(postgres_config) as store:
        first = await create(store)
        (event,) = await store._log.pick([first.version])
        before = evstore.codec.body_digest(event.salt, event.body)
        with pytest.raises(evstore.ConfigError, match="guard"):
            await store._log.redact(
                1, body=b"{}", salt=bytes(16), before=before, announced=1
            )


async def test_an_instance_that_lost_its_connection_reads_it_redacted(
    postgres_config: Config,
) -> None:
    async with evstore.open(postgres_config) as store:
        first = await create(store)
        async with connected(postgres_config) as connection:
            await connection.execute(
                b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                b" application_name = 'evstore reader' AND datname = current_database()"
            )
        await redact(store, first.version)
    assert (await maintenance.verify(postgres_config)).ok
    async with open_log(postgres_config) as log:
        (event,) = await log.pick([first.version])
    assert event.body_digest is not None
