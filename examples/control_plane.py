"""A small control plane that embeds evstore; `demo.py` runs it, and kills it.

Its store is the one that the KUMA_STORE_* variables name. It tells on standard output
what it does, one JSON document a line:

    control_plane.py run       create a mesh, then change it until killed
    control_plane.py resume    come back, and check what standard input says was known
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from base64 import b64encode
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypedDict

import anyio

import evstore
from evstore.folds.projections import Projections

# These two are no public names: they are here to look at the log from below.
from evstore.log import open_log

if TYPE_CHECKING:
    from collections.abc import Iterator

MESH: Final = "shop"
SERVICES: Final = (
    *("web", "cart", "catalog", "checkout", "payment", "search", "account"),
    *("stock", "mail", "ads", "prices", "images"),
)
INSTANCES: Final = 20
PROBES: Final = 8
CHECKPOINT_SECONDS: Final = 0.1
READY_SHARE: Final = 0.9

# What a person on call does to one timeout: the value, and why.
INCIDENT: Final = (
    ("10s", "INC-1207: the card provider is slow"),
    ("20s", "INC-1207: 10s was not enough"),
    ("5s", "INC-1207 is over, back to normal"),
    ("6s", "leave some room, agreed with payments"),
)


def tell(what: str, **values: object) -> None:
    """Write one line to whoever runs us."""
    print(json.dumps({"what": what, **values}), flush=True)


class Why(TypedDict):
    """What every write takes besides what it changes."""

    actor: str
    reason: str
    request_id: str


class Requests:
    """Numbers the requests of one actor, and tells before and after each."""

    def __init__(self, actor: str, name: str = "") -> None:
        self._name = f"{os.getpid()}/{actor}{name}"
        self._count = 0
        self._actor = actor

    def next(self, reason: str) -> Why:
        """Return who and why for the next call, under a request id of its own."""
        self._count += 1
        request_id = f"{self._name}/{self._count}"
        tell("sent", id=request_id)
        return Why(actor=self._actor, reason=reason, request_id=request_id)

    def done(self) -> None:
        """Tell that the store has acknowledged the last one."""
        tell("acknowledged", id=f"{self._name}/{self._count}")


# The mesh.


def dataplane(service: str, number: int, version: str = "v1") -> dict[str, Any]:
    """Return the spec of one data plane proxy."""
    tags = {"kuma.io/service": service, "version": version}
    address = f"10.{SERVICES.index(service)}.0.{number}"
    inbound = [{"port": 8080, "servicePort": 80, "tags": tags}]
    return {"networking": {"address": address, "inbound": inbound}}


def timeout(service: str, seconds: str = "5s") -> dict[str, Any]:
    """Return the spec of a MeshTimeout."""
    conf = {"http": {"requestTimeout": seconds}}
    to = [{"targetRef": {"kind": "Mesh"}, "default": conf}]
    return {"targetRef": {"kind": "MeshService", "name": service}, "to": to}


def permission(service: str, *clients: str) -> dict[str, Any]:
    """Return the spec of a MeshTrafficPermission."""
    rules = [
        {
            "targetRef": {"kind": "MeshService", "name": client},
            "default": {"action": "Allow"},
        }
        for client in clients
    ]
    return {"targetRef": {"kind": "MeshService", "name": service}, "from": rules}


def secret() -> dict[str, Any]:
    """Return the spec of a Secret with new content."""
    return {"data": b64encode(os.urandom(24)).decode()}


def resources() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield type, name and spec of everything in the mesh."""
    for service in SERVICES:
        for number in range(1, INSTANCES + 1):
            yield "Dataplane", f"{service}-{number}", dataplane(service, number)
        yield "MeshTimeout", service, timeout(service)
        yield "MeshTrafficPermission", service, permission(service, "web")
        yield "Secret", f"{service}-certificate", secret()


async def create_mesh(store: evstore.Store) -> None:
    """Create the mesh and everything in it, all or nothing."""
    began = time.perf_counter()
    requests = Requests("bootstrap")
    async with store.transaction(**requests.next("the first roll-out")) as tx:
        tx.create("Mesh", MESH, spec={"mtls": {"enabledBackend": "ca-1"}})
        mesh = evstore.Key(type="Mesh", name=MESH)
        for type_, name, spec in resources():
            tx.create(type_, name, mesh=MESH, spec=spec, owner=mesh)
    requests.done()
    kinds = [each.type for each in tx.results if each is not None]
    tell(
        "created",
        seconds=time.perf_counter() - began,
        dataplanes=kinds.count("Dataplane"),
        secrets=kinds.count("Secret"),
        total=len(kinds),
    )


# Those who change it, all at the same time.


async def probe(store: evstore.Store, number: int) -> None:
    """Write what a health check sees, as fast as the store takes it."""
    requests = Requests("health", f"-{number}")
    seen = 0
    while True:
        name = f"{random.choice(SERVICES)}-{random.randint(1, INSTANCES)}"  # noqa: S311
        key = evstore.Key(type="Dataplane", mesh=MESH, name=name)
        seen += 1
        ready = random.random() < READY_SHARE  # noqa: S311
        status = {"ready": ready, "probe": f"{number}.{seen}"}
        await store.update(key, status=status, **requests.next("probed"))
        requests.done()


async def scale(store: evstore.Store) -> None:
    """Add a data plane to a service, and take it away again."""
    requests = Requests("scaler")
    for number in count(INSTANCES + 1):
        name, spec = f"web-{number}", dataplane("web", number)
        more = requests.next("web: load is over 80 %")
        await store.create("Dataplane", name, mesh=MESH, spec=spec, **more)
        requests.done()
        await anyio.sleep(0.1)
        less = requests.next("web: load is under 50 %")
        await store.delete("Dataplane", name, mesh=MESH, **less)
        requests.done()
        await anyio.sleep(0.1)


