"""Exports: whatever a log holds comes back to the byte, and no damage goes unnoticed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from hypothesis import given, strategies as st

from events import History, create, delete, everything, genesis, key, update
from evstore.cli.input.files import Source
from evstore.codec import body_digest, body_text
from evstore.errors import DivergedError, InvalidError
from evstore.log import MemoryLog
from evstore.transfer.export import begin_export
from evstore.transfer.exported import is_header, read_header
from evstore.transfer.restore import restore

if TYPE_CHECKING:
    from evstore.log import Log
    from evstore.model import StoredEvent

IDENTITY = UUID("6f0c1a52-1f5e-4c58-8f34-2a3f6f5d1a77")

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(TEXT, children, max_size=3)
    ),
    max_leaves=6,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
STEP = st.fixed_dictionaries(
    {
        "name": st.sampled_from("abc"),
        "spec": OBJECT,
        "status": st.none() | OBJECT,
        "labels": st.dictionaries(TEXT, TEXT, max_size=2),
        "actor": TEXT.map(lambda text: text[:20]),
        "reason": TEXT,
        "request_id": st.none() | TEXT.filter(bool),
        "delete": st.booleans(),
        "redact": st.booleans(),
        "later": st.integers(0, 10**15),
    }
)
HISTORIES = st.lists(STEP, max_size=6)


def made(steps: list[dict[str, Any]]) -> list[StoredEvent]:
    """Return the events of a history, some of their bodies redacted."""
    history = History(genesis(IDENTITY))
    time, redacted = 0, list[int]()
    for number, step in enumerate(steps):
        time += step["later"]
        command = {name: step[name] for name in ("actor", "reason")}
        if step["request_id"] is not None:
            command |= {"request_id": f"{number}{step['request_id']}"}
        target = key(step["name"])
        if history.projections.resources.get(target) is None:
            owned = create(key(f"of-{number}"), step["spec"], owner=target)
            parts = {name: step[name] for name in ("status", "labels")}
            change = (create(target, step["spec"], **parts), owned)
        else:
            change = (
                delete(target) if step["delete"] else update(target, step["spec"]),
            )
        history.transaction(*change, time=time, **command)
        if step["redact"] and history.events:
            history.drafts([], time=time)
            redacted.append(len(history.events) - 1)
    for index in redacted:
        event = history.events[index]
        if event.body_digest is None:
            history.events[index] = msgspec.structs.replace(
                event,
                body=msgspec.Raw(
                    body_text(b"{}", b"null", b'{"x":"redacted"}', b"null")
                ),
                salt=bytes(16),
                body_digest=body_digest(event.salt, event.body),
            )
    return history.events


async def exported(log: Log) -> bytes:
    return b"".join([line async for line in (await begin_export(log)).lines()])


async def restored(content: bytes) -> tuple[MemoryLog, Exception | None]:
    """Return a log with what of an export could be restored, and why no more."""
    log = MemoryLog()
    try:
        lines = Source("", io.BytesIO(content)).lines()
        first = next(lines)
        if not is_header(first.content):
            return log, InvalidError("no export")
        await restore(log, read_header(first.content), lines)
    except (InvalidError, DivergedError, StopIteration) as error:
        return log, error
    return log, None


async def original(events: list[StoredEvent]) -> MemoryLog:
    log = MemoryLog()
    await log.restore(events, after=genesis(IDENTITY), identity=IDENTITY)
    return log


@given(steps=HISTORIES)
async def test_a_restored_log_is_the_same_to_the_byte(
    steps: list[dict[str, Any]],
) -> None:
    events = made(steps)
    content = await exported(await original(events))
    log, error = await restored(content)
    assert error is None
    assert log.identity == IDENTITY
    assert await everything(log) == events
    assert await exported(log) == content


@given(steps=st.lists(STEP, min_size=1, max_size=4), data=st.data())
async def test_damage_is_noticed_and_what_is_restored_is_a_beginning(
    steps: list[dict[str, Any]], data: st.DataObject
) -> None:
    events = made(steps)
    content = await exported(await original(events))
    place = data.draw(st.integers(0, len(content) - 1))
    damage = data.draw(st.sampled_from(["change", "remove", "insert", "cut", "swap"]))
    other = data.draw(st.integers(0, 255).filter(lambda each: each != content[place]))
    match damage:
        case "change":
            damaged = content[:place] + bytes([other]) + content[place + 1 :]
        case "remove":
            damaged = content[:place] + content[place + 1 :]
        case "insert":
            damaged = content[:place] + bytes([other]) + content[place:]
        case "cut":
            damaged = content[:place]
        case _:
            lines = content.splitlines(keepends=True)
            at = data.draw(st.integers(0, len(lines) - 1))
            damaged = b"".join([*lines[:at], *lines[at + 1 :], lines[at]])
    log, error = await restored(damaged)
    found = await everything(log)
    assert found == events[: len(found)]
    if [line.strip() for line in damaged.split(b"\n") if line.strip()] != [
        line for line in content.split(b"\n") if line
    ]:
        assert error is not None
