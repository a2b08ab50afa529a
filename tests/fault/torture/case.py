"""A small history that is right, for tests that spoil it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from events import (
    History as Log,
    create,
    delete,
    genesis,
    key,
    update,
)
from evstore.codec import event_hash
from evstore.folds.projections import Projections
from evstore.model import Filter, StoredEvent

from .archive import Archive
from .checker import check
from .records import (
    CREATE,
    DELETE,
    UPDATE,
    UPSERT,
    Asked,
    Change,
    Ended,
    Folded,
    Got,
    History,
    Marked,
    Opening,
    Reading,
    Record,
    Refused,
    Seen,
    Told,
    Unknown,
    Watching,
)

if TYPE_CHECKING:
    from .evidence import Rule

GENESIS = genesis(UUID(int=7))
A, B, C = key("a"), key("b"), key("c")
POLICY = key("p", type_="Policy")


class Case:
    """A log of a few transactions and the histories that go with it, to be spoilt.

    One session writes, another one reads and watches; times are those of the calls:

        10-20  create a                    position 1
        30-40  update a, based on 1        position 2
        50-60  create b and c together     positions 3, 4
        70-80  upsert a, based on 2        position 5
        90-95  delete b at 3               position 6, without an answer, then repeated
    """

    def __init__(self) -> None:
        log = Log(GENESIS)
        log.transaction(create(A, {"token": "w-1"}), reason="w-1")
        log.transaction(update(A, {"token": "w-2"}), reason="w-2")
        spec = {"token": "w-3"}
        log.transaction(create(B, spec), create(C, spec), reason="w-3")
        log.transaction(update(A, {"token": "w-4", "base": 2}), reason="w-4")
        log.transaction(delete(B), reason="w-5")
        self.events: list[StoredEvent] = log.events
        self.log = log
        # As it was read: first all, then what was left after a compaction.
        self.archive = Archive()
        self.archive.add(0, self.events)
        self.archive.add(2, self.events[2:])
        self.writes: list[Record] = [
            Opening(at=1),
            *write(1, 10, "w-1", Change(CREATE, A), told=[1]),
            *write(2, 30, "w-2", Change(UPDATE, A, 1), told=[2]),
            *write(3, 50, "w-3", Change(CREATE, B), Change(CREATE, C), told=[3, 4]),
            *write(4, 70, "w-4", Change(UPSERT, A), told=[5]),
            asked(5, 90, "w-5", Change(DELETE, B, 3)),
            Unknown(id=5, at=95, why="OutcomeUnknownError"),
            *write(6, 96, "w-5", Change(DELETE, B, 3), told=None),
            asked(7, 110, "w-6", Change(UPDATE, A, 2)),
            Refused(id=7, at=120, error="ConflictError", key=A, actual=5),
            asked(8, 130, "w-7", Change(CREATE, A)),
            Refused(id=8, at=140, error="AlreadyExistsError", key=A, actual=5),
            asked(9, 150, "w-8", Change(DELETE, B)),
            Refused(id=9, at=160, error="NotFoundError", key=B),
            asked(10, 170, "w-9", Change(CREATE, B)),
            Refused(id=10, at=180, error="UnavailableError"),
            *read(11, 190, A, version=5),
        ]
        self.reads: list[Record] = [
            Opening(at=1),
            *read(1, 12, A, version=None),
            *read(2, 42, A, version=2, consistent=True),
            *read(3, 44, A, version=2),
            *read(4, 200, B, version=None, consistent=True),
        ]
        self.watches: list[Record] = [
            Watching(watcher="all", at=5, after=0),
            *(seen("all", event) for event in self.events[:2]),
            Ended(watcher="all", at=45, error="UnavailableError"),
            Watching(watcher="all", at=46, after=2),
            *(seen("all", event) for event in self.events[2:]),
            Ended(watcher="all", at=300),
            Watching(watcher="a", at=5, after=1, where=Filter(name="a")),
            seen("a", self.events[1]),
            seen("a", self.events[4]),
            Ended(watcher="a", at=300),
            # Began between positions 4 and 5: a, b and c exist.
            Watching(watcher="new", at=65, after=0, initial=True),
            *(seen("new", event) for event in self.events[1:4]),
            marked("new", self.events[3]),
            seen("new", self.events[4]),
            marked("new", self.events[4]),
            seen("new", self.events[5]),
            Ended(watcher="new", at=300),
        ]

    def check(self) -> set[Rule]:
        histories = [
            History("writer", self.writes),
            History("reader", self.reads),
            History("watcher", self.watches),
        ]
        found = self.archive.violations + check(
            GENESIS, self.events, histories, floor=self.archive.floor
        )
        return {violation.rule for violation in found}

    def fold(self, position: int) -> None:
        """Record a right state of the reader's at a position."""
        projections = Projections(GENESIS)
        projections.apply(self.events[:position])
        digest = projections.resources.digest().hex()
        self.reads.append(Folded(position=position, digest=digest))

    def rechain(self) -> None:
        """Make the hashes right again after the events were changed."""
        previous = GENESIS.hash
        for index, event in enumerate(self.events):
            previous = event_hash(previous, event)
            self.change(index, hash=previous)
        by_position = {event.position: event for event in self.events}
        self.watches = [
            AS_GIVEN[type(each)](each.watcher, by_position[each.position])
            if isinstance(each, Seen | Marked) and each.position in by_position
            else each
            for each in self.watches
        ]

    def change(self, index: int, **fields: Any) -> None:
        self.events[index] = msgspec.structs.replace(self.events[index], **fields)

    def append(self, *changes: Any, reason: str) -> None:
        """Append one more transaction, which the watchers see as well."""
        added = self.log.transaction(*changes, reason=reason)
        for watcher in ("all", "a", "new"):
            ended = next(
                index
                for index in reversed(range(len(self.watches)))
                if isinstance(self.watches[index], Ended)
                and self.watches[index].watcher == watcher
            )
            self.watches[ended:ended] = [
                seen(watcher, event)
                for event in added
                if watcher != "a" or event.key == A
            ]


def asked(id_: int, at: int, token: str, *changes: Change) -> Asked:
    return Asked(id=id_, at=at, token=token, changes=list(changes), request=True)


def write(
    id_: int, at: int, token: str, *changes: Change, told: list[int | None] | None
) -> list[Record]:
    return [asked(id_, at, token, *changes), Told(id=id_, at=at + 10, versions=told)]


def read(
    id_: int, at: int, key_: str, *, version: int | None, consistent: bool = False
) -> list[Record]:
    return [
        Reading(id=id_, at=at, key=key_, consistent=consistent),
        Got(id=id_, at=at + 1, version=version),
    ]


def seen(watcher: str, event: StoredEvent) -> Seen:
    return Seen(
        watcher=watcher,
        position=event.position,
        commit=event.commit,
        key=event.key,
        operation=event.operation.value,
        hash=event.hash.hex(),
    )


def marked(watcher: str, event: StoredEvent) -> Marked:
    return Marked(watcher=watcher, position=event.position, hash=event.hash.hex())


AS_GIVEN = {Seen: seen, Marked: marked}


def replace(records: list[Record], type_: type, nth: int, **fields: Any) -> None:
    """Change some fields of the nth record of a type."""
    places = [i for i, record in enumerate(records) if isinstance(record, type_)]
    index = places[nth]
    records[index] = msgspec.structs.replace(records[index], **fields)


def remove(records: list[Record], type_: type, nth: int) -> Record:
    places = [i for i, record in enumerate(records) if isinstance(record, type_)]
    return records.pop(places[nth])