async def roll_out(store: evstore.Store) -> None:
    """Bring one service after the other to a new version: one transaction each."""
    requests = Requests("bob")
    round_ = 1
    while True:
        round_ += 1
        for service in SERVICES:
            reason = f"roll out {service} v{round_}"
            async with store.transaction(**requests.next(reason)) as tx:
                for number in range(1, INSTANCES + 1):
                    key = evstore.Key(
                        type="Dataplane", mesh=MESH, name=f"{service}-{number}"
                    )
                    spec = dataplane(service, number, f"v{round_}")
                    tx.update(key, spec=spec)
            requests.done()
            await anyio.sleep(0.15)


async def rotate(store: evstore.Store) -> None:
    """Give one service after the other a new certificate."""
    requests = Requests("certs")
    while True:
        for service in SERVICES:
            await store.upsert(
                "Secret",
                f"{service}-certificate",
                mesh=MESH,
                change=lambda _: secret(),
                **requests.next("rotated"),
            )
            requests.done()
            await anyio.sleep(0.2)


async def be_on_call(store: evstore.Store) -> None:
    """Change one timeout by hand; each change needs the version that was read."""
    requests = Requests("alice")
    for seconds, reason in INCIDENT:
        await anyio.sleep(0.4)
        policy = await store.get("MeshTimeout", "checkout", mesh=MESH)
        await store.update(
            policy, spec=timeout("checkout", seconds), **requests.next(reason)
        )
        requests.done()
    tell("incident over")


async def checkpoint(store: evstore.Store) -> None:
    """Tell the position and the digest of the state there, again and again."""
    while True:
        await anyio.sleep(CHECKPOINT_SECONDS)
        # Nothing is awaited in between, so both are about the same state.
        tell("checkpoint", position=store.position, digest=store.digest().hex())


async def run() -> None:
    """Create the mesh, then change it until killed."""
    async with evstore.open(evstore.load_config()) as store:
        await create_mesh(store)
        async with anyio.create_task_group() as tasks:
            for number in range(1, PROBES + 1):
                tasks.start_soon(probe, store, number)
            for task in (scale, roll_out, rotate, be_on_call, checkpoint):
                tasks.start_soon(task, store)


# After the crash.


async def resume() -> None:
    """Rebuild the state, and compare the log with what was known before the crash."""
    known = json.load(sys.stdin)
    config = evstore.load_config()
    began = time.perf_counter()
    async with evstore.open(config) as store:
        seconds = time.perf_counter() - began
        tell("rebuilt", seconds=seconds, position=store.position)
        await compare_digests(config, known["checkpoints"])
        await compare_requests(store, known)
        page = await store.list("Dataplane", mesh=MESH, where=is_ready)
        everything = await store.list("Dataplane", mesh=MESH)
        tell("state", dataplanes=everything.total, ready=page.total)
        await go_on(store)
        tell("wrote", position=store.position, digest=store.digest().hex())
        # Long enough for a heartbeat: `evstore replay` compares with what it recorded.
        await anyio.sleep(config.evstore.heartbeat_interval * 1.5)


async def go_on(store: evstore.Store) -> None:
    """Let everybody change something once more."""
    mesh = await store.get("Mesh", MESH)
    labels = {"recovered": "yes"}
    await store.update(mesh, labels=labels, actor="kuma-cp", reason="back again")
    await store.create(
        "Dataplane",
        "web-999",
        mesh=MESH,
        spec=dataplane("web", 99),
        owner=mesh,
        actor="scaler",
        reason="web: load is over 80 %",
    )
    async with store.transaction(actor="bob", reason="roll back mail to v1") as tx:
        for number in (1, 2):
            key = evstore.Key(type="Dataplane", mesh=MESH, name=f"mail-{number}")
            tx.update(key, spec=dataplane("mail", number))
    certificate = evstore.Key(type="Secret", mesh=MESH, name="web-certificate")
    await store.update(certificate, spec=secret(), actor="certs", reason="rotated")
    policy = evstore.Key(type="MeshTimeout", mesh=MESH, name="checkout")
    spec = timeout("checkout", "5s")
    await store.update(policy, spec=spec, actor="alice", reason="no need for 6s")


def is_ready(resource: evstore.Resource[Any]) -> bool:
    """Whether a data plane was ready when it was last probed."""
    return bool(resource.status and resource.status["ready"])


async def compare_digests(config: evstore.Config, checkpoints: list[Any]) -> None:
    """Fold the log once more, in steps, and compare the digest at each checkpoint."""
    began = time.perf_counter()
    async with open_log(config) as log:
        await log.connect()
        past = Projections(log.genesis)
        for position, digest in checkpoints:
            async for events in log.replay(after=past.position, until=position):
                past.apply(events)
            if past.resources.digest().hex() != digest:
                sys.exit(f"the digest at position {position} is another one")
    tell(
        "same",
        seconds=time.perf_counter() - began,
        checkpoints=len(checkpoints),
        position=past.position,
        digest=past.resources.digest().hex(),
    )


async def compare_requests(store: evstore.Store, known: dict[str, Any]) -> None:
    """Look for every request of before in the log."""
    began = time.perf_counter()
    found = {event.metadata.get("request_id") async for event in store.events()}
    lost = set(known["acknowledged"]) - found
    if lost:
        sys.exit(f"acknowledged, but not in the log: {', '.join(sorted(lost))}")
    tell(
        "kept",
        seconds=time.perf_counter() - began,
        acknowledged=len(known["acknowledged"]),
        unanswered=len(known["unanswered"]),
        appended=len(found.intersection(known["unanswered"])),
    )


if __name__ == "__main__":
    anyio.run({"run": run, "resume": resume}[sys.argv[1]])
