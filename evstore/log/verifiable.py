"""What a verification asks of a log: less than a store does, and of damaged ones too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from uuid import UUID

    from evstore.model import Filter, Head, StoredEvent

    from .shapes import AuditedEvent, Base


class Verifiable(Protocol):
    """A log to be verified; each member is as `Log` has it.

    Its head may lie behind a gap, and has the position alone where nobody knows more.
    """

    @property
    def identity(self) -> UUID:
        """The log's own id."""
        ...

    @property
    def genesis(self) -> Head:
        """The place before the first event."""
        ...

    @property
    def floor(self) -> Head:
        """The place below which the history was removed."""
        ...

    async def head(self) -> Head:
        """Return the place of the last event there is."""
        ...

    async def base(self) -> Base | None:
        """Return what is certified of the state at the floor."""
        ...

    def audit(self, *, after: int, until: int) -> AsyncGenerator[list[AuditedEvent]]:
        """Yield what is stored in a range, unchecked."""
        ...

    async def pick(self, positions: Sequence[int]) -> list[StoredEvent]:
        """Return the events at these positions that are there."""
        ...

    def read(self, *, after: int, where: Filter) -> AsyncGenerator[list[StoredEvent]]:
        """Yield the events behind a position that a filter accepts."""
        ...

    async def unguarded(self) -> list[str]:
        """Return why the log could be other than append-only, each as a statement."""
        ...
