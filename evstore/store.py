"""The facade: what an embedding control plane sees."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload
from uuid import uuid4

import anyio
import msgspec

from .arguments import Arguments, Spec, Typed
from .background import background
from .clock import to_microseconds
from .committer import Committer, replay
from .config import Config
from .errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from .history import At, resolve, resource_at, resources_at
from .listing import Listings, Query
from .log import Instance, open_log
from .model import Event, Key, Page, Resource
from .transaction import Transaction
from .watch import Tail, watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from uuid import UUID

    from .commands import Change, Command
    from .log import Log
    from .model import Filter, Record, StoredEvent
    from .resources import Resources

S = TypeVar("S")
CODE_VERSION: Final = version("evstore")
FOLLOW_PAUSE_SECONDS: Final = 0.005


@asynccontextmanager
async def open(  # noqa: A001 - evstore.open reads as it should
    config: Config | None = None, *, types: Iterable[type[Any]] = ()
) -> AsyncIterator[Store]:
    """Open the store that `config` names; without one, an empty store in memory.

    The state is rebuilt from the log before the body begins. At the end the commands
    that wait are appended, then all connections are closed.

    Args:
        config: as `load_config` returns it.
        types: `msgspec.Struct` types; the name of each is a resource type, whose specs
            are then validated on write and decoded into the struct on read.

    Raises:
        SchemaError: the database is not at the version that this program needs.
        UnavailableError: the database cannot be reached.
        ConfigError: the server refuses user, password or database.
    """
    config = config or Config()
    arguments = Arguments(types, actor=config.evstore.actor)
    async with open_log(config) as log, background() as tasks:
        await log.connect()
        projections = await replay(log)
        tail = Tail(
            projections.position, events_max=config.evstore.limits.tail_events_max
        )
        committer = Committer(log, projections, tail, config.evstore.limits)
        store = Store(config, log, committer, tail, arguments)
        tasks.start_soon(committer.run)
        tasks.start_soon(store._follow)  # noqa: SLF001
        if config.evstore.heartbeat_interval:
            tasks.start_soon(store._beat)  # noqa: SLF001
        try:
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                await committer.aclose(seconds=config.evstore.limits.append_timeout)


class Store:
    """A control plane's resources: commands in, resources and events out.

    Made by `open`. All methods may be called from any number of tasks of one event
    loop. Every write takes `actor` (who), `reason` (why) and `request_id` (a text of
    the caller's own: the same id again returns the original result).
    """

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
        self._instance = uuid4()

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

    # Writing.

    async def create(  # noqa: PLR0913 - the parts of a resource, and who and why
        self,
        type: Typed,  # noqa: A002
        name: str,
        *,
        mesh: str = "",
        spec: Spec,
        status: dict[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        owner: Resource[Any] | Key | None = None,
        actor: str | None = None,
        reason: str = "",
        request_id: str | None = None,
    ) -> Resource[Any]:
        """Create a resource that does not exist.

        With an owner, it is deleted when the owner is; a `Resource` as owner names that
        incarnation of it.

        Raises:
            AlreadyExistsError: there is one with this type, mesh and name.
            NotFoundError: the owner is missing, or was deleted and created again.
            InvalidError: an argument is wrong.
        """
        change = self._arguments.create(
            type,
            name,
            mesh=mesh,
            spec=spec,
            status=status,
            labels=labels,
            owner=owner,
        )
        return await self._change(
            change, actor=actor, reason=reason, request_id=request_id
        )

    async def update(  # noqa: PLR0913
        self,
        target: Resource[S] | Key,
        *,
        spec: Spec | S | None = None,
        status: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET,
        labels: Mapping[str, str] | None = None,
        actor: str | None = None,
        reason: str = "",
        request_id: str | None = None,
    ) -> Resource[S]:
        """Change a resource; what is not given stays, `labels={}` clears them.

        A `Resource` as target must be the current version; a `Key` means whatever is
        there. An update that changes nothing appends nothing and returns the current
        resource.

        Raises:
            ConflictError: the resource has been changed or deleted since.
            NotFoundError: there is none with this key.
            InvalidError: an argument is wrong.
        """
        change = self._arguments.update(
            target, spec=spec, status=status, labels=labels
        )
        return await self._change(
            change, actor=actor, reason=reason, request_id=request_id
        )

    async def delete(  # noqa: PLR0913
        self,
        type: Typed,  # noqa: A002
        name: str,
        *,
        mesh: str = "",
        version: int | Resource[Any] | None = None,
        actor: str | None = None,
        reason: str = "",
        request_id: str | None = None,
    ) -> None:
        """Delete a resource and all that it owns, chains included, in one transaction.

        Raises:
            NotFoundError: there is none with this type, mesh and name.
            ConflictError: `version` is not the current one.
            InvalidError: an argument is wrong.
        """
        change = self._arguments.delete(type, name, mesh=mesh, version=version)
        await self._submit(
            self._arguments.command(
                [change], actor=actor, reason=reason, request_id=request_id
            )
        )

    async def upsert(  # noqa: PLR0913
        self,
        type: Typed,  # noqa: A002
        name: str,
        *,
        change: Callable[[Resource[Any] | None], Spec],
        mesh: str = "",
        labels: Mapping[str, str] | None = None,
        owner: Resource[Any] | Key | None = None,
        actor: str | None = None,
        reason: str = "",
        request_id: str | None = None,
    ) -> Resource[Any]:
        """Create a resource or change it, whichever it takes.

        `change` gets the current resource, or None, and returns the spec; it is called
        again on a conflict, as often and with such pauses as `store.upsert.*` says, so
        it must not do anything else. `owner` counts where the resource is created.

        Raises:
            ConflictError: there was a conflict each time.
            InvalidError: an argument is wrong.
        """
        key = self._arguments.key(type, name, mesh)
        retries = self._config.upsert
        attempt = 0
        while True:
            record = self._resources.get(key.text)
            current = None if record is None else self._wrap(record)
            spec = change(current)
            try:
                if current is not None:
                    return await self.update(
                        current,
                        spec=spec,
                        labels=labels,
                        actor=actor,
                        reason=reason,
                        request_id=request_id,
                    )
                return await self.create(
                    type,
                    name,
                    mesh=mesh,
                    spec=spec,
                    labels=labels,
                    owner=owner,
                    actor=actor,
                    reason=reason,
                    request_id=request_id,
                )
            except (ConflictError, AlreadyExistsError):
                if attempt >= retries.conflict_retry_max_times:
                    raise
            jitter = retries.conflict_retry_jitter_percent / 100
            pause = retries.conflict_retry_base_backoff * 2**attempt
            # The state is up to date after a conflict: the first try needs no pause.
            if attempt:
                await anyio.sleep(pause * random.uniform(1 - jitter, 1 + jitter))  # noqa: S311
            attempt += 1

    @asynccontextmanager
    async def transaction(
        self,
        *,
        actor: str | None = None,
        reason: str = "",
        request_id: str | None = None,
    ) -> AsyncIterator[Transaction]:
        """Collect changes in the body; append all of them at its end, or none.

        Nothing is sent before the body ends, and nothing at all if it raises.
        `tx.results` has, for each change, the resource as it is after the transaction,
        None where it is deleted.

        Raises:
            StoreError: what the first change that fails would raise alone.
        """
        tx = Transaction(self._arguments)
        yield tx
        if tx.changes:
            records = await self._submit(
                self._arguments.command(
                    tx.changes, actor=actor, reason=reason, request_id=request_id
                )
            )
            tx.results = [record and self._wrap(record) for record in records]

    async def _change(
        self, change: Change, *, actor: str | None, reason: str, request_id: str | None
    ) -> Resource[Any]:
        (record,) = await self._submit(
            self._arguments.command(
                [change], actor=actor, reason=reason, request_id=request_id
            )
        )
        if record is None:
            # A repeated request whose result was deleted in the same transaction.
            raise NotFoundError(key=Key.from_text(change.key))
        return self._wrap(record)

    async def _submit(self, command: Command) -> list[Record | None]:
        verdict = await self._committer.submit(command)
        if isinstance(verdict, list):
            return verdict
        return [
            await self._record_at(change.key, verdict.commit)
            for change in command.changes
        ]

    async def _record_at(self, key: str, position: int) -> Record | None:
        current = self._resources.get(key)
        if current is not None and current.commit == position:
            return current
        try:
            return await resource_at(self._log, Key.from_text(key), position)
        except NotFoundError:
            return None

    # Reading.

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

    async def get(  # noqa: PLR0913
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
            record = await resource_at(self._log, key, await resolve(self._log, at))
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
        """
        if page_size is not None and page_size < 1:
            raise InvalidError(f"must be at least 1, not {page_size}", path="page_size")
        selection = self._arguments.where(type, mesh)
        query = Query(
            type=self._arguments.type_name(type),
            mesh=mesh,
            name_contains=name_contains,
            keys=None if keys is None else frozenset(keys),
            labels=dict(labels) if labels else None,
        )
        accepts = None if where is None else lambda record: where(self._wrap(record))
        if consistent:
            await self._reach_head()
        if page_token is not None:
            found = await self._listings.next_page(
                query, token=page_token, size=page_size, where=accepts
            )
        else:
            records: Iterable[Record]
            if at is None:
                position = self.position
                records = self._resources.of_type(query.type)
            else:
                position = await resolve(self._log, at)
                records = await resources_at(self._log, selection, position)
            found = self._listings.first_page(
                query, records, position=position, size=page_size, where=accepts
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
    ) -> AsyncIterator[Event]:
        """Yield what happened, oldest first, up to the head as of the call.

        Without filters every position is there. `since` and `until` are positions or
        aware datetimes and include what they name; `after` excludes it.

        Raises:
            InvalidError: an argument is wrong.
        """
        where = self._arguments.where(type, mesh, name, actor)
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
        if isinstance(until, int):
            return until
        return (await self._log.locate(to_microseconds(until))).position

    async def _before(self, since: At) -> int:
        if isinstance(since, int):
            return since - 1
        return (await self._log.locate(to_microseconds(since) - 1)).position

    def watch(
        self,
        *,
        type: Typed | None = None,  # noqa: A002
        mesh: str | None = None,
        name: str | None = None,
        after: int | None = None,
    ) -> AsyncIterator[Event]:
        """Follow the log: yield each event once, in order, for ever.

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
        """
        where = self._arguments.where(type, mesh, name)
        start = self.position if after is None else after
        return self._watch(where, start)

    async def _watch(self, where: Filter, after: int) -> AsyncIterator[Event]:
        if after < 0 or (after > self.position and after > await self.head()):
            message = f"{after} is not a position up to the head, {await self.head()}"
            raise InvalidError(message, path="after")
        async for stored in watch(self._log, self._tail, where=where, after=after):
            yield self._event(stored)

    async def instances(self) -> list[Instance]:
        """Return the running instances, as their last heartbeats told them."""
        return await self._log.instances()

    # Inside.

    @property
    def _resources(self) -> Resources:
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

    async def _follow(self) -> None:
        """Have the committer read on whenever other instances may have appended."""
        while True:
            await self._log.wait(
                self.position, seconds=self._config.evstore.poll_interval
            )
            self._committer.nudge()
            await anyio.sleep(FOLLOW_PAUSE_SECONDS)

    async def _beat(self) -> None:
        """Tell other instances, and a later replay, where this one stands."""
        while True:
            instance = Instance(
                id=self._instance,
                position=self.position,
                digest=self.digest(),
                code_version=CODE_VERSION,
            )
            with suppress(UnavailableError):
                await self._log.beat(instance)
            await anyio.sleep(self._config.evstore.heartbeat_interval)
