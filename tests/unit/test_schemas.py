"""Schema versions and upcasters: declared rightly, applied purely, told apart."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pytest

import evstore
from events import History, create, genesis, key
from evstore.codec import body_digest
from evstore.errors import InvalidError, SchemaError
from evstore.model import Operation
from evstore.redaction import redact
from evstore.schemas import AS_STORED, Schemas, upcaster
from evstore.testing import check_upcaster

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore.model import StoredEvent
    from evstore.schemas import Upcaster

LOG = UUID(int=7)
Body = dict[str, Any]


class Dataplane(msgspec.Struct):
    address: str


@upcaster("Dataplane", from_version=1)
def rename(body: Body) -> Body:
    body["spec"]["address"] = body["spec"].pop("ip")
    return body


@upcaster("Dataplane", from_version=2)
def split(body: Body) -> Body:
    address, _, port = body["spec"].pop("address").partition(":")
    return {**body, "spec": {"host": address, "port": port}}


def made(function: Callable[[Body], Any], from_version: int = 1) -> Upcaster:
    return upcaster("Dataplane", from_version=from_version)(function)


def event(
    spec: Body | None = None, *, version: int = 1, name: str = "web", **more: Any
) -> StoredEvent:
    history = History(genesis(LOG))
    owner = key("default", "Mesh", "")
    if more.get("owner"):
        history.transaction(create(owner))
    (found,) = history.transaction(
        create(key(name), spec or {"ip": "10.0.0.1"}, **more)
    )
    return msgspec.structs.replace(found, schema_version=version)


# What is declared.


def test_a_version_is_declared_or_where_the_upcasters_lead_or_one() -> None:
    assert Schemas().version_of("Dataplane") == 1
    assert Schemas([Dataplane], [rename, split]).version_of("Dataplane") == 3
    declared = Schemas([evstore.Schema("Dataplane", 2)], [rename])
    assert declared.version_of("Dataplane") == 2
    assert declared.version_of("Mesh") == 1


def test_a_struct_may_stand_beside_its_schema() -> None:
    schemas = Schemas([Dataplane, evstore.Schema(Dataplane, 2)], [rename])
    assert schemas.structs == {"Dataplane": Dataplane}
    assert Schemas([evstore.Schema("Dataplane")]).structs == {}


def other_dataplane() -> type[Any]:
    return msgspec.defstruct("Dataplane", [("ip", str)])


@pytest.mark.parametrize(
    ("types", "upcasters", "message"),
    [
        (
            [],
            [rename, rename],
            "two of the upcaster of Dataplane from schema version 1",
        ),
        ([], [split], "Dataplane has no upcaster from schema version 1"),
        (
            [evstore.Schema("Dataplane", 4)],
            [rename, split],
            "Dataplane has no upcaster from schema version 3",
        ),
        ([evstore.Schema("Dataplane", 2)], [], "no upcaster from schema version 1"),
        (
            [evstore.Schema("Dataplane", 2)],
            [rename, split],
            "from schema version 2, and its version is 2",
        ),
        ([evstore.Schema("Dataplane", 0)], [], "version of Dataplane must be a number"),
        ([evstore.Schema("Dataplane", True)], [], "version of Dataplane must be"),  # noqa: FBT003
        (
            [evstore.Schema("Dataplane", 1, "2")],  # type: ignore[arg-type]
            [],
            "readable of Dataplane must be a number",
        ),
        (
            [evstore.Schema("Dataplane", 2, readable=1)],
            [rename],
            "readable up to 1, and its version is 2",
        ),
        ([evstore.Schema("Dataplane")] * 2, [], "Dataplane has two schemas"),
        ([Dataplane, other_dataplane()], [], "Dataplane is declared twice"),
        (
            [Dataplane, evstore.Schema(other_dataplane())],
            [],
            "Dataplane is declared twice",
        ),
        ([evstore.Schema("data plane")], [], "'data plane' is not allowed"),
        ([evstore.Schema("EvstoreLease")], [], "EvstoreLease is reserved"),
        ([], [upcaster("mesh", from_version=1)(lambda b: b)], "'mesh' is not allowed"),
        (
            [],
            [upcaster("EvstoreLease", from_version=1)(lambda b: b)],
            "EvstoreLease is reserved",
        ),
        ([], [made(lambda b: b, 0)], "from_version of one of Dataplane must be"),
        (
            [],
            [upcaster("Mesh", from_version=1, revision=0)(lambda b: b)],
            "revision of one of Mesh must be",
        ),
        ([], [lambda b: b], "is no upcaster"),
        ([], [made(dict.copy)], "must be a plain function"),
        ([7], [], "neither a struct type nor a Schema"),
    ],
)
async def test_a_wrong_declaration_is_invalid_at_open(
    types: list[Any], upcasters: list[Any], message: str
) -> None:
    with pytest.raises(InvalidError, match=message):
        async with evstore.open(types=types, upcasters=upcasters):
            pass


async def test_an_asynchronous_upcaster_is_invalid() -> None:
    async def late(body: Body) -> Body:
        return body

    with pytest.raises(InvalidError, match="plain function"):
        Schemas([], [made(late)])


def test_an_upcaster_can_be_called() -> None:
    assert rename({"spec": {"ip": "a"}}) == {"spec": {"address": "a"}}


# What upcasters make of events.


def test_a_chain_leads_from_each_version_to_the_current_one() -> None:
    schemas = Schemas([], [split, rename])
    events = [
        event({"ip": "10.0.0.1:80"}),
        event({"address": "10.0.0.1:80"}, version=2),
        event({"host": "10.0.0.1", "port": "80"}, version=3),
    ]
    bodies = {bytes(each.body) for each in schemas.current(events)}
    assert bodies == {
        b'{"labels":{},"owner":null,"spec":{"host":"10.0.0.1","port":"80"},"status":null}'
    }


def test_an_upcast_event_keeps_all_but_its_body() -> None:
    stored = event(
        owner=key("default", "Mesh", ""), labels={"a": "b"}, status={"n": 1.0}
    )
    (found,) = Schemas([], [rename]).current([stored])
    assert bytes(found.body) == (
        b'{"labels":{"a":"b"},"owner":{"mesh":"","name":"default","type":"Mesh"},'
        b'"spec":{"address":"10.0.0.1"},"status":{"n":1.0}}'
    )
    assert found.body_digest == body_digest(stored.salt, stored.body)
    kept = msgspec.structs.replace(
        found, body=stored.body, body_digest=stored.body_digest
    )
    assert kept == stored


def test_nothing_is_copied_where_nothing_is_to_do() -> None:
    events = [event({"address": "a"}, version=2), event({"address": "b"}, version=2)]
    assert Schemas([], [rename]).current(events) is events
    assert AS_STORED.current(events) is events
    others = [event(), event()]
    assert Schemas().current(others) is others


def test_an_upcaster_gets_a_copy_and_what_it_keeps_reaches_nobody() -> None:
    kept: list[Body] = []
    shared = {"address": "a"}

    def first(body: Body) -> Body:
        kept.append(body)
        return {**body, "spec": shared}

    def second(body: Body) -> Body:
        body["spec"]["port"] = len(body["spec"])
        return body

    schemas = Schemas([], [made(first), made(second, 2)])
    stored = event()
    before = bytes(stored.body)
    results = [bytes(schemas.current([stored])[0].body) for _ in range(2)]
    assert results[0] == results[1]
    assert shared == {"address": "a"}
    assert bytes(stored.body) == before
    assert kept[0] is not kept[1]


def test_what_was_redacted_stays_listed() -> None:
    stored = event({"ip": "10.0.0.1", "password": "x"})
    gone = msgspec.structs.replace(
        stored,
        body=msgspec.Raw(redact(stored.body, ["/spec/password"])),
        salt=bytes(16),
        body_digest=b"d" * 32,
    )
    (found,) = Schemas([], [rename]).current([gone])
    assert bytes(found.body) == (
        b'{"labels":{},"owner":null,"redacted":["/spec/password"],'
        b'"spec":{"address":"10.0.0.1","password":"[redacted]"},"status":null}'
    )
    assert found.body_digest == b"d" * 32


def test_what_has_no_body_passes_whatever_its_schema_version() -> None:
    for operation in (Operation.DELETED, Operation.REDACTED):
        gone = msgspec.structs.replace(event(version=9), operation=operation)
        assert Schemas([], [rename]).current([gone]) == [gone]


def secret(body: Body) -> Any:
    raise ValueError(body["spec"]["ip"])


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (secret, "it raised ValueError in secret, line"),
        (lambda _: None, "a NoneType, not a dict"),
        (lambda body: [body], "a list, not a dict"),
        (lambda body: {**body, "extra": "10.0.0.1"}, "there are 1 others"),
        (lambda _: {"spec": {}}, "labels, status missing"),
        (lambda body: {**body, "spec": None}, "spec: a NoneType, not a dict"),
        (lambda body: {**body, "spec": ["10.0.0.1"]}, "spec: a list, not a dict"),
        (lambda body: {**body, "status": "10.0.0.1"}, "status: a str, not a dict"),
        (lambda body: {**body, "labels": {"a": 1}}, "labels: not a dict of strings"),
        (lambda body: {**body, "labels": None}, "labels: not a dict"),
        (lambda body: {**body, "spec": {"a": {1}}}, "spec.a: a value of type set"),
        (
            lambda body: {**body, "spec": {"a": float("nan")}},
            "nan is not a JSON number",
        ),
    ],
)
def test_a_fault_of_an_upcaster_is_named_without_the_body(
    function: Callable[[Body], Any], why: str
) -> None:
    with pytest.raises(SchemaError) as caught:
        Schemas([], [made(function)]).current([event()])
    text = str(caught.value)
    assert "the upcaster of Dataplane from schema version 1 failed" in text
    assert "position 1" in text
    assert why in text
    assert caught.value.position == 1
    assert "10.0.0.1" not in "".join(traceback.format_exception(caught.value))


def test_an_upcaster_that_fails_for_a_redacted_body_is_told_so() -> None:
    stored = event()
    gone = msgspec.structs.replace(
        stored, body=msgspec.Raw(redact(stored.body, ["/spec"]))
    )
    with pytest.raises(SchemaError, match="of that body /spec was redacted"):
        Schemas([], [rename]).current([gone])
    kept = made(lambda body: body)
    assert b'"spec":null' in bytes(Schemas([], [kept]).current([gone])[0].body)


def test_an_event_newer_than_readable_is_refused() -> None:
    newer = event(version=3)
    for schemas in (
        Schemas(),
        Schemas([], [rename]),
        Schemas([evstore.Schema("Dataplane", 2)], [rename]),
    ):
        version = schemas.version_of("Dataplane")
        message = (
            f"position 1 is in schema version 3 .* reads Dataplane up to {version}"
        )
        with pytest.raises(SchemaError, match=message) as caught:
            schemas.current([event(version=version), newer])
        assert caught.value.position == 1


@pytest.mark.parametrize("schemas", [Schemas(), Schemas([], [rename])])
def test_a_schema_version_that_nobody_writes_is_refused(schemas: Schemas) -> None:
    with pytest.raises(SchemaError, match="in schema version 0 of Dataplane"):
        schemas.current([event(version=0)])


def test_a_readable_newer_event_is_as_it_is_stored() -> None:
    schemas = Schemas([evstore.Schema("Dataplane", 2, readable=3)], [rename])
    newer = event(version=3)
    assert schemas.current([newer]) == [newer]
    with pytest.raises(SchemaError, match="writes 2"):
        schemas.check_writable(newer.key, 3)


def test_a_state_of_newer_events_is_not_taken_over() -> None:
    newest = {"Dataplane": 2}
    assert Schemas([], [rename]).can_read(newest)
    assert Schemas([evstore.Schema("Dataplane", readable=2)]).can_read(newest)
    assert AS_STORED.can_read(newest)
    assert not Schemas().can_read(newest)
    assert not Schemas([], [rename]).can_read({"Dataplane": 2, "Mesh": 2})


# What tells upcasters apart.

OFFSET = 1


def helper(body: Body) -> Body:
    return body


def using(body: Body) -> Body:
    body["spec"]["n"] = OFFSET
    return helper(body)


def fingerprint(*functions: Callable[[Body], Any], revision: int = 1) -> str:
    links = [
        upcaster("Dataplane", from_version=number, revision=revision)(function)
        for number, function in enumerate(functions, 1)
    ]
    return Schemas([], links).fingerprint


def test_no_upcasters_have_no_fingerprint() -> None:
    assert Schemas([Dataplane]).fingerprint == ""
    assert AS_STORED.fingerprint == ""


def test_a_change_of_the_code_changes_the_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def closed(value: object) -> Callable[[Body], Body]:
        return lambda body: {**body, "spec": {"a": value}}

    def defaults(value: object) -> Callable[[Body], Body]:
        def function(body: Body, more: object = value) -> Body:
            return {**body, "spec": {"a": more}}

        return function

    found = [
        fingerprint(lambda body: body),
        fingerprint(lambda body: {**body, "spec": {"a": 1}}),
        fingerprint(lambda body: {**body, "spec": {"a": 2}}),
        fingerprint(lambda body: {**body, "spec": {"a": [each * 2 for each in "ab"]}}),
        fingerprint(lambda body: {**body, "spec": {"a": [each * 3 for each in "ab"]}}),
        fingerprint(lambda body: body, revision=2),
        fingerprint(lambda body: body, lambda body: body),
        *(fingerprint(closed(value)) for value in (1, 2, True, {"x"}, {"y"})),
        *(fingerprint(defaults(value)) for value in (1, "1", [1])),
        fingerprint(using),
    ]
    monkeypatch.setitem(globals(), "OFFSET", 2)
    found.append(fingerprint(using))
    monkeypatch.setitem(globals(), "helper", lambda body: {**body, "status": {}})
    found.append(fingerprint(using))
    assert len(set(found)) == len(found)


def test_the_same_code_has_the_same_fingerprint_in_each_process() -> None:
    text = """
