"""The past as a tool: what changed, who did it, what was it before."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from evstore.commit.arguments import Typed, check_position
from evstore.errors import CompactedError, NotFoundError
from evstore.folds.resources import record_of
from evstore.model import RESERVED_TYPES, Event, Filter, Head, Operation
from evstore.past.blame import Blame, BlamedLeaf, Blaming
from evstore.past.changed import (
    Diff,
    ResourceChange,
    Version,
    changed_between,
    content_of,
    predecessors,
)
from evstore.past.history import At, microseconds, resolve

from .queries import Queries

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from evstore.model import Record, StoredEvent


class Past(Queries):
    """What a store can be asked about its history."""

    @property
    def floor(self) -> int:
        """The position up to which history was compacted; 0 where the whole log is there.

        Only a log in a cluster is ever compacted. What is asked about before it raises
        `CompactedError`.
        """
        return self._log.floor.position

    async def events(  # noqa: PLR0913
        self,
        *,
        type: Typed | None = None,  # noqa: A002
        mesh: str | None = None,
        name: str | None = None,
        actor: str | None = None,
        operation: str | None = None,
        reason: str | None = None,
        since: At | None = None,
        until: At | None = None,
        after: int = 0,
        reverse: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[Event]:
        """Yield what happened, oldest first, up to the head as of the call.

        Without filters every position is there; all that are given must pass.

        Args:
            type: name of the type, or a struct type given to `open`.
            mesh: one mesh; "" is that of global types.
            name: name of the resource.
            actor: who made the change.
            operation: an `Operation`, or its name, such as "deleted".
            reason: a text that the reason contains, literally.
            since: a position or an aware datetime; what it names is there.
            until: a position or an aware datetime; what it names is there.
            after: only what follows this position.
            reverse: newest first.
            limit: at most so many.

        Raises:
            InvalidError: an argument is wrong.
        """
        where = self._arguments.where(
            type,
            mesh,
            name,
            actor,
            operation=operation,
            reason=reason,
            reserved=True,
        )
        chunks = await self._chunks(
            where, after, since, until, reverse=reverse, limit=limit
        )
        async for chunk in chunks:
            for stored in chunk:
                yield self._event(stored)

    async def history(  # noqa: PLR0913
        self,
        type: Typed | None = None,  # noqa: A002
        name: str | None = None,
        *,
        mesh: str | None = None,
        actor: str | None = None,
        operation: str | None = None,
        reason: str | None = None,
        since: At | None = None,
        until: At | None = None,
        after: int = 0,
        reverse: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[Version]:
        """Yield what happened, as `events` does, each with what was there before it.

        All of a resource's incarnations are there; `Version.created_version` tells them
        apart. Redactions are there too, and change no version.

        Raises:
            InvalidError: an argument is wrong.
        """
        where = self._arguments.where(
            type,
            mesh,
            name,
            actor,
            operation=operation,
            reason=reason,
            reserved=True,
        )
        chunks = await self._chunks(
            where, after, since, until, reverse=reverse, limit=limit
        )
        # Whether a filter can hide an event between two others of a resource.
        whole = where == Filter(type=where.type, mesh=where.mesh, name=where.name)
        async for chunk in chunks:
            events = chunk[::-1] if reverse else chunk
            before = await predecessors(self._log, events, whole=whole)
            pairs = list(zip(events, before, strict=True))
            for stored, previous in reversed(pairs) if reverse else pairs:
                yield Version(
                    event=self._event(stored),
                    before=None if previous is None else self._event(previous),
                )

    async def _chunks(
        self,
        where: Filter,
        after: int,
        since: At | None,
        until: At | None,
        *,
        reverse: bool,
        limit: int | None,
    ) -> AsyncIterator[list[StoredEvent]]:
        after, last = await self._bounds(after, since, until)
        if limit is not None:
            check_position(limit, "limit")
        return self._log.read(
            after=after, until=last, where=where, reverse=reverse, limit=limit
        )

    async def diff(
        self,
        before: At,
        after: At | None = None,
        *,
        type: Typed | None = None,  # noqa: A002
        mesh: str | None = None,
        name: str | None = None,
    ) -> Diff:
        """Return what differs between the states at two positions or times.

        Without `after` it is what has changed until now; where `after` is the earlier
        one, it is what would have to change to go back. What changed and changed back is
        not there. The cost grows with the number of events between the two.

        Raises:
            InvalidError: an argument is wrong, or beyond the head.
        """
        where = self._arguments.where(type, mesh, name)
        old = await resolve(self._log, before)
        new = (
            await self._log.head() if after is None else await resolve(self._log, after)
        )
        return Diff(
            before=old.position,
            after=new.position,
            changes=await self._changes(where, old, new),
        )

    async def _changes(
        self, where: Filter, old: Head, new: Head
    ) -> list[ResourceChange]:
        low, high = sorted((old.position, new.position))
        pairs = await changed_between(self._log, where, after=low, until=high)
        if low == new.position:
            pairs = [(later, earlier) for earlier, later in pairs]
        changes = [
            ResourceChange(before=self._wrapped(one), after=self._wrapped(other))
            for one, other in pairs
        ]
        return [each for each in changes if each.key.type not in RESERVED_TYPES]

    async def blame(
        self,
        type: Typed,  # noqa: A002
        name: str,
        *,
        mesh: str = "",
        at: At | None = None,
    ) -> Blame:
        """Return for each leaf of a resource the event that last changed it.

        Only this incarnation counts. An element of a list that moved keeps its own event;
        what was removed has none, as in `git blame`. Where the log was compacted, what
        has not changed since has the last event of the resource that is left from before,
        and says so: `BlamedLeaf.or_before`.

        Args:
            type: name of the type, or a struct type given to `open`.
            name: name of the resource.
            mesh: mesh of the resource; "" for global types.
            at: a position or an aware datetime: the resource as it was then.

        Raises:
            NotFoundError: there is none, or was none then.
            InvalidError: an argument is wrong, or `at` is beyond the head.
        """
        key = self._arguments.key(type, name, mesh)
        until = (await resolve(self._log, at)).position if at is not None else None
        after = 0
        if until is None:
            record = self._resources.get(key.text)
            if record is None:
                raise NotFoundError(key=key)
            after, until = record.created_version - 1, record.version
        where = Filter(type=key.type, mesh=key.mesh, name=key.name)
        floor, blaming = await self._blamed(where, after=after, until=until)
        found = None if blaming.last is None else record_of(blaming.last)
        if found is None:
            message = f"{key} did not exist at position {until}"
            raise NotFoundError(message, key=key)
        return Blame(
            resource=self._wrap(found),
            leaves=[
                BlamedLeaf(
                    path=path,
                    value=value,
                    event=self._event(event),
                    or_before=event.position <= floor
                    and event.operation is not Operation.CREATED,
                )
                for path, value, event in blaming.leaves()
                if not path.startswith("/owner/")  # it cannot change
            ],
        )

    async def _blamed(
        self, where: Filter, *, after: int, until: int
    ) -> tuple[int, Blaming]:
        """Return the floor, and one resource's events in a range, as they are blamed.

        Where the range begins below the floor, the first is what is left from there.
        """
        while True:
            floor = self._log.floor.position
            blaming = Blaming()
            try:
                if after < floor:
                    _blame(blaming, await self._log.latest(where=where, until=floor))
                chunks = self._log.read(
                    after=max(after, floor), until=max(until, floor), where=where
                )
                async for chunk in chunks:
                    _blame(blaming, chunk)
            except CompactedError:
                if floor == self._log.floor.position:
                    raise
                continue  # it was compacted in between
            return floor, blaming

    async def _bounds(
        self, after: int, since: At | None, until: At | None
    ) -> tuple[int, int]:
        check_position(after, "after")
        last = await self.head()
        if until is not None:
            last = min(last, await self._last(until))
        if since is not None:
            after = max(after, await self._before(since))
        return after, last

    async def _last(self, until: At) -> int:
        if not isinstance(until, datetime):
            return check_position(until, "until")
        return (await self._log.locate(microseconds(until, "until"))).position

    async def _before(self, since: At) -> int:
        if not isinstance(since, datetime):
            return max(0, check_position(since, "since") - 1)
        return (await self._log.locate(microseconds(since, "since") - 1)).position

    def _wrapped(self, record: Record | None) -> Any:
        return None if record is None else self._wrap(record)


def _blame(blaming: Blaming, events: Sequence[StoredEvent]) -> None:
    for event in events:
        deleted = event.operation is Operation.DELETED
        blaming.add(event, None if deleted else content_of(event.body))
