"""The copy of the log in memory: its events, and which object holds which. No I/O."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec

from evstore.codec import genesis_hash
from evstore.errors import DivergedError
from evstore.log.failures import ForeignLogError
from evstore.log.ledger import Ledger
from evstore.model import Head, Operation
from evstore.redaction import announcement_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from evstore.log.shapes import Base
    from evstore.model import StoredEvent

    from .objects import Change, Metadata


def genesis_of(identity: UUID) -> Head:
    """Return the place before the first event of a log."""
    return Head(position=0, hash=genesis_hash(identity), time=0)


class Copy:
    """What has been read of the log `identity`, from its first event or its floor on.

    `uid` is that of the object that holds the last event, `version` the newest that any
    of the objects had when it was read. `pending` are events whose redaction was
    announced, and of which the copy has the body still.
    """

    def __init__(self, identity: UUID, base: Base | None = None) -> None:
        self.identity = identity
        self.ledger = Ledger(
            genesis_of(identity),
            floor=base.head if base else None,
            base=base.events if base else (),
        )
        self.pending: set[int] = set()
        self.uid = ""
        self.version = 0
        self._firsts: list[int] = []

    @property
    def head(self) -> Head:
        """The last place."""
        return self.ledger.head

    @property
    def last_first(self) -> int | None:
        """The position at which the last change begins; None where there is none."""
        return self._firsts[-1] if self._firsts else None

    def first_of(self, position: int) -> int | None:
        """Return the position at which the change begins that holds this one."""
        if not self.ledger.floor.position < position <= self.ledger.top:
            return None
        return self._firsts[bisect_right(self._firsts, position) - 1]

    def adopt(self, events: Sequence[StoredEvent], metadata: Metadata) -> None:
        """Take in the events of the change that follows the head."""
        self.version = max(self.version, version_of(metadata))
        self.ledger.extend(events)
        self._firsts.append(events[0].position)
        self.uid = metadata.uid
        for event in events:
            if event.operation is Operation.REDACTED:
                self._announce(event)

    def _announce(self, event: StoredEvent) -> None:
        try:
            announced = announcement_of(event)
        except msgspec.DecodeError:
            return  # it was not made by us: the proof tells
        if announced is None or self.first_of(announced.position) is None:
            return
        if not announced.allows(self.ledger.event(announced.position)):
            self.pending.add(announced.position)

    def compact(self, position: int) -> None:
        """Forget the events up to a position, but for the state there.

        It is the end of a change, and not of the last one.
        """
        self.ledger.compact(position)
        self._firsts = self._firsts[bisect_right(self._firsts, position) :]
        self.pending = {each for each in self.pending if each > position}

    def renew(self, events: Sequence[StoredEvent]) -> None:
        """Take in a change that was written anew: bodies may be redacted, no more."""
        for event in events:
            if self.first_of(event.position) is None:
                return
            known = self.ledger.event(event.position)
            if event.hash == known.hash and event.salt != known.salt:
                self.ledger.replace(event)
            if event.body_digest is not None:
                self.pending.discard(event.position)


def version_of(metadata: Metadata) -> int:
    """Return an object's version as a number; 0 where this server does not number."""
    text = metadata.resource_version
    return int(text) if text.isdecimal() else 0


def check_order(change: Change, copy: Copy) -> None:
    """Check that a change follows the last event of a copy.

    Raises:
        ForeignLogError: it is of another log.
        DivergedError: it follows another event.
    """
    if change.spec.log != str(copy.identity):
        message = f"change {change.metadata.name} is of another log"
        raise ForeignLogError(message)
    if change.spec.after != copy.head.hash.hex():
        name, position = change.metadata.name, copy.head.position
        message = f"change {name} does not follow event {position} as it was read"
        advice = "where the cluster was set back to a backup, it has to be deleted"
        raise DivergedError(f"{message}; {advice}")
