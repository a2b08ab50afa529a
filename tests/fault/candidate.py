"""A process with one task: it leads, writes under its lease, and says what happens.

    python candidate.py NAME TTL

Each line on standard output is a word and a fence: `leads`, `wrote` after its first
write, `ended` when the body was left, then `refused` or `applied` for one more write under the lease of before.
"""

from __future__ import annotations

import sys
from itertools import count
from typing import TYPE_CHECKING

import anyio

import evstore
from evstore.errors import ConflictError, UnavailableError

if TYPE_CHECKING:
    from evstore import Lease, Store

PAUSE_SECONDS = 0.01


def say(word: str, lease: Lease) -> None:
    print(word, lease.fence, flush=True)  # noqa: T201 - what it is for


async def write(store: Store, lease: Lease, actor: str, name: str) -> None:
    async with store.transaction(actor=actor, lease=lease) as tx:
        tx.create("Mesh", f"{actor}-{lease.fence}-{name}", spec={})


async def work(store: Store, lease: Lease, actor: str) -> None:
    for number in count():
        await write(store, lease, actor, str(number))
        if number == 0:
            say("wrote", lease)
        await anyio.sleep(PAUSE_SECONDS)


async def lead(store: Store, actor: str, ttl: float) -> None:
    async with store.leadership("task", ttl=ttl, actor=actor) as lease:
        say("leads", lease)
        try:
            await work(store, lease, actor)
        except ConflictError:
            pass
        finally:
            say("ended", lease)
            with anyio.CancelScope(shield=True):
                try:
                    await write(store, lease, actor, "late")
                except ConflictError:
                    say("refused", lease)
                else:
                    say("applied", lease)


async def main(actor: str, ttl: float) -> None:
    async with evstore.open(evstore.load_config()) as store:
        while True:
            try:
                await lead(store, actor, ttl)
            except UnavailableError as error:
                print(error, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], float(sys.argv[2]))
