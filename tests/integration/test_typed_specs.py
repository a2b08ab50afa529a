"""Specs as registered struct types: validated on write, decoded on read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from evstore.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from evstore import Store
    from integration.conftest import Backend


class Inbound(msgspec.Struct):
    port: int
    tags: dict[str, str] = {}


class Dataplane(msgspec.Struct):
    address: str
    inbound: list[Inbound] = []


class Stranger(msgspec.Struct):
    address: str


WEB = Dataplane(address="10.0.0.1", inbound=[Inbound(port=80, tags={"a": "b"})])


@pytest.fixture
async def typed(backend: Backend) -> AsyncIterator[Store]:
    async with backend.open(types=[Dataplane]) as store:
        yield store


async def test_a_spec_comes_back_as_its_struct(typed: Store) -> None:
    created = await typed.create(Dataplane, "web", mesh="default", spec=WEB)
    assert created.spec == WEB
    assert created.type == "Dataplane"
    for found in (
        await typed.get(Dataplane, "web", mesh="default"),
        await typed.get("Dataplane", "web", mesh="default"),
        await typed.get(Dataplane, "web", mesh="default", at=1),
        (await typed.list(Dataplane)).items[0],
    ):
        assert isinstance(found.spec, Dataplane)
        assert found.spec == WEB
    assert [event.spec async for event in typed.events()] == [WEB]


async def test_a_dict_is_validated_as_well(typed: Store) -> None:
    created = await typed.create("Dataplane", "web", spec={"address": "10.0.0.1"})
    assert created.spec == Dataplane(address="10.0.0.1")


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({}, "address"),
        ({"address": 1}, "spec.address"),
        ({"address": "x", "inbound": [{"port": "80"}]}, r"spec.inbound\[0\].port"),
        ({"address": "x", "inbound": [{"port": 1, "tags": {"a": 1}}]}, "tags"),
    ],
)
async def test_a_wrong_spec_is_invalid_with_its_path(
    typed: Store, spec: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidError, match=path):
        await typed.create("Dataplane", "web", spec=spec)
    created = await typed.create(Dataplane, "ok", spec=WEB)
    with pytest.raises(InvalidError, match=path):
        await typed.update(created, spec=spec)
    with pytest.raises(InvalidError, match=path):
        await typed.upsert("Dataplane", "up", change=lambda _: spec)
    async with typed.transaction() as tx:
        with pytest.raises(InvalidError, match=path):
            tx.create("Dataplane", "tx", spec=spec)
    assert await typed.head() == 1


async def test_a_struct_with_wrong_content_is_invalid(typed: Store) -> None:
    wrong = Dataplane(address=1)  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="address"):
        await typed.create(Dataplane, "web", spec=wrong)


async def test_a_struct_of_another_type_is_invalid(typed: Store) -> None:
    with pytest.raises(InvalidError, match="Stranger"):
        await typed.create("Dataplane", "web", spec=Stranger(address="x"))
    with pytest.raises(InvalidError, match="Stranger"):
        await typed.create(Stranger, "web", spec=Stranger(address="x"))
    with pytest.raises(InvalidError, match="Stranger"):
        await typed.get(Stranger, "web")


async def test_other_types_stay_dicts(typed: Store) -> None:
    mesh = await typed.create("Mesh", "default", spec={"anything": [1]})
    assert mesh.spec == {"anything": [1]}


async def test_changing_a_spec_that_was_handed_out_reaches_nobody(
    typed: Store,
) -> None:
    await typed.create(Dataplane, "web", spec=WEB)
    first = await typed.get(Dataplane, "web")
    first.spec.inbound[0].port = 81
    assert (await typed.get(Dataplane, "web")).spec == WEB


async def test_changing_a_spec_after_the_call_changes_nothing(typed: Store) -> None:
    spec = msgspec.structs.replace(WEB)
    async with typed.transaction() as tx:
        tx.create(Dataplane, "web", spec=spec)
        spec.address = "10.9.9.9"
    assert (await typed.get(Dataplane, "web")).spec.address == "10.0.0.1"


async def test_a_store_without_the_type_reads_the_same_as_a_dict(
    backend: Backend, typed: Store
) -> None:
    await typed.create(Dataplane, "web", spec=WEB)
    async with backend.open() as plain:
        found = await plain.get("Dataplane", "web")
        assert found.spec == msgspec.to_builtins(WEB)
        assert plain.digest() == typed.digest()


async def test_a_typed_no_op_appends_nothing(typed: Store) -> None:
    created = await typed.create(Dataplane, "web", spec=WEB)
    assert await typed.update(created, spec=created.spec) == created
    assert await typed.head() == 1


async def test_a_type_whose_name_is_no_type_is_invalid(backend: Backend) -> None:
    lower = msgspec.defstruct("lower", [("address", str)])
    with pytest.raises(InvalidError, match="types"):
        async with backend.open(types=[lower]):
            pytest.fail("lower is no name of a type")
