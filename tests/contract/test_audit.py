"""Reading what is stored, and the one change of it that a log lets through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from events import History, create, creations, everything, key
from evstore.codec import body_digest
from evstore.commit.changes import Redact
from evstore.redaction import redact

if TYPE_CHECKING:
    from evstore.log import AuditedEvent, Log
    from evstore.model import StoredEvent

SALT = bytes(range(16))


async def audited(log: Log, *, after: int = 0, until: int) -> list[AuditedEvent]:
    chunks = log.audit(after=after, until=until)
    return [event async for chunk in chunks for event in chunk]


async def test_what_is_stored_comes_as_it_was_appended(
    log: Log, history: History
) -> None:
    creations(history, (f"dp-{number}" for number in range(1200)))
    history.transaction(
        create(key("odd"), {"text": 'é\u2028"\\'}), actor='"\\\n', reason="é"
    )
    await log.append(history.events, after=log.genesis)
    found = await audited(log, until=history.head.position)
    for stored, appended in zip(found, history.events, strict=True):
        fields = msgspec.structs.asdict(stored)
        assert fields.pop("stored_size") == appended.size
        assert fields == msgspec.structs.asdict(appended)


@pytest.mark.parametrize(("after", "until"), [(0, 3), (2, 4), (4, 5), (5, 5), (0, 0)])
async def test_a_range_ends_where_it_should(
    log: Log, history: History, after: int, until: int
) -> None:
    await log.append(creations(history, "abcde"), after=log.genesis)
    found = await audited(log, after=after, until=until)
    assert [event.position for event in found] == list(range(after + 1, until + 1))


async def test_a_log_of_its_own_is_guarded(log: Log) -> None:
    assert await log.unguarded() == []
    await log.check_redactor()


async def announced(log: Log, history: History) -> tuple[StoredEvent, bytes, bytes]:
    """Return an event whose redaction was announced, its digest and the new body."""
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
    history.transaction(change, actor="alice", reason="leaked")
    await log.append(history.events, after=log.genesis)
    return event, before, body


async def test_a_redaction_replaces_body_and_salt_alone(
    log: Log, other: Log, history: History
) -> None:
    event, before, body = await announced(log, history)
    assert await log.redact(1, body=body, salt=SALT, before=before, announced=2)
    expected = msgspec.structs.replace(
        event, body=msgspec.Raw(body), salt=SALT, body_digest=before
    )
    assert (await everything(other))[0] == expected
    (latest,) = await other.pick([1])
    assert latest == expected


async def test_a_redaction_of_what_is_no_longer_there_does_nothing(
    log: Log, history: History
) -> None:
    _, before, body = await announced(log, history)
    assert not await log.redact(1, body=body, salt=SALT, before=bytes(32), announced=2)
    assert (await everything(log))[0].body_digest is None
    assert await log.redact(1, body=body, salt=SALT, before=before, announced=2)
    assert not await log.redact(1, body=body, salt=SALT, before=before, announced=2)
