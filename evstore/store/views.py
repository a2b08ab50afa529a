"""Views: the states of projections of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from .queries import Queries

if TYPE_CHECKING:
    from evstore.folds.custom import Custom
    from evstore.folds.projection import Projection

State = TypeVar("State")


class Views(Queries):
    """All of a store that is about projections of one's own."""

    def view(self, projection: type[Projection[State]]) -> State:
        """Return the state of a projection that was given to `open`, as of `position`.

        It is never half of a transaction. It is the live state itself and no copy: read
        it, never change it, and ask again after each await, for by then more may have
        been folded into it. In a thread of `evstore.blocking` it is a copy, which costs
        as much as encoding and decoding it.

        Args:
            projection: the class of which `open` was given an instance.

        Raises:
            SchemaError: it has stopped; the message says where and why.
            UnavailableError: something was redacted that the state may hold, and it is
                being folded again, which takes a moment; or the store is closed.
            InvalidError: `open` was given no such projection.
        """
        state: State = self._custom(projection).state
        return state

    def _copied_view(self, projection: type[Projection[State]]) -> State:
        """Return a state of the caller's own, for another thread."""
        state: State = self._custom(projection).copy()
        return state

    def _custom(self, projection: type[Projection[State]]) -> Custom:
        self._committer.check_open()
        return self._committer.projections.custom.get(projection)
