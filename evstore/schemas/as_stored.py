"""No declarations at all: what a program does that knows no types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .declared import Schemas

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evstore.model import StoredEvent


class _AsStored(Schemas):
    """What a program declares that knows no types: every body stays as it is stored.

    An update keeps the schema version of its resource, and a creation takes the newest
    that the log has of its type.
    """

    as_stored = True

    def current(self, events: list[StoredEvent]) -> list[StoredEvent]:
        return events

    def can_read(self, newest: Mapping[str, int]) -> bool:
        del newest
        return True

    def shape_of(self, key: str, stored: int) -> int:
        del key
        return stored

    def shape_of_new(self, key: str, newest: int) -> int:
        del key
        return newest

    def check_writable(self, key: str, shape: int) -> None:
        """All are."""


AS_STORED: Final[Schemas] = _AsStored()
