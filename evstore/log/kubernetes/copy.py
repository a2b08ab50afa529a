"""The copy of the log in memory: its events, and which object holds which. No I/O."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec

from evstore.codec import genesis_hash
from evstore.errors import DivergedError
from evstore.log.ledger import Ledger
from evstore.model import Head, Operation
from evstore.redaction import announcement_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from evstore.model import StoredEvent

    from .objects import Metadata


def genesis_of(identity: UUID) -> Head:
    """Return the place before the first event of a log."""
    return Head(position=0, hash=genesis_hash(identity), time=0)


class Copy:
    """What has been read of the log `identity`, from its first event on.

    `uid` is that of the object that holds the last event, `version` the newest one at
    which an object of the log was created, as far as is known. `pending` are events whose redaction was announced, and of which the copy has the body still.
    """

    def __init__(self, identity: UUID) -> None:
        self.identity = identity
        self.ledger = Ledger(genesis_of(identity))
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
        if not 0 < position <= len(self.ledger):
            return None
        return self._firsts[bisect_right(self._firsts, position) - 1]

    def adopt(self, events: Sequence[StoredEvent], metadata: Metadata) -> None:
        """Take in the events of the change that follows the head.

        Raises:
            DivergedError: the object is older than the one before it: the cluster was
                set back in between, and has lost that one.
        """
        # One that was written anew, for a redaction, is newer than what follows it.
        if metadata.generation == 1:
            version = int(metadata.resource_version or 0)
            if version <= self.version:
                message = "the cluster was set back to an earlier state"
                raise DivergedError(message)
            self.version = version
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
        if announced is None or not 0 < announced.position <= len(self.ledger):
            return
        if not announced.allows(self.ledger.event(announced.position)):
            self.pending.add(announced.position)

    def renew(self, events: Sequence[StoredEvent]) -> None:
        """Take in a change that was written anew: bodies may be redacted, no more."""
        for event in events:
            if event.position > len(self.ledger):
                return
            known = self.ledger.event(event.position)
            if event.hash == known.hash and event.salt != known.salt:
                self.ledger.replace(event)
            if event.body_digest is not None:
                self.pending.discard(event.position)
