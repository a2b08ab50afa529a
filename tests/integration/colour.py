"""A control plane in one of two releases, which says what it sees.

    python colour.py blue|green

The blue one knows data planes as they are stored; the green one has moved `host` to
`address`, and folds another version of the projection. Each line on standard output is a
JSON document: the first says how many events were folded for the start, each other one
what the projection and a listing showed, and of which positions. SIGTERM ends it.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import aclosing
from typing import Any, Final

import anyio

import evstore
from evstore.config import load_config

Where = dict[str, list[str]]


class Blue(evstore.Projection[Where]):
    """The data planes on each host."""

    name = "by-host"
    version = 1
    member = "host"
    folded = 0

    def initial(self) -> Where:
        return {}

    def fold(self, state: Where, event: evstore.Event) -> Where:
        type(self).folded += 1
        for host in [host for host, names in state.items() if event.name in names]:
            state[host].remove(event.name)
            if not state[host]:
                del state[host]
        if event.spec is not None:
            state.setdefault(event.spec[self.member], []).append(event.name)
        return state


class Green(Blue):
    """The same by address, sorted."""

    version = 2
    member = "address"

    def fold(self, state: Where, event: evstore.Event) -> Where:
        state = super().fold(state, event)
        for names in state.values():
            names.sort()
        return state


@evstore.upcaster("Dataplane", from_version=1)
def dataplane_2(body: dict[str, Any]) -> dict[str, Any]:
    """Move `host` to `address`."""
    body["spec"]["address"] = body["spec"].pop("host")
    return body


APPS: Final = {
    "blue": evstore.App(projections=[Blue()]),
    "green": evstore.App(upcasters=[dataplane_2], projections=[Green()]),
}


def say(**document: object) -> None:
    print(json.dumps(document), flush=True)  # noqa: T201 - what it is for


async def tell(store: evstore.Store, projection: type[Blue]) -> None:
    view = store.view(projection)
    say(view=[store.position, view])
    page = await store.list("Dataplane", mesh="m")
    say(list=[page.position, {each.name: each.spec for each in page.items}])


async def follow(store: evstore.Store, projection: type[Blue]) -> None:
    begin = store.position
    await tell(store, projection)
    async with aclosing(store.watch(after=begin)) as events:
        async for _ in events:
            await tell(store, projection)


async def main(colour: str) -> None:
    app = APPS[colour]
    projection = type(app.projections[0])
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with (
            evstore.open(
                load_config(), upcasters=app.upcasters, projections=app.projections
            ) as store,
            anyio.create_task_group() as tasks,
        ):
            say(folded=projection.folded, position=store.position)
            tasks.start_soon(follow, store, projection)
            async for _ in signals:
                tasks.cancel_scope.cancel()
                break


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