from evstore.schemas import Schemas, upcaster
NAMES = {"ip": "address", "tags": {"b", "a", "c"}}
def helper(body):
    return helper(body) if "x" in {"x", "y", "z"} and body is None else body
@upcaster("Dataplane", from_version=1)
def one(body):
    return helper({NAMES[k]: v for k, v in body.items() if k in {"a", "b", "c"}})
print(Schemas([], [one]).fingerprint)
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", text],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


# The helper for the tests of others.


def careful(body: Body) -> Body:
    spec = body["spec"]
    if spec is not None:
        spec["address"] = spec.pop("ip")
    return body


def test_a_good_upcaster_passes_the_check() -> None:
    check_upcaster(
        made(careful),
        [
            {"spec": {"ip": "a", "tags": [{"b": "c"}]}, "labels": {"d": "e"}},
            {"spec": {"ip": "a"}, "status": {"f": [1]}},
        ],
    )


def test_an_upcaster_that_cannot_take_a_redaction_is_found() -> None:
    with pytest.raises(
        AssertionError, match=r"body 0 without /spec: .* AttributeError"
    ):
        check_upcaster(rename, [{"spec": {"ip": "a"}}])

    def numbers(body: Body) -> Body:
        ports = (body["spec"] or {}).get("ports")
        if isinstance(ports, list):
            body["spec"]["ports"] = [port + 1 for port in ports]
        return body

    with pytest.raises(AssertionError, match="body 1 without /spec/ports/0"):
        check_upcaster(
            made(numbers), [{"spec": {"ports": []}}, {"spec": {"ports": [1]}}]
        )


def test_an_upcaster_that_gives_something_else_each_time_is_found() -> None:
    calls: list[int] = []

    def counting(body: Body) -> Body:
        calls.append(1)
        return {**body, "spec": {"n": len(calls)}}

    with pytest.raises(AssertionError, match="body 0: not the same each time"):
        check_upcaster(made(counting), [{"spec": {}}])
