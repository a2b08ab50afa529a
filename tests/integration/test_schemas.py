"""Schema versions: old bodies are read in the current shape, and stay as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import evstore
import evstore.blocking
from events import collected
from evstore import Key, Schema
from evstore.errors import SchemaError

if TYPE_CHECKING:
    from evstore import Event, Store
    from evstore.config import Config
    from integration.conftest import Backend

Body = dict[str, Any]
WEB = Key(type="Dataplane", mesh="default", name="web")
ACTOR = {"actor": "alice"}


class Dataplane(msgspec.Struct):
    address: str
    port: int = 80


@evstore.upcaster("Dataplane", from_version=1)
def to_2(body: Body) -> Body:
    spec = body["spec"] or {}
    if "ip" in spec:
        spec["address"] = spec.pop("ip")
    if "kind" in body["labels"]:
        body["labels"]["role"] = body["labels"].pop("kind")
    return body


@evstore.upcaster("Dataplane", from_version=2)
def to_3(body: Body) -> Body:
    if body["spec"]:
        body["spec"]["net"] = {"address": body["spec"].pop("address")}
    return body


V2 = [to_2]
V3 = [to_2, to_3]


async def bodies(store: Store) -> list[bytes]:
    """Return what the log has stored."""
    return [bytes(each.body) for each in await collected(store._stored.read())]


async def versions(store: Store) -> list[int]:
    return [event.schema_version async for event in store.events()]


@pytest.fixture
async def old(backend: Backend) -> list[bytes]:
    """Return the bodies of a log that a program of before has written."""
    async with backend.open() as store:
        await store.create(
            "Dataplane",
            "web",
            mesh="default",
            spec={"ip": "10.0.0.1"},
            labels={"kind": "front"},
        )
        await store.create("Mesh", "default", spec={"ip": "of a mesh"})
        await store.create("Dataplane", "gone", spec={"ip": "10.0.0.2"})
        await store.delete("Dataplane", "gone")
        return await bodies(store)


async def test_old_bodies_are_in_the_current_shape_wherever_they_are_read(
    backend: Backend, old: list[bytes]
) -> None:
    spec, labels = {"address": "10.0.0.1"}, {"role": "front"}
    async with backend.open(upcasters=V2) as store:
        read = [
            await store.get("Dataplane", "web", mesh="default"),
            await store.get("Dataplane", "web", mesh="default", at=1),
            *(await store.list("Dataplane", labels=labels)).items,
            *(await store.list("Dataplane", labels=labels, at=2)).items,
            *[each async for each in store.events(type="Dataplane", mesh="default")],
            *[each.event async for each in store.history("Dataplane", "web")],
            (await store.diff(0, 1)).changes[0].after,
            (await store.blame("Dataplane", "web", mesh="default")).resource,
        ]
        async for event in store.watch(initial=True, labels=labels):
            read.append(event)  # type: ignore[arg-type]
            break
        async for event in store.watch(after=0, labels=labels):
            read.append(event)  # type: ignore[arg-type]
            break
        assert len(read) == 10
        assert [each.spec for each in read if each] == [spec] * 10
        assert [each.labels for each in read if each] == [labels] * 10
        assert (await store.get("Mesh", "default")).spec == {"ip": "of a mesh"}
        assert await bodies(store) == old
        assert (await store.verify()).ok


async def test_digests_are_about_what_is_stored(
    backend: Backend, old: list[bytes]
) -> None:
    async with backend.open() as before, backend.open(upcasters=V3) as after:
        assert before.digest() == after.digest()
    async with backend.open_as_stored() as store:
        assert store.digest() == before.digest()
    assert old


async def test_what_is_written_has_the_current_schema_version(
    backend: Backend, old: list[bytes]
) -> None:
    async with backend.open(upcasters=V3) as store:
        web = await store.get("Dataplane", "web", mesh="default")
        updated = await store.update(web, status={"up": True})
        assert updated.spec == {"net": {"address": "10.0.0.1"}}
        await store.create("Dataplane", "new", spec={"net": {}})
        await store.create("Mesh", "other", spec={})
        await store.delete("Dataplane", "new")
        assert await versions(store) == [1, 1, 1, 1, 3, 3, 1, 3]
        live, digest = updated.spec, store.digest()
        assert (await store.verify()).ok
    async with backend.open(upcasters=V3) as again:
        assert (await again.get("Dataplane", "web", mesh="default")).spec == live
        assert again.digest() == digest
    assert old


async def test_an_update_that_changes_the_shape_alone_appends_nothing(
    backend: Backend, old: list[bytes]
) -> None:
    async with backend.open(upcasters=V2) as store:
        web = await store.get("Dataplane", "web", mesh="default")
        assert await store.update(web, spec={"address": "10.0.0.1"}) == web
        assert await store.update(web, labels={"role": "front"}) == web
        assert await store.head() == len(old)


async def test_a_typed_spec_is_decoded_from_the_current_shape(
    backend: Backend, old: list[bytes]
) -> None:
    async with backend.open(types=[Schema(Dataplane, 2)], upcasters=V2) as store:
        web = await store.get(Dataplane, "web", mesh="default")
        assert web.spec == Dataplane("10.0.0.1")
        web.spec.port = 81
        await store.update(web, spec=web.spec)
        (event,) = [each async for each in store.events(after=len(old))]
        assert (event.schema_version, event.spec.port) == (2, 81)


# As the command works, which knows no types.


async def test_a_program_that_knows_no_types_writes_as_it_finds(
    backend: Backend, old: list[bytes]
) -> None:
    async with backend.open_as_stored() as store:
        assert (await store.get("Dataplane", "web", mesh="default")).spec == {
            "ip": "10.0.0.1"
        }
        await store.create("Dataplane", "a", spec={})
    async with backend.open(upcasters=V3) as newer:
        await newer.create("Dataplane", "b", spec={"net": {}})
        await newer.delete("Dataplane", "b")
    async with backend.open_as_stored() as store:
        await store.update(WEB, status={"n": 1})
        await store.create("Dataplane", "c", spec={"net": {}})
        await store.create("Mesh", "d", spec={})
        await store.update(Key(type="Dataplane", name="c"), spec={"net": {"n": 1}})
        await store.delete("Dataplane", "a")
        assert (await versions(store))[len(old) :] == [1, 3, 3, 1, 3, 1, 3, 1]


async def test_a_revert_puts_back_the_shape_as_well(
    backend: Backend, old: list[bytes]
) -> None:
    async with backend.open(upcasters=V2) as newer:
        await newer.update(WEB, spec={"address": "10.9.9.9"})
    async with backend.open_as_stored() as store:
        await store.revert(commit=len(old) + 1)
        assert (await versions(store))[-2:] == [2, 1]
        assert (await bodies(store))[-1] == old[0]
        await store.delete("Dataplane", "web", mesh="default")
        await store.revert(to=len(old) + 1)
        assert (await versions(store))[-2:] == [1, 2]
        await store.revert(to=1)
    async with backend.open(upcasters=V2) as newer:
        web = await newer.get("Dataplane", "web", mesh="default")
        assert web.spec == {"address": "10.0.0.1"}


async def test_a_revert_never_merges_two_shapes(
    backend: Backend, old: list[bytes]
) -> None:
    async with backend.open(upcasters=V2) as newer:
        await newer.update(WEB, spec={"address": "10.9.9.9"})
        await newer.update(WEB, status={"since": True})
    async with backend.open_as_stored() as store:
        plan = await store.revert(commit=len(old) + 1, dry_run=True)
        assert [each.message for each in plan.conflicts] == [
            "has been changed since, in another shape"
        ]
    async with backend.open(upcasters=V2) as newer:
        await newer.revert(commit=len(old) + 1)
        web = await newer.get("Dataplane", "web", mesh="default")
        assert (web.spec, web.status) == ({"address": "10.0.0.1"}, {"since": True})
        assert (await versions(newer))[-1] == 2


# What is newer than the program.


async def test_a_program_does_not_open_a_log_that_it_cannot_read(
    backend: Backend, old: list[bytes]
) -> None:
    async with backend.open(upcasters=V3) as newer:
        await newer.create("Dataplane", "new", spec={"net": {}})
    position = len(old) + 1
    message = f"position {position} is in schema version 3 of Dataplane, .* up to 2"
    with pytest.raises(SchemaError, match=message):
        async with backend.open(upcasters=V2):
            pass


async def test_what_is_newer_and_readable_cannot_be_updated(
    backend: Backend, old: list[bytes]
) -> None:
    async with backend.open(upcasters=V3) as newer:
        await newer.update(WEB, spec={"net": {"address": "new"}})
    types = [Schema("Dataplane", 2, readable=3)]
    async with backend.open(types=types, upcasters=V2) as store:
        web = await store.get("Dataplane", "web", mesh="default")
        assert web.spec == {"net": {"address": "new"}}
        with pytest.raises(SchemaError, match=r"schema version 3 .* writes 2"):
            await store.update(web, status={})
        with pytest.raises(SchemaError):
            await store.upsert("Dataplane", "web", mesh="default", change=lambda _: {})
        await store.create("Dataplane", "x", spec={"address": "a"})
        await store.delete("Dataplane", "web", mesh="default")
        assert (await versions(store))[len(old) :] == [3, 2, 3]


# Redactions: their fields are those of the stored body.


async def seen(store: Store) -> dict[str, Any]:
    """Return the resource as the state has it, and as a watch gives it."""
    found = await store.get("Dataplane", "web", mesh="default", consistent=True)
    events: list[Event] = []
    async for event in store.watch(after=0, mesh="default"):
        if event.operation in {"created", "updated"}:
            events.append(event)
        if event.position == store.position or event.position == await store.head():
            break
    last = next(each for each in events if each.position == found.version)
    return {
        "state": (found.spec, found.status, found.labels, found.redacted),
        "watched": (last.spec, last.status, last.labels, last.redacted),
        "digest": store.digest(),
    }


async def test_a_redaction_takes_the_same_from_each_state(
    backend: Backend, old: list[bytes]
) -> None:
    async with backend.open() as first, backend.open(upcasters=V3) as store:
        updated = await first.update(WEB, spec={"ip": "secret", "net": "kept"})
        version = updated.version
        async with backend.open(upcasters=V3) as other:
            assert (await seen(other))["state"][0] == {"net": {"address": "secret"}}
            await first.redact(
                "Dataplane",
                "web",
                mesh="default",
                version=version,
                fields=["spec.ip"],
                reason="leaked",
                **ACTOR,
            )
            followed = [await seen(store), await seen(other)]
            await store.redact(
                "Dataplane",
                "web",
                mesh="default",
                version=version,
                fields=["labels.kind"],
                reason="leaked",
                **ACTOR,
            )
            own = [await seen(store), await seen(other)]
            assert (await store.verify()).ok
    async with backend.open(upcasters=V3) as again:
        replayed = await seen(again)
    assert followed[0] == followed[1]
    spec = {"net": {"address": "[redacted]"}}
    marks = ("/spec/ip",)
    assert followed[0]["state"] == (spec, None, {"role": "front"}, marks)
    assert own == [replayed, replayed]
    everything = ("/labels/kind", "/spec/ip")
    assert replayed["state"] == (spec, None, {"role": "[redacted]"}, everything)
    assert replayed["watched"] == replayed["state"]
    assert replayed["digest"] == followed[0]["digest"]
    assert old


async def test_a_redaction_that_was_announced_and_not_done_counts_in_a_replay(
    backend: Backend, old: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: object, **__: object) -> None:
        raise RuntimeError

    async with backend.open(upcasters=V2) as store:
        for field in ("spec.ip", "labels.kind"):
            redaction = store.redact(
                "Dataplane",
                "web",
                mesh="default",
                version=1,
                fields=[field],
                reason="leaked",
            )
            with monkeypatch.context() as patched:
                patched.setattr(type(store._stored), "redact", dies)
                with pytest.raises(RuntimeError):
                    await redaction
        live = await seen(store)
        assert await bodies(store) == [*old, *(await bodies(store))[len(old) :]]
    async with backend.open(upcasters=V2) as again:
        replayed = await seen(again)
    assert live["state"] == replayed["state"]
    assert replayed["state"][0] == {"address": "[redacted]"}
    assert replayed["state"][2] == {"role": "[redacted]"}


async def test_what_follows_a_redaction_is_decided_on_what_it_left(
    backend: Backend, old: list[bytes]
) -> None:
    async with backend.open(upcasters=V2) as store:
        await store.redact(
            "Dataplane",
            "web",
            mesh="default",
            version=1,
            fields=["spec.ip"],
            reason="x",
        )
        updated = await store.update(WEB, status={"up": True})
        assert updated.spec == {"address": "[redacted]"}
        assert updated.redacted == ("/spec/address",)
        assert (await versions(store))[-1] == 2
    assert old


async def test_a_redaction_that_an_upcaster_cannot_take_is_refused(
    backend: Backend, old: list[bytes]
) -> None:
    @evstore.upcaster("Dataplane", from_version=1)
    def careless(body: Body) -> Body:
        return {**body, "spec": {"parts": body["spec"]["ip"].split(".")[3]}}

    async with backend.open(upcasters=[careless]) as store:
        with pytest.raises(SchemaError, match=r"raised IndexError .* was redacted"):
            await store.redact(
                "Dataplane",
                "web",
                mesh="default",
                version=1,
                fields=["spec.ip"],
                reason="x",
            )
        assert await bodies(store) == old


async def test_an_export_made_again_keeps_schema_versions(
    backend: Backend, old: list[bytes]
) -> None:
    async with backend.open_as_stored() as store:
        async with store.transaction() as tx:
            tx.shapes["Dataplane/default/again"] = 7
            tx.create("Dataplane", "again", mesh="default", spec={})
            tx.update(Key(type="Dataplane", mesh="default", name="again"), status={})
        assert (await versions(store))[len(old) :] == [7, 7]
        await store.create("Dataplane", "more", spec={})
        await store.create("Mesh", "more", spec={})
        assert (await versions(store))[len(old) + 2 :] == [7, 1]


def test_a_blocking_store_takes_upcasters(postgres_config: Config) -> None:
    with evstore.blocking.open(postgres_config) as store:
        store.create("Dataplane", "web", spec={"ip": "10.0.0.1"})
    types = [Schema(Dataplane, 2)]
    with evstore.blocking.open(postgres_config, types=types, upcasters=V2) as store:
        assert store.get(Dataplane, "web").spec == Dataplane("10.0.0.1")
