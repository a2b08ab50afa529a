"""What callers give: checked and encoded at the call, each error with its place."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import evstore
from evstore.commit.arguments import Arguments, check_key
from evstore.errors import InvalidError
from evstore.model import Key

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN = Arguments(actor="nobody")
MIB = 1024 * 1024


class Port(msgspec.Struct):
    number: int


class Dataplane(msgspec.Struct):
    address: str
    ports: list[Port] = []


class Zone(msgspec.Struct):
    address: str


class Pair(msgspec.Struct, array_like=True):
    first: int


TYPED = Arguments([Dataplane, Zone])


def path_of(call: Callable[[], object]) -> str:
    with pytest.raises(InvalidError) as caught:
        call()
    return caught.value.path


@pytest.mark.parametrize(
    "name",
    ["a", "0", "web-1", "a.b", "a--b", "1.2.3", "x" * 253, "a" * 100 + "." + "b" * 100],
)
def test_names_of_dns_are_allowed(name: str) -> None:
    assert PLAIN.key("Mesh", name, "").name == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "A", "a_b", "-a", "a-", ".a", "a.", "a..b", "a.-b", "a-.b", "a b"),
        *("a/b", "é", "a\n", "a\0", "\ud800", "x" * 254, "a%"),
    ],
)
def test_other_names_are_refused(name: str) -> None:
    assert path_of(lambda: PLAIN.key("Mesh", name, "")) == "name"


@pytest.mark.parametrize("mesh", ["", "default", "a.b", "x" * 63])
def test_a_mesh_is_empty_or_a_short_name(mesh: str) -> None:
    assert PLAIN.key("Mesh", "a", mesh).mesh == mesh


@pytest.mark.parametrize("mesh", ["Default", "-", "a/b", "x" * 64, "\0", " "])
def test_other_meshes_are_refused(mesh: str) -> None:
    assert path_of(lambda: PLAIN.key("Mesh", "a", mesh)) == "mesh"
    assert path_of(lambda: PLAIN.where("Mesh", mesh)) == "mesh"


@pytest.mark.parametrize("type_", ["A", "Mesh", "HTTPRoute2", "X" * 63])
def test_a_type_is_a_capitalized_word(type_: str) -> None:
    assert PLAIN.key(type_, "a", "").type == type_


@pytest.mark.parametrize("type_", ["", "mesh", "2A", "A-B", "A.B", "A/B", "X" * 64])
def test_other_types_are_refused(type_: str) -> None:
    assert path_of(lambda: PLAIN.key(type_, "a", "")) == "type"


@pytest.mark.parametrize("wrong", [None, 7, b"a", ["a"]])
def test_what_is_no_text_is_refused(wrong: Any) -> None:
    assert path_of(lambda: PLAIN.key("Mesh", wrong, "")) == "name"
    assert path_of(lambda: PLAIN.key("Mesh", "a", wrong)) == "mesh"


def test_a_key_given_as_one_is_checked_as_well() -> None:
    check_key(Key(type="Mesh", name="a"))
    bad = Key(type="Mesh", mesh="m", name="a/b")
    assert path_of(lambda: PLAIN.update(bad, spec={})) == "name"
    assert path_of(lambda: PLAIN.create("Mesh", "a", spec={}, owner=bad)) == "name"


@pytest.mark.parametrize("actor", ["a\0b", "\ud800"])
def test_a_filter_by_an_actor_that_no_log_can_hold_is_refused(actor: str) -> None:
    assert path_of(lambda: PLAIN.where(None, None, None, actor)) == "actor"


@pytest.mark.parametrize("spec", [None, [], "text", 1, [{"a": 1}]])
def test_a_spec_that_is_no_object_is_refused(spec: Any) -> None:
    assert path_of(lambda: PLAIN.create("Mesh", "a", spec=spec)) == "spec"


def test_a_status_that_is_no_object_is_refused() -> None:
    wrong: Any = [1]
    path = path_of(lambda: PLAIN.create("Mesh", "a", spec={}, status=wrong))
    assert path == "status"
    key = Key(type="Mesh", name="a")
    assert path_of(lambda: PLAIN.update(key, status=wrong)) == "status"


def test_a_spec_has_a_mebibyte_and_no_more() -> None:
    overhead = len('{"a":""}')
    PLAIN.create("Mesh", "a", spec={"a": "x" * (MIB - overhead)})
    too_large = {"a": "x" * (MIB - overhead + 1)}
    assert path_of(lambda: PLAIN.create("Mesh", "a", spec=too_large)) == "spec"
    umlauts = {"a": "é" * (MIB // 2)}
    assert path_of(lambda: PLAIN.create("Mesh", "a", spec=umlauts)) == "spec"
    path = path_of(lambda: PLAIN.create("Mesh", "a", spec={}, status=too_large))
    assert path == "status"


def test_a_fault_inside_a_spec_is_named_by_its_path() -> None:
    spec = {"a": [{"b": "x\0"}]}
    assert path_of(lambda: PLAIN.create("Mesh", "a", spec=spec)) == "spec.a[0].b"
    key = Key(type="Mesh", name="a")
    status = {"n": float("nan")}
    assert path_of(lambda: PLAIN.update(key, status=status)) == "status.n"


@pytest.mark.parametrize("value", [1, None, True, ["x"], {"a": "b"}])
def test_the_values_of_labels_are_texts(value: Any) -> None:
    labels = {"ok": "1", "team": value}
    path = path_of(lambda: PLAIN.create("Mesh", "a", spec={}, labels=labels))
    assert path == "labels.team"


def test_labels_are_checked_like_specs() -> None:
    def create(labels: Any) -> Callable[[], object]:
        return lambda: PLAIN.create("Mesh", "a", spec={}, labels=labels)

    assert path_of(create({"a": "x\0"})) == "labels.a"
    assert path_of(create({"a\0": "x"})).startswith("labels")
    assert path_of(create({1: "x"})) == "labels"
    assert path_of(create({"a": "x" * 65_537})) == "labels"


def test_the_callers_objects_are_not_looked_at_again() -> None:
    spec: dict[str, Any] = {"list": [1]}
    labels = {"a": "1"}
    created = PLAIN.create("Mesh", "a", spec=spec, labels=labels)
    spec["list"].append(2)
    labels.clear()
    assert created.spec == b'{"list":[1]}'
    assert created.labels == b'{"a":"1"}'


def test_an_update_tells_what_is_given_from_what_is_not() -> None:
    key = Key(type="Mesh", name="a")
    nothing = PLAIN.update(key)
    assert (nothing.spec, nothing.status, nothing.labels) == (None, None, None)
    cleared = PLAIN.update(key, status=None, labels={})
    assert (cleared.status, cleared.labels) == (b"null", b"{}")


# Typed specs.


def test_a_struct_and_a_dict_of_the_same_content_are_the_same_spec() -> None:
    struct = TYPED.create(Dataplane, "a", spec=Dataplane("::1", [Port(80)]))
    plain = {"address": "::1", "ports": [{"number": 80}]}
    assert struct == TYPED.create("Dataplane", "a", spec=plain)
    assert json.loads(struct.spec) == plain


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"address": "::1", "ports": [{"number": "x"}]}, "spec.ports[0].number"),
        ({"address": 1}, "spec.address"),
        ({}, "address"),
    ],
)
def test_a_typed_spec_is_validated_and_the_error_names_the_path(
    spec: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        TYPED.create("Dataplane", "a", spec=spec)
    assert path in str(caught.value)
    key = Key(type="Dataplane", name="a")
    with pytest.raises(InvalidError):
        TYPED.update(key, spec=spec)


def test_a_struct_whose_fields_hold_something_else_is_refused() -> None:
    wrong: Any = "80"
    spec = Dataplane("::1", [Port(wrong)])
    with pytest.raises(InvalidError, match=r"spec\.ports\[0\]\.number"):
        TYPED.create(Dataplane, "a", spec=spec)


def test_a_struct_of_another_type_is_refused() -> None:
    assert path_of(lambda: TYPED.create(Dataplane, "a", spec=Zone("x"))) == "spec"
    assert path_of(lambda: TYPED.create("Mesh", "a", spec=Zone("x"))) == "spec"


def test_a_struct_type_that_was_not_registered_is_refused() -> None:
    assert path_of(lambda: TYPED.type_name(Port)) == "type"
    other = msgspec.defstruct("Zone", [("address", str)])
    assert path_of(lambda: TYPED.type_name(other)) == "type"


def test_a_struct_that_is_no_object_is_no_spec() -> None:
    def create() -> object:
        return Arguments([Pair]).create(Pair, "a", spec=Pair(1))

    with pytest.raises(InvalidError):
        create()


def test_a_struct_type_whose_name_is_no_type_is_refused() -> None:
    lower = msgspec.defstruct("lower", [("a", int)])
    assert path_of(lambda: Arguments([lower])) == "types"


# Commands.


def test_who_acts_where_nobody_is_named() -> None:
    def actor(given: str | None) -> str:
        return PLAIN.command([], actor=given, reason="", request_id=None).actor

    assert actor(None) == "nobody"
    assert actor("") == ""
    assert actor("alice") == "alice"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("actor", "a\0"),
        ("actor", "x" * 254),
        ("actor", "\ud800"),
        ("actor", 7),
        ("reason", "a\0"),
        ("reason", "x" * 4_097),
        ("reason", None),
        ("request_id", ""),
        ("request_id", "a\0"),
        ("request_id", "x" * 254),
        ("request_id", 7),
    ],
)
def test_who_why_and_which_request_are_checked(argument: str, value: Any) -> None:
    given: dict[str, Any] = {"actor": "a", "reason": "", "request_id": None}
    given[argument] = value
    assert path_of(lambda: PLAIN.command([], **given)) == argument


def test_the_digest_of_a_request_is_of_its_changes_alone() -> None:
    def digest(spec: dict[str, Any], **command: Any) -> str:
        change = PLAIN.create("Mesh", "a", spec=spec)
        given: dict[str, Any] = {"actor": "a", "reason": "", "request_id": "r"}
        return PLAIN.command([change], **{**given, **command}).request_digest

    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) == digest({"a": 1}, actor="b", reason="again")
    assert digest({"a": 1}) != digest({"a": 1.0})
    assert digest({}, request_id=None) == ""


def test_a_time_must_be_aware() -> None:
    def command(moment: datetime) -> object:
        return PLAIN.command(
            [], actor=None, reason="", request_id=None, recorded_at=moment
        )

    command(datetime(2020, 1, 1, tzinfo=UTC))
    naive = datetime(2020, 1, 1)  # noqa: DTZ001 - that is the point
    assert path_of(lambda: command(naive)) == "recorded_at"


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
async def test_filters_of_a_listing_never_break_the_store(text: str) -> None:
    """They are refused or find nothing; no error of another kind comes out."""
    async with evstore.open() as store:
        await store.create("Mesh", "m", spec={}, labels={"a": "b"})
        for filters in ({"name_contains": text}, {"labels": {"a": text}}):
            try:
                page = await store.list("Mesh", page_size=1, **filters)
            except InvalidError:
                continue
            assert page.items == []


class EvstoreLease(msgspec.Struct):
    holder: str


@pytest.mark.parametrize(
    "call",
    [
        lambda: PLAIN.create("EvstoreLease", "a", spec={}),
        lambda: PLAIN.update(Key(type="EvstoreLease", name="a"), spec={}),
        lambda: PLAIN.delete("EvstoreLease", "a"),
        lambda: PLAIN.key("EvstoreLease", "a", ""),
        lambda: PLAIN.where("EvstoreLease", None),
        lambda: PLAIN.create(
            "Mesh", "m", spec={}, owner=Key(type="EvstoreLease", name="a")
        ),
        lambda: Arguments([EvstoreLease]),
    ],
    ids=["create", "update", "delete", "key", "where", "owner", "types"],
)
def test_reserved_types_are_not_for_callers(call: Callable[[], object]) -> None:
    with pytest.raises(InvalidError, match="EvstoreLease is reserved"):
        call()


def test_the_events_of_reserved_types_can_be_read() -> None:
    assert PLAIN.where("EvstoreLease", None, reserved=True).type == "EvstoreLease"


def test_a_leadership_is_called_as_a_resource_is() -> None:
    assert PLAIN.lease_key("nightly.compaction").text == (
        "EvstoreLease//nightly.compaction"
    )
    with pytest.raises(InvalidError, match="name"):
        PLAIN.lease_key("Nightly compaction")
