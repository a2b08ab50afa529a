"""Which event gave each leaf of a resource its value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from evstore.model import Event, Operation, Resource
from evstore.values.diff import below, match_elements, same

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from evstore.model import StoredEvent


class BlamedLeaf(msgspec.Struct, frozen=True, kw_only=True):
    """A leaf, and the event that last changed it; `path` is a JSON pointer.

    `or_before` says that the log was compacted: the event is the last one of the resource
    that is left from before, and it was that one or an earlier one that changed the leaf.
    """

    path: str
    value: Any
    event: Event
    or_before: bool = False

    def __repr__(self) -> str:
        # The value stays out: it may be a secret, and reprs end up in logs.
        return f"BlamedLeaf(path={self.path!r}, event={self.event!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("path", self.path), ("event", self.event)]


class Blame(msgspec.Struct, frozen=True, kw_only=True):
    """A resource, and for each leaf of its content the event that last changed it."""

    resource: Resource[Any]
    leaves: list[BlamedLeaf]


class Blaming:
    """Takes in the events of one resource, oldest first, and knows whom to blame.

    What a delete and a new creation leave is all the new creation's. An element of a list
    that only moved, or stands beside new ones, keeps its own; see `diff.match_elements`.
    """

    def __init__(self) -> None:
        self._content: Any = msgspec.UNSET
        self._blame: Any = None
        self.last: StoredEvent | None = None

    def add(self, event: StoredEvent, content: Mapping[str, Any] | None) -> None:
        """Take in the next event, with the content of the resource after it."""
        if event.operation is Operation.REDACTED:
            return
        self.last = event
        if content is None:
            self._content, self._blame = msgspec.UNSET, None
        elif self._content is msgspec.UNSET:
            self._content, self._blame = content, _whole(content, event)
        else:
            self._blame = _carried(self._content, content, self._blame, event)
            self._content = content

    def leaves(self) -> Iterator[tuple[str, Any, StoredEvent]]:
        """Yield each leaf: its JSON pointer, its value, the event that made it so."""
        if self._content is not msgspec.UNSET:
            yield from _leaves(self._content, self._blame, "")


# A tree of blame has the shape of its value, with an event at each leaf.


def _whole(value: Any, event: StoredEvent) -> Any:
    if isinstance(value, dict) and value:
        members = cast("dict[str, object]", value)
        return {name: _whole(member, event) for name, member in members.items()}
    if isinstance(value, list) and value:
        return [_whole(element, event) for element in cast("list[object]", value)]
    return event


def _carried(old: Any, new: Any, blame: Any, event: StoredEvent) -> Any:
    """Return the blame of `new`, which `event` made of `old`."""
    if same(old, new):
        return blame
    match old, new:
        case dict(), dict() if old and new:
            before = cast("dict[str, object]", old)
            return {
                name: _carried(before[name], member, blame[name], event)
                if name in before
                else _whole(member, event)
                for name, member in cast("dict[str, object]", new).items()
            }
        case list(), list() if old and new:
            return _carried_list(
                cast("list[object]", old), cast("list[object]", new), blame, event
            )
        case _:
            return _whole(new, event)


def _carried_list(
    old: Sequence[object], new: Sequence[object], blame: Any, event: StoredEvent
) -> list[Any]:
    return [
        _whole(element, event)
        if origin is None
        else _carried(old[origin], element, blame[origin], event)
        for element, origin in zip(new, match_elements(old, new), strict=True)
    ]


def _leaves(
    value: Any, blame: Any, path: str
) -> Iterator[tuple[str, Any, StoredEvent]]:
    if isinstance(value, dict) and value:
        for name, member in cast("dict[str, object]", value).items():
            yield from _leaves(member, blame[name], below(path, name))
    elif isinstance(value, list) and value:
        for index, element in enumerate(cast("list[object]", value)):
            yield from _leaves(element, blame[index], below(path, index))
    else:
        yield path, value, blame
