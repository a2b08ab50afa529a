"""Leases of the cluster: small objects that are changed only as they were read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from evstore.clock import to_datetime

from .answers import CONFLICT, NOT_FOUND, Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .client import Client

KIND_LABEL: Final = "evstore.dev/kind"
# Of who shows the current state; it is on a floor above, and the doctor looks at it.
MIRROR: Final = "evstore-mirror"
_API: Final = "coordination.k8s.io/v1"


class LeaseMeta(msgspec.Struct, rename="camel", omit_defaults=True):
    """What is known about a lease, our annotations and label among it."""

    name: str
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class LeaseSpec(msgspec.Struct, rename="camel", omit_defaults=True):
    """Who has it, and since when."""

    holder_identity: str | None = None
    renew_time: str | None = None
    lease_duration_seconds: int | None = None


class Lease(msgspec.Struct, kw_only=True):
    """A lease as the cluster has it, or is to have it."""

    metadata: LeaseMeta
    spec: LeaseSpec = msgspec.field(default_factory=LeaseSpec)


class _Leases(msgspec.Struct):
    items: list[Lease]


_decode: Final = msgspec.json.Decoder(Lease).decode
_decode_all: Final = msgspec.json.Decoder(_Leases).decode


def micro_time(microseconds: int) -> str:
    """Return a time as leases have it."""
    moment = to_datetime(microseconds).replace(tzinfo=None)
    return moment.isoformat(timespec="microseconds") + "Z"


class Leases:
    """The leases of one namespace."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._path = f"/apis/{_API}/namespaces/{client.namespace}/leases"

    async def get(self, name: str) -> Lease | None:
        """Return a lease; None where there is none."""
        answer = await self._client.request("GET", f"{self._path}/{name}")
        if answer.status == NOT_FOUND:
            return None
        return self._client.content(answer, _decode)

    async def of_kind(self, kind: str) -> list[Lease]:
        """Return all leases of one of our kinds."""
        query = {"labelSelector": f"{KIND_LABEL}={kind}"}
        answer = await self._client.request("GET", self._path, query=query)
        return self._client.content(answer, _decode_all).items

    async def create(self, lease: Lease) -> Lease | None:
        """Create a lease; None where there is one of that name."""
        answer = await self._client.request("POST", self._path, body=_encode(lease))
        if answer.status == CONFLICT:
            return None
        return self._client.content(answer, _decode)

    async def update(self, lease: Lease) -> Lease | None:
        """Change a lease; None where it is no longer as it was read."""
        path = f"{self._path}/{lease.metadata.name}"
        answer = await self._client.request("PUT", path, body=_encode(lease))
        if answer.status in {CONFLICT, NOT_FOUND}:
            return None
        return self._client.content(answer, _decode)

    async def delete(self, lease: Lease) -> bool:
        """Delete a lease; False where it is no longer as it was read."""
        conditions: Mapping[str, str | None] = {
            "uid": lease.metadata.uid,
            "resourceVersion": lease.metadata.resource_version,
        }
        body = msgspec.json.encode({"preconditions": conditions})
        path = f"{self._path}/{lease.metadata.name}"
        answer = await self._client.request("DELETE", path, body=body)
        if answer.status in {CONFLICT, NOT_FOUND}:
            return False
        self._checked(answer)
        return True

    def _checked(self, answer: Answer) -> Answer:
        if not answer.ok:
            raise self._client.refusal(answer)
        return answer


def _encode(lease: Lease) -> bytes:
    return msgspec.json.encode(
        {
            "apiVersion": _API,
            "kind": "Lease",
            "metadata": lease.metadata,
            "spec": lease.spec,
        }
    )
