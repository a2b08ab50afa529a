"""A process that can be stopped between its look at the log's end and its append.

It opens a store, says "ready" and waits for a line; then it creates a resource. Just
before the change is created in the cluster it says "creating" and waits for another line,
with all of the process: nothing in it runs meanwhile. One that is asked for chunks does
so when they are stored. Last it says what it was told.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import anyio
import msgspec

import evstore
from evstore.config import Config, KubernetesConfig, StoreType
from evstore.log.kubernetes import feed, objects
from evstore.log.kubernetes.shelf import Shelf


def say(word: str) -> None:
    print(word, flush=True)  # noqa: T201 - what the test hears


def make_late(chunk_characters: int) -> dict[str, Any]:
    """Have the next append stop once; return what to create."""
    create, with_chunks, first = Shelf.create, Shelf._with_chunks, [True]

    def stop() -> None:
        if first:
            first.clear()
            say("creating")
            sys.stdin.readline()

    async def late(self: Shelf, *args: Any, **named: Any) -> Any:
        stop()
        return await create(self, *args, **named)

    async def late_with_chunks(self: Shelf, packed: objects.Packed) -> Any:
        spec = await with_chunks(self, packed)
        stop()
        return spec

    if not chunk_characters:
        Shelf.create = late  # type: ignore[method-assign]
        return {}
    objects.CHUNK_CHARACTERS = chunk_characters  # type: ignore[misc]
    Shelf._with_chunks = late_with_chunks  # type: ignore[method-assign]
    return {"padding": "x" * 2 * chunk_characters}


def main() -> None:
    asked = json.loads(sys.argv[1])
    feed.CONFIRMED_SECONDS_MAX = asked["confirmed_seconds"]  # type: ignore[misc]

    async def work() -> None:
        config = Config(
            type=StoreType.KUBERNETES,
            kubernetes=KubernetesConfig(
                system_namespace=asked["namespace"], kubeconfig=asked["kubeconfig"]
            ),
        )
        snapshots = msgspec.structs.replace(config.evstore.snapshots, every_events=0)
        section = msgspec.structs.replace(
            config.evstore, heartbeat_interval=0, snapshots=snapshots
        )
        config = msgspec.structs.replace(config, evstore=section)
        async with evstore.open(config) as store:
            say("ready")
            await anyio.to_thread.run_sync(sys.stdin.readline)
            spec = make_late(asked["chunk_characters"])
            try:
                made = await store.create("Mesh", asked["name"], spec=spec)
            except evstore.StoreError as error:
                say(type(error).__name__)
            else:
                say(str(made.version))

    anyio.run(work)


main()
