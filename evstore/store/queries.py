"""Queries: what a store can be asked, from memory where it is about the present."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import anyio

from evstore.bookmark import Bookmark
from evstore.codec import check_text
from evstore.commit.arguments import (
    Arguments,
    Typed,
    check_keys,
    check_labels,
    check_position,
)
from evstore.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from evstore.model import Event, Key, Page, Resource
from evstore.past.history import At, resolve, resource_at, resources_at
from evstore.past.listing import Listings, Query
from evstore.watching.watcher import Watcher

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
    from uuid import UUID

    from evstore.commit.committer import Committer
    from evstore.config import Config
    from evstore.folds.resources import Resources
    from evstore.instances.health import Health, Vitals
    from evstore.log import Instance, Log
    from evstore.model import Record, StoredEvent
    from evstore.schemas import Schemas
    from evstore.watching.tail import Tail

S = TypeVar("S")


class Queries:
    """All of a store that changes nothing."""

    def __init__(  # noqa: PLR0913 - what `open` has put together
        self,
        config: Config,
        log: Log,
        committer: Committer,
        tail: Tail,
        arguments: Arguments,
        *,
        schemas: Schemas,
        stored: Log,
        vitals: Vitals,
    ) -> None:
        self._config = config
        self._log = log
        # The log as it is, for what needs the stored bytes.
        self._stored = stored
        self._schemas = schemas
        self._committer = committer
        self._tail = tail
        self._arguments = arguments
        self._vitals = vitals
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
        min_version: int | None = None,
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
        min_version: int | None = None,
        at: At | None = None,
    ) -> Resource[Any]: ...

    async def get(  # noqa: PLR0913
        self,
        type: Typed,  # noqa: A002
        name: str,
        *,
        mesh: str = "",
        version: int | None = None,
        consistent: bool = False,
        min_version: int | None = None,
        at: At | None = None,
    ) -> Resource[Any]:
        """Return one resource, from memory; what this instance wrote, it sees.

        Args:
            type: name of the type, or a struct type given to `open`.
            name: name of the resource.
            mesh: mesh of the resource; "" for global types.
            version: the version that is wanted.
            consistent: wait until this instance has applied the log's head as of now.
            min_version: wait until this instance has applied this position, for
                example the version that another instance has written.
            at: a position or an aware datetime: the resource as it was then.

        Raises:
            NotFoundError: there is none, or was none then.
            ConflictError: it is not at `version`.
            InvalidError: an argument is wrong, or `at` is beyond the head.
            UnavailableError: what was to be waited for did not come in time.
            SchemaError: it cannot be read by this program.
        """
        key = self._arguments.key(type, name, mesh)
        await self._reach(min_version, consistent=consistent)
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
        min_version: int | None = None,
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
            min_version: wait until this instance has applied this position, for
                example the version that another instance has written.
            name_contains: a text that the name contains, literally.
            keys: only these.
            labels: only what has all of these labels.
            where: only what this function accepts.

        Raises:
            InvalidError: an argument is wrong, a token is not of this listing, or `at`
                is beyond the head.
            DivergedError: the log lost the state of this listing.
            UnavailableError: what was to be waited for did not come in time.
            SchemaError: it cannot be read by this program.
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
        await self._reach(min_version, consistent=consistent)
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

    @overload
    def watch(
        self,
        *,
        type: Typed | None = None,
        mesh: str | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        after: int | Bookmark | None = None,
        initial: Literal[False] = False,
        bookmarks: Literal[False] = False,
    ) -> AsyncGenerator[Event]: ...

    @overload
    def watch(
        self,
        *,
        type: Typed | None = None,
        mesh: str | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        after: int | Bookmark | None = None,
        initial: bool = False,
        bookmarks: bool = False,
    ) -> AsyncGenerator[Event | Bookmark]: ...

    def watch(  # noqa: PLR0913
        self,
        *,
        type: Typed | None = None,  # noqa: A002
        mesh: str | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        after: int | Bookmark | None = None,
        initial: bool = False,
        bookmarks: bool = False,
    ) -> AsyncGenerator[Event | Bookmark]:
        """Follow the log: yield each event once, in order, until the store is closed.

        A consumer may be as slow as it likes: what is no longer in memory is read from
        the log, and while that cannot be reached, the watch waits. Events of one
        transaction come one after another; a bookmark is never among them, and never
        ahead of an event.

        Args:
            type: only events of this type.
            mesh: only events of this mesh.
            name: only events of resources with this name.
            labels: only events of resources that have all of these labels after the
                event, or had them before it: so one that loses them is seen to leave,
                and one that is deleted as well. What was redacted is as if it had
                never been there.
            after: a position, 0 for the first event on, or a bookmark, which also tells
                whether the log is still the same; without it, from now on. Together
                with `Page.position`, nothing is missed between a listing and the watch.
            initial: first yield, in order of position, the last event of everything
                that exists and passes, as of one position; then a bookmark of that
                position; then what follows it.
            bookmarks: also yield a `Bookmark` behind the events that it covers, and
                every few seconds where others passed that were filtered out.

        Raises:
            InvalidError: an argument is wrong, `after` is beyond the head, or there is
                `initial` as well.
            DivergedError: the log lost events that this instance had applied, or it is
                not the one of the bookmark, or has lost its place.
            CompactedError: some of what comes next was removed from the log; list and
                watch again.
            UnavailableError: where to begin could not be looked up.
            SchemaError: what follows is in a shape that this program does not know; all
                before it has been yielded.
        """
        start: int | Bookmark | None
        if initial and after is not None:
            raise InvalidError("goes without `after`", path="initial")
        if initial:
            self._committer.check_open()
            start = None
        elif after is None or isinstance(after, Bookmark):
            start = self.position if after is None else after
        else:
            start = check_position(after, "after")
        watcher = Watcher(
            self._log,
            self._tail,
            lambda: self._committer.projections,
            where=self._arguments.where(type, mesh, name, reserved=True),
            labels={} if labels is None else check_labels(labels),
            after=start,
            bookmarks=bookmarks,
        )
        return self._watch(watcher)

    async def _watch(self, watcher: Watcher) -> AsyncGenerator[Event | Bookmark]:
        async with aclosing(watcher):
            while (batch := await watcher.following()) is not None:
                for stored in batch.events:
                    # The consumer may have taken its time over the last one.
                    watcher.check()
                    yield self._event(stored)
                if batch.bookmark is not None:
                    yield batch.bookmark

    async def health(self) -> Health:
        """Return how this instance is doing, in about a second at most; never raises.

        The log is asked for its head, by a query of its own. That is cheap, and shared
        by all who ask at the same time.
        """
        return await self._vitals.examine()

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
        spec_type = self._arguments.types.get(stored.key.split("/")[0])
        return Event(stored, self._log.identity, spec_type)

    async def _reach(self, position: int | None, *, consistent: bool) -> None:
        """Wait until this instance has applied a position, and the head as of now."""
        if position is not None:
            check_position(position, "min_version")
        lost = None
        if consistent:
            known = self._committer.projections
            here = known.head
            head = await self._log.head()
            lost = known if here.is_gone(head) else None
            position = max(position or 0, head.position)
        if lost is None and (position is None or position <= self.position):
            return
        seconds = self._config.evstore.limits.command_timeout
        try:
            with anyio.fail_after(seconds):
                await self._committer.reach(position or 0, lost=lost)
        except TimeoutError:
            message = f"position {position} was not reached in {seconds:g} s"
            raise UnavailableError(message) from None
