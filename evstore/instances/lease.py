"""A lease: who has a leadership, as the log and the leader have it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID  # noqa: TC003 - msgspec reads the annotations

import anyio
import msgspec

from evstore.commit.changes import Precondition
from evstore.errors import InvalidError, UnavailableError
from evstore.model import Resource

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore.model import Record


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a lease, as the lease's spec says it.

    `instance` is the id of the holder's heartbeats; `token` tells the calls of one
    instance apart.
    """

    instance: UUID
    token: UUID
    actor: str
    ttl: float


def holder_of(record: Record) -> Holder:
    """Return who holds a lease."""
    return msgspec.convert(Resource[Any](record).spec, Holder)


class Lease:
    """The right to be the only one at a task, from `Store.leadership`.

    `fence` is the position of the event that gave the right. It grows from holder to
    holder, so whatever the task changes elsewhere can refuse a smaller one than it has
    seen; a `Store.transaction` refuses it by itself.
    """

    def __init__(
        self, name: str, record: Record, *, why_lost: Callable[[], str]
    ) -> None:
        self.name = name
        self.fence = record.version
        self.record = record
        self._why_lost = why_lost

    def check(self) -> None:
        """Return if the leadership is still held, as far as this instance knows.

        May be called from any thread. A process that has been stopped in between can
        be wrong for a moment: only the fence is exact.

        Raises:
            UnavailableError: it was lost; the message says to whom, or why.
        """
        why = self._why_lost()
        if why:
            message = f"the leadership {self.name!r} was lost: {why}"
            raise UnavailableError(message)

    def __repr__(self) -> str:
        return f"Lease(name={self.name!r}, fence={self.fence})"


@dataclass(eq=False)
class Tenure:
    """The time of one holder: what it holds, and why it does no more."""

    record: Record
    holder: Holder
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    lost: str = ""

    def lose(self, why: str) -> None:
        """Say that it was lost, and cancel the body."""
        if not self.lost:
            self.lost = why
            self.scope.cancel()


def check_lease(lease: object) -> tuple[str, Precondition]:
    """Return what a transaction under a lease requires: that its event is the last.

    Raises:
        InvalidError: it is no lease.
    """
    if not isinstance(lease, Lease):
        message = f"must be a Lease, not {type(lease).__name__}"
        raise InvalidError(message, path="lease")
    return lease.record.key, exactly(lease.record)


def exactly(record: Record) -> Precondition:
    """Return the precondition that a resource is as `record` has it."""
    return Precondition(record.version, record.hash)
