"""A transaction in the making: changes that are collected, then sent together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from evstore.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evstore.commit.arguments import Arguments, Spec, Typed
    from evstore.commit.changes import Change
    from evstore.model import Key, Resource


class Transaction:
    """Collects changes; each is checked and encoded when it is added.

    Preconditions look at the state before the transaction; what a change finds is what
    the changes before it have left.
    """

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments
        self._ended = False
        self.changes: list[Change] = []
        # Schema versions, by key: of what an import makes again as it was stored.
        self.shapes: dict[str, int] = {}
        self.results: list[Resource[Any] | None] = []

    def end(self) -> None:
        """Take no more changes."""
        self._ended = True

    def _add(self, change: Change) -> None:
        if self._ended:
            message = "the transaction has ended; begin another"
            raise InvalidError(message)
        self.changes.append(change)

    def create(  # noqa: PLR0913 - the parts of a resource
        self,
        type: Typed,  # noqa: A002
        name: str,
        *,
        mesh: str = "",
        spec: Spec,
        status: dict[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        owner: Resource[Any] | Key | None = None,
    ) -> None:
        """Add a creation; see `Store.create`. The owner may be made earlier here."""
        self._add(
            self._arguments.create(
                type,
                name,
                mesh=mesh,
                spec=spec,
                status=status,
                labels=labels,
                owner=owner,
            )
        )

    def update(
        self,
        target: Resource[Any] | Key,
        *,
        spec: Spec | None = None,
        status: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Add an update; see `Store.update`."""
        self._add(
            self._arguments.update(target, spec=spec, status=status, labels=labels)
        )

    def delete(
        self,
        type: Typed,  # noqa: A002
        name: str,
        *,
        mesh: str = "",
        version: int | Resource[Any] | None = None,
    ) -> None:
        """Add a deletion; see `Store.delete`."""
        self._add(self._arguments.delete(type, name, mesh=mesh, version=version))
