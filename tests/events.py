"""Events for the tests, decided, stamped and folded by the same code as the store's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from evstore.codec import body_text, canonical, event_hash, genesis_hash
from evstore.commit.changes import Change, Command, Create, Delete, Owner, Update
from evstore.commit.commands import Decided, Draft, decide
from evstore.commit.stamp import stamp
from evstore.folds.projections import Projections
from evstore.folds.requests import RequestOverlay
from evstore.model import Head, Key, Operation, StoredEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from uuid import UUID

    from evstore.log import Log

START = 1_700_000_000_000_000  # November 2023: in the past of every clock
NOTHING = body_text(b"{}", b"null", b"null", b"null")


def key(name: str, type_: str = "Dataplane", mesh: str = "default") -> str:
    return Key(type=type_, mesh=mesh, name=name).text


def create(
    key: str,
    spec: dict[str, Any] | None = None,
    *,
    status: dict[str, Any] | None = None,
    labels: dict[str, str] | None = None,
    owner: str | Owner | None = None,
) -> Create:
    return Create(
        key=key,
        spec=canonical({} if spec is None else spec, "spec"),
        status=canonical(status, "status"),
        labels=canonical(labels or {}, "labels"),
        owner=Owner(owner) if isinstance(owner, str) else owner,
    )


def update(key: str, spec: dict[str, Any]) -> Update:
    return Update(key=key, spec=canonical(spec, "spec"))


def delete(key: str) -> Delete:
    return Delete(key=key)


def genesis(identity: UUID) -> Head:
    return Head(position=0, hash=genesis_hash(identity), time=0)


class History:
    """Makes transactions that follow one another, as one instance does.

    `projections` is what they fold into. Times grow by a second with each transaction.
    """

    def __init__(self, start: Head, *, time: int = START) -> None:
        self.projections = Projections(start)
        self.events: list[StoredEvent] = []
        self._time = time

    @property
    def head(self) -> Head:
        return self.projections.head

    def transaction(
        self, *changes: Change, time: int | None = None, **command: Any
    ) -> list[StoredEvent]:
        """Return the events of one transaction; `command` as in `Command`."""
        asked = Command(changes=changes, **command)
        decided = decide(
            asked,
            self.projections.resources,
            RequestOverlay(self.projections.requests),
        )
        assert isinstance(decided, Decided)
        return self.drafts(decided.drafts, time=time, command=asked)

    def redaction(self, key: str) -> list[StoredEvent]:
        """Return the announcement of a redaction."""
        return self.drafts([Draft(Operation.REDACTED, key, NOTHING)])

    def drafts(
        self,
        drafts: list[Draft],
        *,
        time: int | None = None,
        command: Command | None = None,
    ) -> list[StoredEvent]:
        self._time = self._time + 1_000_000 if time is None else time
        events = stamp(
            command or Command(changes=()),
            drafts,
            state=self.projections.resources,
            after=self.head,
            tx=os.urandom(16).hex(),
            time=self._time,
        )
        self.projections.apply(events)
        self.events += events
        return events


def creations(history: History, names: Iterable[str]) -> list[StoredEvent]:
    """Return one transaction that creates a data plane of each name."""
    return history.transaction(*(create(key(name)) for name in names))


def assert_chained(events: Iterable[StoredEvent], start: Head) -> None:
    """Assert that positions have no gap and that each hash follows from the last."""
    position, previous = start.position, start.hash
    for event in events:
        position += 1
        assert event.position == position
        assert event_hash(previous, event) == event.hash
        previous = event.hash


async def everything(log: Log) -> list[StoredEvent]:
    return await collected(log.read())


async def collected(chunks: AsyncIterator[list[StoredEvent]]) -> list[StoredEvent]:
    return [event async for chunk in chunks for event in chunk]


async def folded(log: Log) -> Projections:
    """Return the fold of a whole log, whatever is stored of it."""
    projections = Projections(log.genesis)
    async for chunk in log.read():
        projections.apply(chunk)
    return projections
