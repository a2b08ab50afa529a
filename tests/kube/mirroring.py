"""What a mirror's tests look at: the objects, the warnings, and kubectl."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import msgspec
from anyio import to_thread

from evstore.config import MirrorConfig
from evstore.mirror.cluster import MirrorObjects, Warnings
from evstore.mirror.content import document_of
from evstore.mirror.keeper import Keeper
from servers import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from apiserver import ApiServer
    from evstore import Store
    from evstore.config import Config
    from evstore.log.kubernetes.client import Client
    from evstore.mirror.pace import Pace

SECONDS: Final = 30
_PAUSE: Final = 0.01

T = TypeVar("T")


def mirrored(config: Config, *, rate: int = 500) -> Config:
    """Return a configuration with the mirror switched on."""
    mirror = MirrorConfig(enabled=True, rate=rate)
    kubernetes = msgspec.structs.replace(config.kubernetes, mirror=mirror)
    return msgspec.structs.replace(config, kubernetes=kubernetes)


async def eventually(probe: Callable[[], T], wanted: Callable[[T], bool]) -> T:
    """Return what a probe finds once it is as wanted; it runs in a thread."""
    found: Any = None
    with anyio.move_on_after(SECONDS):
        while True:
            found = await to_thread.run_sync(probe)
            if wanted(found):
                return found
            await anyio.sleep(_PAUSE)
    message = f"not as wanted in {SECONDS} s: {found}"
    raise AssertionError(message)


class Cluster:
    """One namespace, as its administrator sees it."""

    def __init__(self, server: ApiServer, config: Config) -> None:
        self.server = server
        self.namespace = config.kubernetes.system_namespace
        group = f"/apis/evstore.dev/v1/namespaces/{self.namespace}"
        self.path = f"{group}/resources"
        self._events = f"/api/v1/namespaces/{self.namespace}/events"

    def objects(self) -> dict[str, dict[str, Any]]:
        """Return all mirrored resources by their own names."""
        _, page = self.server.request("GET", self.path)
        return {each.get("name", ""): each for each in page["items"]}

    def shown(self) -> dict[str, int]:
        """Return which resources are shown, in what versions."""
        return {name: each["version"] for name, each in self.objects().items()}

    def warnings(self) -> list[tuple[str, str, int]]:
        """Return reason, object and count of all warnings."""
        _, page = self.server.request("GET", self._events)
        return sorted(
            (each["reason"], each["involvedObject"]["name"], each["count"])
            for each in page["items"]
            if each["type"] == "Warning"
        )

    def messages(self) -> list[str]:
        """Return what the warnings say."""
        _, page = self.server.request("GET", self._events)
        return [each["message"] for each in page["items"]]

    def edit(self, name: str, change: Callable[[dict[str, Any]], object]) -> str:
        """Change the object of a resource by hand; return the object's name."""
        found = self.objects()[name]
        change(found)
        return self.put(found)

    def put(self, document: dict[str, Any]) -> str:
        """Write an object by hand."""
        name: str = document["metadata"]["name"]
        path = f"{self.path}/{name}?fieldManager=kubectl-edit"
        status, answer = self.server.request("PUT", path, document)
        assert status == 200, answer
        return name

    def delete(self, name: str) -> str:
        """Delete the object of a resource by hand; return the object's name."""
        found: str = self.objects()[name]["metadata"]["name"]
        status, answer = self.server.request("DELETE", f"{self.path}/{found}")
        assert status == 200, answer
        return found

    def holder(self) -> str:
        """Return who may write the mirror; "" where nobody does."""
        path = "/apis/coordination.k8s.io/v1/namespaces"
        lease = f"{path}/{self.namespace}/leases/evstore-mirror"
        status, found = self.server.request("GET", lease)
        holder = found["spec"].get("holderIdentity") if status == 200 else None
        return holder or ""

    def kubectl(self, *words: str) -> str:
        """Return what kubectl prints."""
        if shutil.which("kubectl") is None:
            unavailable("no kubectl")
        kubeconfig = self.server.kubeconfig("admin")
        done = subprocess.run(
            ["kubectl", f"--kubeconfig={kubeconfig}", "-n", self.namespace, *words],
            capture_output=True,
            check=True,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(self.server.folder)},
            timeout=SECONDS,
        )
        return done.stdout


def document(store: Store, type_: str, name: str) -> dict[str, Any]:
    """Return the object that should show a resource."""
    record = store._committer.projections.resources.get(f"{type_}//{name}")
    assert record is not None
    return document_of(record)


class Counted(MirrorObjects):
    """Objects whose writes are counted."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.writes: list[str] = []

    async def create(self, document: dict[str, Any]) -> Any:
        self.writes.append(f"create {document['name']} {document['version']}")
        return await super().create(document)

    async def replace(self, document: dict[str, Any], seen: Any) -> Any:
        self.writes.append(f"replace {document['name']} {document['version']}")
        return await super().replace(document, seen)

    async def delete(self, name: str, seen: Any) -> bool:
        self.writes.append(f"delete {name}")
        return await super().delete(name, seen)


def keeper(store: Store, client: Client, pace: Pace) -> tuple[Keeper, Counted]:
    """Return what keeps a mirror of any store, and the count of its writes."""
    objects = Counted(client)
    made = Keeper(
        objects,
        Warnings(client),
        pace,
        resources=lambda: store._committer.projections.resources,
        tail=store._tail,
    )
    return made, objects
