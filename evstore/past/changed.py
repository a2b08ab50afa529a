"""What changed: from version to version of a resource, and between two states.

Both cost what changed and no more: the events in question are read once, and what was
there before them is looked up by key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from evstore.folds.resources import record_of
from evstore.model import CREATED_VERSION, Event, Key, Operation, Record, Resource
from evstore.values.diff import Difference, differences, patch, same

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from evstore.log import Log
    from evstore.model import Filter, StoredEvent

T = TypeVar("T")

LOOKED_UP_MAX: Final = 500


class _Body(msgspec.Struct):
    labels: dict[str, str] = {}
    owner: dict[str, Any] | None = None
    spec: Any = None
    status: Any = None


_decode_body = msgspec.json.Decoder(_Body).decode


def content_of(body: bytes | msgspec.Raw | None) -> dict[str, Any] | None:
    """Return what is compared of a resource; None where there is none.

    Its `spec`, and where there are any its `labels`, `status` and `owner`.
    """
    if body is None:
        return None
    found = _decode_body(body)
    content: dict[str, Any] = {"spec": found.spec}
    if found.labels:
        content["labels"] = found.labels
    if found.status is not None:
        content["status"] = found.status
    if found.owner is not None:
        content["owner"] = found.owner
    return content


def compared(
    old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
) -> list[Difference]:
    """Return the leaves that differ between two contents; None where there is none."""
    return list(
        differences(
            msgspec.UNSET if old is None else old, msgspec.UNSET if new is None else new
        )
    )


class ResourceChange(msgspec.Struct, frozen=True, kw_only=True):
    """A resource before and after some changes; None where there was or is none.

    In a plan, `after` is what will be: it has no version yet, and says 0.
    """

    before: Resource[Any] | None
    after: Resource[Any] | None

    @property
    def key(self) -> Key:
        """Type, mesh and name."""
        found = self.after or self.before
        assert found is not None, "something changed"
        return found.key

    @property
    def operation(self) -> Operation:
        """What happened on the whole: created, updated or deleted."""
        if self.before is None:
            return Operation.CREATED
        return Operation.DELETED if self.after is None else Operation.UPDATED

    @property
    def differences(self) -> list[Difference]:
        """The leaves that differ, with JSON pointers such as /spec/port."""
        return compared(*self._contents)

    @property
    def patch(self) -> list[dict[str, Any]]:
        """The JSON Patch (RFC 6902) from one content to the other.

        A content is `{"spec", "labels", "status", "owner"}`, less what is empty; where
        there is no resource it is null.
        """
        return patch(*self._contents)

    @property
    def _contents(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        before, after = self.before, self.after
        return (
            content_of(None if before is None else before.record.body),
            content_of(None if after is None else after.record.body),
        )


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between the states at two positions, by type, mesh and name."""

    before: int
    after: int
    changes: list[ResourceChange]


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a resource, and the event that made what was there before.

    `before` is None for a creation; what an earlier incarnation left behind is gone.
    """

    event: Event
    before: Event | None

    @property
    def created_version(self) -> int:
        """The version at which this incarnation of the resource began."""
        event = self.event
        if event.operation is Operation.REDACTED and self.before is not None:
            event = self.before  # an announcement belongs to what is there
        if event.operation is Operation.CREATED:
            return event.position
        return int(event.metadata.get(CREATED_VERSION, 0))

    @property
    def differences(self) -> list[Difference]:
        """The leaves that the event changed, with JSON pointers such as /spec/port."""
        return compared(*self._contents)

    @property
    def patch(self) -> list[dict[str, Any]]:
        """The JSON Patch (RFC 6902) of the event; see `ResourceChange.patch`."""
        return patch(*self._contents)

    @property
    def _contents(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        event, before = self.event, self.before
        old = None if before is None else content_of(before.stored.body)
        if event.operation is Operation.REDACTED:
            return old, old  # it changes no version, but what the log has of one
        if event.operation is Operation.DELETED:
            return old, None
        return old, content_of(event.stored.body)


async def predecessors(
    log: Log, events: Sequence[StoredEvent], *, whole: bool
) -> list[StoredEvent | None]:
    """Return for each event the one that made what its resource was before it.

    `events` are in order of position. `whole` says that they are all events of their keys
    in that range, so that only the first of each key has to be looked up.
    """
    found: list[StoredEvent | None] = []
    missing: list[int] = []
    last: dict[str, StoredEvent] = {}
    for index, event in enumerate(events):
        before = last.get(event.key) if whole else None
        if event.operation is Operation.CREATED:
            before = None
        elif before is None:
            missing.append(index)
        if event.operation is not Operation.REDACTED:
            last[event.key] = event
        found.append(before)
    for some in _portions(missing):
        places = [(events[index].key, events[index].position) for index in some]
        for index, before in zip(some, await log.previous(places), strict=True):
            found[index] = before
    return found


async def changed_between(
    log: Log, where: Filter, *, after: int, until: int
) -> list[tuple[Record | None, Record | None]]:
    """Return the resources whose content differs between two positions, by key.

    Each as it was at `after`, and as it was at `until`.
    """
    first: dict[str, Operation] = {}
    last: dict[str, StoredEvent] = {}
    async for chunk in log.read(after=after, until=until, where=where):
        for event in chunk:
            if event.operation is not Operation.REDACTED:
                first.setdefault(event.key, event.operation)
                last[event.key] = event
    before = await _records_before(
        log,
        [key for key, event in first.items() if event is not Operation.CREATED],
        after + 1,
    )
    found: list[tuple[Record | None, Record | None]] = []
    for key in sorted(last, key=lambda text: text.split("/")):
        old, new = before.get(key), record_of(last[key])
        if not same_content(old, new):
            found.append((old, new))
    return found


def same_content(one: Record | None, other: Record | None) -> bool:
    """Whether two resources have the same spec, status, labels and owner; or are none."""
    if one is None or other is None:
        return one is other
    return one.body == other.body or same(content_of(one.body), content_of(other.body))


async def _records_before(
    log: Log, keys: Sequence[str], position: int
) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for some in _portions(keys):
        for event in await log.previous([(key, position) for key in some]):
            record = None if event is None else record_of(event)
            if record is not None:
                found[record.key] = record
    return found


def _portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), LOOKED_UP_MAX):
        yield items[start : start + LOOKED_UP_MAX]
