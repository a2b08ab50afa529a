"""Kuma's own way on Kubernetes: one custom resource for each resource, one write a change.

Source: kumahq/kuma, pkg/plugins/resources/k8s/store.go, and its CustomResourceDefinition
of Dataplanes, whose fields these are: `mesh`, a label of it, and a `spec` that the API
server does not look into. Kuma is at its best here: no Go code around it, no admission
webhooks, no cache that watches, no object that two clients want, connections that are
open already, and of the answer nothing is decoded but the version that the next update
names.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import msgspec
from clusters import fresh_namespace, hammer, session
from harness import SPEC_JSON

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp
    from clusters import ApiServer

    from . import Outcome

GROUP = "kuma.io"
VERSION = "v1alpha1"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
START_SECONDS = 60
CREATED, OK = 201, 200


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str
    generation: int = 0


class _Object(msgspec.Struct):
    metadata: _Metadata


_decode = msgspec.json.Decoder(_Object).decode


def define(running: ApiServer) -> None:
    """Install the kind, and let the user have it; return when it can be used."""
    names = {"plural": "dataplanes", "singular": "dataplane", "kind": "Dataplane"}
    anything = {"x-kubernetes-preserve-unknown-fields": True}
    properties = {"mesh": {"type": "string"}, "spec": anything}
    running.create(
        DEFINITIONS,
        {
            "metadata": {"name": f"dataplanes.{GROUP}"},
            "spec": {
                "group": GROUP,
                "scope": "Namespaced",
                "names": names,
                "versions": [
                    {
                        "name": VERSION,
                        "served": True,
                        "storage": True,
                        "schema": {
                            "openAPIV3Schema": {
                                "type": "object",
                                "properties": properties,
                            }
                        },
                    }
                ],
            },
        },
    )
    allow(running, "bench-kuma", GROUP, "dataplanes")
    deadline = time.monotonic() + START_SECONDS
    while running.request("GET", path_of("default"))[0] != OK:
        assert time.monotonic() < deadline, "the kind never came to be served"
        time.sleep(0.05)


def allow(running: ApiServer, name: str, group: str, plural: str) -> None:
    """Let every user do everything with a kind."""
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrole"
    rules = [{"apiGroups": [group], "resources": [plural], "verbs": ["*"]}]
    running.create(f"{path}s", {"metadata": {"name": name}, "rules": rules})
    api = "rbac.authorization.k8s.io"
    everybody = {"apiGroup": api, "kind": "Group", "name": "system:authenticated"}
    running.create(
        f"{path}bindings",
        {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": name},
            "subjects": [everybody],
        },
    )


def path_of(namespace: str, name: str = "") -> str:
    path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/dataplanes"
    return f"{path}/{name}" if name else path


def dataplane(name: str, version: str | None = None) -> bytes:
    """Return an object as Kuma writes it; `version` is the one that it is to replace."""
    of = f'"resourceVersion":"{version}",' if version else ""
    return (
        f'{{"apiVersion":"{GROUP}/{VERSION}","kind":"Dataplane","mesh":"default",'
        f'"metadata":{{"name":"{name}",{of}"labels":{{"kuma.io/mesh":"default"}}}},'
        f'"spec":{SPEC_JSON[:-1]},"count":{time.monotonic_ns()}}}}}'
    ).encode()


class KumaObjectsUpdate:
    """Updates of objects as they were read, each client of one of its own."""

    name = "Kuma, update"
    about = (
        "one custom resource with Kuma's fields a resource, replaced with its"
        " resourceVersion; aiohttp, prepared bytes, a connection for each client;"
        " nobody watches"
    )

    def prepare(self, running: ApiServer) -> None:
        self._running = running

    def changes(self, clients: int, seconds: float) -> Outcome:
        namespace = fresh_namespace(self._running).kubernetes.system_namespace
        return anyio.run(self._changes, namespace, clients, seconds)

    async def _changes(self, namespace: str, clients: int, seconds: float) -> Outcome:
        versions = [""] * clients

        async with session(self._running) as opened:

            async def create(number: int) -> None:
                body = dataplane(f"dp-{number}")
                found = await _ask(opened, "POST", path_of(namespace), body)
                versions[number] = found.resource_version

            async def update(number: int) -> None:
                name = f"dp-{number}"
                path = path_of(namespace, name)
                body = dataplane(name, versions[number])
                found = await _ask(opened, "PUT", path, body)
                versions[number] = found.resource_version

            await once_each(clients, create)
            outcome = await hammer(clients, seconds, update)
            kept = 0
            for number in range(clients):
                path = path_of(namespace, f"dp-{number}")
                kept += (await _ask(opened, "GET", path)).generation - 1
        # The last of each client may have come too late to count.
        assert outcome.count <= kept <= outcome.count + clients, (outcome.count, kept)
        return outcome


class KumaObjectsCreate(KumaObjectsUpdate):
    """Creates of new objects."""

    name = "Kuma, create"
    about = "as above; a new object for each change"

    async def _changes(self, namespace: str, clients: int, seconds: float) -> Outcome:
        counts = [0] * clients
        async with session(self._running) as opened:

            async def create(number: int) -> None:
                counts[number] += 1
                body = dataplane(f"dp-{number}-{counts[number]}")
                await _ask(opened, "POST", path_of(namespace), body)

            await once_each(clients, create)
            outcome = await hammer(clients, seconds, create)
        kept = number_of_objects(self._running, path_of(namespace))
        assert kept == sum(counts), (kept, sum(counts))
        return outcome


async def once_each(clients: int, do: Callable[[int], Awaitable[None]]) -> None:
    """Do it once for each client, all at once: then their connections are open."""
    async with anyio.create_task_group() as tasks:
        for number in range(clients):
            tasks.start_soon(do, number)


def number_of_objects(running: ApiServer, path: str) -> int:
    """Return how many objects there are, as a quorum of etcd has it."""
    status, found = running.request("GET", f"{path}?limit=1")
    assert status == OK, found
    rest: int = found["metadata"].get("remainingItemCount", 0)
    return len(found["items"]) + rest


async def _ask(
    opened: aiohttp.ClientSession, method: str, path: str, body: bytes | None = None
) -> _Metadata:
    async with opened.request(method, path, data=body) as reply:
        answer = await reply.read()
        assert reply.status in {CREATED, OK}, answer
        return _decode(answer).metadata
