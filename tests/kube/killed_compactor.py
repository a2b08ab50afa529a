"""A process that compacts, and stands still at one of its requests, to be killed there.

It says "there" before that request is sent or when its answer has come, and does nothing
any more. Where there was no such request it says "done".
"""

from __future__ import annotations

import json
import sys
from typing import Any

import anyio
import msgspec

from evstore import maintenance
from evstore.config import Config, KubernetesConfig, StoreType
from evstore.log.kubernetes import compaction, feed, objects
from evstore.log.kubernetes.client import Client


def say(word: str) -> None:
    print(word, flush=True)  # noqa: T201 - what the test hears


def stand_still_at(method: str, plural: str, number: int, *, answered: bool) -> None:
    """Have the so-manieth request of a kind be the last, and never return."""
    request = Client.request
    left = [number]

    async def counted(self: Client, verb: str, path: str, **more: Any) -> Any:
        if verb != method or f"/{plural}" not in path:
            return await request(self, verb, path, **more)
        left[0] -= 1
        is_last = left[0] == 0
        if is_last and not answered:
            await stand_still()
        answer = await request(self, verb, path, **more)
        if is_last:
            await stand_still()
        return answer

    Client.request = counted  # type: ignore[method-assign]


async def stand_still() -> None:
    say("there")
    await anyio.sleep_forever()


def main() -> None:
    asked = json.loads(sys.argv[1])
    compaction.YOUNG_SECONDS = -1  # type: ignore[misc]
    feed.CONFIRMED_SECONDS_MAX = -1  # type: ignore[misc]
    objects.CHUNK_CHARACTERS = asked["chunk_characters"]  # type: ignore[misc]
    stand_still_at(*asked["request"], answered=asked["answered"])
    kubernetes = KubernetesConfig(
        system_namespace=asked["namespace"], kubeconfig=asked["kubeconfig"]
    )
    config = Config(type=StoreType.KUBERNETES, kubernetes=kubernetes)
    section = msgspec.structs.replace(config.evstore, heartbeat_interval=0)
    config = msgspec.structs.replace(config, evstore=section)

    async def work() -> None:
        await maintenance.compact(config, keep_events=asked["keep_events"])

    anyio.run(work)
    say("done")


main()
