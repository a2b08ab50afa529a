"""Changes that are written anew: a redaction reaches each copy, and nothing else does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import msgspec

from events import History, create, creations, everything, key
from evstore.codec import body_digest
from evstore.commit.changes import Redact
from evstore.log import open_log
from evstore.log.kubernetes import objects
from evstore.redaction import redact
from fault.history import adjusted

if TYPE_CHECKING:
    from apiserver import ApiServer
    from evstore.config import Config
    from evstore.log import Log

SALT = bytes(range(16))
SECONDS = 10


async def test_a_copy_that_hears_of_nothing_reads_what_was_redacted(
    config: Config, log: Log, history: History
) -> None:
    """What was announced is asked for until it is gone."""
    (event,) = history.transaction(create(key("a"), {"x": "secret", "y": 1}))
    body = redact(event.body, ["/spec/x"])
    before = body_digest(event.salt, event.body)
    change = Redact(
        key=event.key,
        position=event.position,
        fields=("/spec/x",),
        old_digest=before,
        new_digest=body_digest(SALT, body),
    )
    history.transaction(change)
    await log.append(history.events, after=log.genesis)
    async with open_log(adjusted(config, notify=False)) as late:
        assert (await everything(late))[0] == event
        assert await log.redact(1, body=body, salt=SALT, before=before, announced=2)
        (found,) = await late.pick([1])
    assert (bytes(found.body), found.salt) == (body, SALT)


async def test_what_is_no_redaction_is_not_taken_in(
    apiserver: ApiServer, config: Config, log: Log, other: Log, history: History
) -> None:
    await log.append(creations(history, "a"), after=log.genesis)
    assert await everything(other) == history.events
    forged = [
        msgspec.structs.replace(
            each, body=msgspec.Raw(b"{}"), salt=SALT, hash=bytes(32)
        )
        for each in history.events
    ]
    path = objects.collection(config.kubernetes.system_namespace, objects.CHANGES)
    target = f"{path}/{objects.name_of(1)}"
    _, found = apiserver.request("GET", target)
    packed = objects.pack(forged, after=log.genesis.hash, log=log.identity)
    found["spec"]["payload"] = packed.spec.payload
    assert apiserver.request("PUT", target, found)[0] == 200
    after = history.head
    await log.append(creations(history, "b"), after=after)
    with anyio.fail_after(SECONDS):
        await other.wait(1, seconds=SECONDS)
    for each in (log, other):
        assert await everything(each) == history.events
