"""A process with a store that mirrors, until it is ended.

    python mirroring_program.py NAMESPACE KUBECONFIG TTL

It says `open` on standard output once its store is.
"""

from __future__ import annotations

import sys

import anyio

import evstore
from evstore.config import Config, KubernetesConfig, MirrorConfig, StoreType
from evstore.mirror import election


async def main(namespace: str, kubeconfig: str) -> None:
    kubernetes = KubernetesConfig(
        system_namespace=namespace,
        kubeconfig=kubeconfig,
        mirror=MirrorConfig(enabled=True, rate=500),
    )
    async with evstore.open(Config(type=StoreType.KUBERNETES, kubernetes=kubernetes)):
        print("open", flush=True)  # noqa: T201 - what it is for
        await anyio.sleep_forever()


if __name__ == "__main__":
    election.TTL_SECONDS = int(sys.argv[3])  # type: ignore[misc]
    anyio.run(main, sys.argv[1], sys.argv[2])
