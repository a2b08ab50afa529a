"""What a log is given, it gives back: to the byte and to the microsecond."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import HealthCheck, example, given, settings, strategies as st

from events import History, assert_chained, collected, create, key
from evstore.codec import body_text, canonical, event_hash

if TYPE_CHECKING:
    from evstore.log import Log
    from evstore.model import StoredEvent

YEAR_2100 = 4_102_444_800_000_000
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
INTEGERS = st.integers(-(2**63), 2**64 - 1)
SCALARS = (
    st.none()
    | st.booleans()
    | INTEGERS
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=4)
# Each example goes after the ones before it, in the one log of the test.
ONE_LOG = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


async def read_back(log: Log, events: list[StoredEvent]) -> list[list[StoredEvent]]:
    """Append, and return what each way of reading gives."""
    before = await log.head()
    assert before.position == events[0].position - 1
    await log.append(events, after=before)
    after, until = before.position, events[-1].position
    return [
        await collected(log.read(after=after, until=until)),
        (await collected(log.read(after=after, until=until, reverse=True)))[::-1],
        await collected(log.replay(after=after, until=until)),
        await log.read_on(before),
    ]


@ONE_LOG
@given(
    actor=TEXTS, metadata=OBJECTS, spec=OBJECTS, labels=st.dictionaries(TEXTS, TEXTS)
)
@example(actor="'\"\\", metadata={"'": '"'}, spec={"\\": "\\u0000"}, labels={"/": "%s"})
@example(actor="\x01\x1f\x7f\u2028😀", metadata={}, spec={"1e2": 1e2}, labels={})
@example(actor="é", metadata={"e\u0301": "é"}, spec={"n": 1.0, "m": 1}, labels={})
async def test_actor_metadata_and_body_survive(
    log: Log,
    actor: str,
    metadata: dict[str, Any],
    spec: dict[str, Any],
    labels: dict[str, str],
) -> None:
    head = await log.head()
    history = History(head)
    (event,) = history.transaction(
        create(key(f"n{head.position}"), spec, labels=labels), actor=actor
    )
    event = msgspec.structs.replace(
        event, metadata=msgspec.Raw(canonical(metadata, "metadata"))
    )
    event = msgspec.structs.replace(event, hash=event_hash(head.hash, event))
    body = body_text(
        canonical(labels, "labels"), b"null", canonical(spec, "spec"), b"null"
    )
    for read in await read_back(log, [event]):
        assert read == [event]
        assert read[0].actor == actor
        assert bytes(read[0].metadata) == canonical(metadata, "metadata")
        assert bytes(read[0].body) == body
        assert_chained(read, head)


@ONE_LOG
@given(time=st.integers(0, YEAR_2100))
@example(time=YEAR_2100 - 1)
@example(time=2**52 + 1)
@example(time=1)
async def test_a_time_up_to_the_year_2100_survives_to_the_microsecond(
    log: Log, time: int
) -> None:
    head = await log.head()
    history = History(head)
    first = history.transaction(create(key(f"n{head.position}")), time=time)
    # A log refuses stamps ahead of its clock by the last of an append.
    last = history.transaction(create(key(f"n{head.position + 1}")), time=0)
    events = first + last
    for read in await read_back(log, events):
        assert read == events
    place = await log.place(head.position + 1)
    assert place is not None
    assert place.time == time
