"""One object created, as large as what the log keeps of a change, and nothing else.

It is of one of the log's own kinds, whose schema has a single string.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from clusters import fresh_namespace, hammer, session

from evstore.log.kubernetes import objects

from .kuma_objects import CREATED, number_of_objects, once_each

if TYPE_CHECKING:
    from clusters import ApiServer

    from . import Outcome


class BareCreate:
    """Creates by each client, of objects that nobody reads."""

    name = "bare create"
    about = (
        "an object of one string, as long as what the log sends for a change; aiohttp"
    )

    def prepare(self, running: ApiServer, *, size: int) -> None:
        """Take down the size of an object to be sent, in bytes."""
        self._running = running
        self._filling = "x" * (size - len(self._body("0" * 20, "")))

    def changes(self, clients: int, seconds: float) -> Outcome:
        namespace = fresh_namespace(self._running).kubernetes.system_namespace
        return anyio.run(self._changes, namespace, clients, seconds)

    async def _changes(self, namespace: str, clients: int, seconds: float) -> Outcome:
        path = objects.collection(namespace, objects.CHUNKS)
        counts = [0] * clients
        async with session(self._running) as opened:

            async def create(number: int) -> None:
                counts[number] += 1
                body = self._body(f"{number:08d}-{counts[number]:011d}", self._filling)
                async with opened.post(path, data=body) as reply:
                    answer = await reply.read()
                    assert reply.status == CREATED, answer

            await once_each(clients, create)
            outcome = await hammer(clients, seconds, create)
        kept = number_of_objects(self._running, path)
        assert kept == sum(counts), (kept, sum(counts))
        return outcome

    @staticmethod
    def _body(name: str, filling: str) -> bytes:
        return objects.document(objects.CHUNKS, name, {"payload": filling})
