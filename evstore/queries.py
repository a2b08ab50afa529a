"""Queries: what a store can be asked, from memory where it is about the present."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, overload

import anyio

from .arguments import (
    Arguments,
    Typed,
    check_keys,
    check_labels,
    check_position,
)
from .codec import check_text
from .errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from .history import At, microseconds, resolve, resource_at, resources_at
from .listing import Listings, Query
from .model import Event, Key, Page, Resource
from .watch import Tail, watch

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
    from uuid import UUID

    from .committer import Committer
    from .config import Config
    from .log import Instance, Log
    from .model import Filter, Record, StoredEvent
    from .resources import Resources

S = TypeVar("S")


class Queries:
    """All of a store that changes nothing."""

    def __init__(
        self,
        config: Config,
        log: Log,
        committer: Committer,
        tail: Tail,
        arguments: Arguments,
    ) -> None:
        self._config = config
        self._log = log
        self._committer = committer
        self._tail = tail
        self._arguments = arguments
        self._listings = Listings(log)

    # Where this instance stands.

    @property
    def position(self) -> int:
        """The position that this instance has applied."""
        return self._committer.projections.position

    @property
    def identity(self) -> UUID:
        """The id of the log."""
        return self._log.identity

    def digest(self) -> bytes:
        """Return the state digest: equal for equal states, however they came about.

        It covers key, version and body of every resource. It finds drift; it is no
        proof against tampering.
        """
        return self._committer.projections.resources.digest()

    async def head(self) -> int:
        """Return the last position of the log itself; 0 for an empty one."""
        return (await self._log.head()).position

    # The present and the past.

    @overload
    async def get(
        self,
        type: type[S],
        name: str,
        *,
        mesh: str = "",
        version: int | None = None,
        consistent: bool = False,
        at: At | None = None,
    ) -> Resource[S]: ...

    @overload
    async def get(
        self,
        type: str,
        name: str,
        *,
        mesh: str = "",
        version: int | None = None,
        consistent: bool = False,
        at: At | None = None,
    ) -> Resource[Any]: ...

    async def get(
        self,
        type: Typed,  # noqa: A002
        name: str,
        *,
        mesh: str = "",
        version: int | None = None,
        consistent: bool = False,
        at: At | None = None,
    ) -> Resource[Any]:
        """Return one resource, from memory; what this instance wrote, it sees.

        Args:
            type: name of the type, or a struct type given to `open`.
            name: name of the resource.
            mesh: mesh of the resource; "" for global types.
            version: the version that is wanted.
            consistent: wait until this instance has applied the log's head as of now.
            at: a position or an aware datetime: the resource as it was then.

        Raises:
            NotFoundError: there is none, or was none then.
            ConflictError: it is not at `version`.
            InvalidError: an argument is wrong, or `at` is beyond the head.
        """
        key = self._arguments.key(type, name, mesh)
        if consistent:
            await self._reach_head()
        if at is not None:
            place = await resolve(self._log, at)
            record = await resource_at(self._log, key, place.position)
        else:
            found = self._resources.get(key.text)
            if found is None:
                raise NotFoundError(key=key)
            record = found
        if version is not None and record.version != version:
            raise ConflictError(key=key, expected=version, actual=record.version)
        return self._wrap(record)

    async def list(  # noqa: PLR0913
        self,
        type: Typed,  # noqa: A002
        *,
        mesh: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
        at: At | None = None,
        consistent: bool = False,
        name_contains: str | None = None,
        keys: Iterable[Key] | None = None,
        labels: Mapping[str, str] | None = None,
        where: Callable[[Resource[Any]], bool] | None = None,
    ) -> Page[Any]:
        """Return resources of one type, by name, then mesh; from memory.

        All pages of one listing come from one state, however the store moves on.

        Args:
            type: name of the type, or a struct type given to `open`.
            mesh: one mesh; None lists all meshes.
            page_size: resources a page; without one, everything is one page.
            page_token: `next_page_token` of the page before, with the same filters.
            at: a position or an aware datetime: the listing as it was then.
            consistent: wait until this instance has applied the log's head as of now.
            name_contains: a text that the name contains, literally.
            keys: only these.
            labels: only what has all of these labels.
            where: only what this function accepts.

        Raises:
            InvalidError: an argument is wrong, a token is not of this listing, or `at`
                is beyond the head.
            DivergedError: the log lost the state of this listing.
        """
        largest = self._config.evstore.limits.page_size_max
        if page_size is not None and not (
            1 <= check_position(page_size, "page_size") <= largest
        ):
            message = f"must be between 1 and {largest}, not {page_size}"
            raise InvalidError(message, path="page_size")
        selection = self._arguments.where(type, mesh)
        query = Query(
            type=self._arguments.type_name(type),
            mesh=mesh,
            name_contains=None
            if name_contains is None
            else check_text(name_contains, "name_contains"),
            keys=None if keys is None else check_keys(keys),
            labels=None if labels is None else check_labels(labels),
        )
        accepts = self._accepts(where)
        if consistent:
            await self._reach_head()
        if page_token is not None:
            found = await self._listings.next_page(
                query, token=page_token, size=page_size, where=accepts
            )
        else:
            records: Iterable[Record]
            if at is None:
                state = self._committer.projections.head
                records = self._resources.of_type(query.type)
            else:
                state = await resolve(self._log, at)
                records = await resources_at(self._log, selection, state.position)
            found = self._listings.first_page(
                query, records, state=state, size=page_size, where=accepts
            )
        return Page(
            [self._wrap(record) for record in found.records],
            total=found.total,
            next_page_token=found.next_page_token,
            position=found.position,
        )

    # The log.

    async def events(  # noqa: PLR0913
        self,
        *,
        type: Typed | None = None,  # noqa: A002
        mesh: str | None = None,
        name: str | None = None,
        actor: str | None = None,
        since: At | None = None,
        until: At | None = None,
        after: int = 0,
        reverse: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[Event]:
        """Yield what happened, oldest first, up to the head as of the call.

        Without filters every position is there. `since` and `until` are positions or
        aware datetimes and include what they name; `after` excludes it.

        Raises:
            InvalidError: an argument is wrong.
        """
        where = self._arguments.where(type, mesh, name, actor)
        check_position(after, "after")
        if limit is not None:
            check_position(limit, "limit")
        last = await self.head()
        if until is not None:
            last = min(last, await self._last(until))
        if since is not None:
            after = max(after, await self._before(since))
        chunks = self._log.read(
            after=after, until=last, where=where, reverse=reverse, limit=limit
        )
        async for chunk in chunks:
            for stored in chunk:
                yield self._event(stored)

    async def _last(self, until: At) -> int:
        if not isinstance(until, datetime):
            return check_position(until, "until")
        return (await self._log.locate(microseconds(until, "until"))).position

    async def _before(self, since: At) -> int:
        if not isinstance(since, datetime):
            return max(0, check_position(since, "since") - 1)
        return (await self._log.locate(microseconds(since, "since") - 1)).position

    def watch(
        self,
        *,
        type: Typed | None = None,  # noqa: A002
        mesh: str | None = None,
        name: str | None = None,
        after: int | None = None,
    ) -> AsyncGenerator[Event]:
        """Follow the log: yield each event once, in order, until the store is closed.

        Args:
            type: only events of this type.
            mesh: only events of this mesh.
            name: only events of resources with this name.
            after: a position, 0 for the first event on; without it, from now on.
                Together with `Page.position`, nothing is missed between a listing and
                the watch.

        Raises:
            InvalidError: an argument is wrong, or `after` is beyond the head.
            DivergedError: the log lost events that this instance had applied.
            UnavailableError: the log had to be read to catch up, and cannot be.
        """
        where = self._arguments.where(type, mesh, name)
        start = self.position if after is None else check_position(after, "after")
        return self._watch(where, start, self._tail.generation)

    async def _watch(
        self, where: Filter, after: int, generation: int
    ) -> AsyncGenerator[Event]:
        if after < 0 or (after > self.position and after > await self.head()):
            message = f"{after} is not a position up to the head, {await self.head()}"
            raise InvalidError(message, path="after")
        events = watch(
            self._log, self._tail, where=where, after=after, generation=generation
        )
        async for stored in events:
            yield self._event(stored)

    async def instances(self) -> builtins.list[Instance]:
        """Return the running instances, as their last heartbeats told them."""
        return await self._log.instances()

    # Inside.

    def _accepts(
        self, where: Callable[[Resource[Any]], bool] | None
    ) -> Callable[[Record], bool] | None:
        if where is None:
            return None
        return lambda record: where(self._wrap(record))

    @property
    def _resources(self) -> Resources:
        self._committer.check_open()
        return self._committer.projections.resources

    def _wrap(self, record: Record) -> Resource[Any]:
        types = self._arguments.types
        if not types:
            return Resource(record)
        return Resource(record, types.get(record.key.split("/")[0]))

    def _event(self, stored: StoredEvent) -> Event:
        return Event(stored, self._arguments.types.get(stored.key.split("/")[0]))

    async def _reach_head(self) -> None:
        head = await self._log.head()
        seconds = self._config.evstore.limits.command_timeout
        try:
            with anyio.fail_after(seconds):
                await self._committer.reach(head.position)
        except TimeoutError:
            message = f"position {head.position} was not reached in {seconds} s"
            raise UnavailableError(message) from None
