"""What the API server makes of an object is still what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import HealthCheck, example, given, settings, strategies as st

from evstore.log.kubernetes.client import Client
from evstore.mirror.cluster import MirrorObjects
from evstore.mirror.content import document_of, name_of, seen_of, source_of
from evstore.model import Record

if TYPE_CHECKING:
    from apiserver import ApiServer
    from evstore.config import Config

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: float(int(x)))
    | TEXT,
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(TEXT, children, max_size=3)
    ),
    max_leaves=8,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=4)


def record_of(body: dict[str, Any]) -> Record:
    return Record(
        key="Zone//a",
        version=7,
        commit=7,
        created_version=3,
        created_time=1_700_000_000_000_000,
        modified_time=1_700_000_000_123_456,
        body=msgspec.json.encode(body),
        seal=b"s" * 16,
        hash=b"h" * 32,
        schema_version=1,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(OBJECT, st.none() | OBJECT, st.dictionaries(TEXT, TEXT, max_size=3))
@example({"a": 1.0, "b": -0.0, "c": 2.0**60, "d": 2**64 - 1, "e": 1e21}, None, {})
@example({"a": 2.0**63, "b": -(2.0**63), "c": 1e-7, "d": 5e-324, "e": 1e308}, {}, {})
@example({"": None, "metadata": {"name": 1}, "x": [[], {}, [None]]}, {"": ""}, {"": ""})
def test_whatever_is_written_fits_its_digest_when_it_is_read(
    apiserver: ApiServer,
    kubernetes_config: Config,
    spec: dict[str, Any],
    status: dict[str, Any] | None,
    labels: dict[str, str],
) -> None:
    record = record_of(
        {"labels": labels, "owner": None, "spec": spec, "status": status}
    )
    document = document_of(record)
    namespace = kubernetes_config.kubernetes.system_namespace
    path = f"/apis/evstore.dev/v1/namespaces/{namespace}/resources"
    apiserver.create(path, document)
    one = f"{path}/{name_of(record.key)}"
    try:
        _, found = apiserver.request("GET", one)
    finally:
        apiserver.request("DELETE", one)
    assert seen_of(found).source == source_of(record)
    assert seen_of(found).version == record.version


async def test_what_has_changed_since_it_was_seen_is_neither_replaced_nor_deleted(
    apiserver: ApiServer, kubernetes_config: Config
) -> None:
    """Another instance may have its turn by now, or somebody may have edited it."""
    body = {"labels": {}, "owner": None, "spec": {}, "status": None}
    document = document_of(record_of(body))
    name = name_of("Zone//a")
    client = Client(kubernetes_config.kubernetes, seconds=10)
    try:
        objects = MirrorObjects(client)
        seen = await objects.create(document)
        assert seen is not None
        namespace = kubernetes_config.kubernetes.system_namespace
        path = f"/apis/evstore.dev/v1/namespaces/{namespace}/resources/{name}"
        _, found = apiserver.request("GET", path)
        found["metadata"]["labels"]["somebodys"] = "label"
        assert apiserver.request("PUT", path, found)[0] == 200
        assert await objects.replace(document, seen) is None
        assert not await objects.delete(name, seen)
        _, now = apiserver.request("GET", path)
        assert now["metadata"]["labels"]["somebodys"] == "label"
        assert await objects.delete(name, seen_of(now))
        assert await objects.get(name) is None
    finally:
        await client.aclose()
