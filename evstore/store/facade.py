"""The facade: what an embedding control plane sees."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import msgspec

from evstore.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidError,
    NotFoundError,
)
from evstore.instances.lease import Lease, check_lease
from evstore.model import Key, Resource
from evstore.past.history import resource_at

from .integrity import Integrity
from .reverting import Reverting
from .transaction import Transaction
from .views import Views

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Callable,
        Mapping,
    )
    from datetime import datetime

    from evstore.commit.arguments import Arguments, Spec, Typed
    from evstore.commit.changes import Change, Command
    from evstore.commit.committer import Committer
    from evstore.config import Config
    from evstore.instances.health import Vitals
    from evstore.instances.leadership import Leaderships
    from evstore.log import Log
    from evstore.model import Record
    from evstore.schemas import Schemas
    from evstore.watching.tail import Tail

S = TypeVar("S")


class Store(Integrity, Views, Reverting):
    """A control plane's resources: commands in, resources and events out.

    Made by `evstore.open`. All methods may be called from any number of tasks of one
    event loop. Every write takes `actor` (who), `reason` (why) and `request_id` (a text of
    the caller's own: the same id again returns the original result). Ids are
    remembered for 24 hours of the log, of commands that appended something: one that was
    refused or changed nothing is decided anew when it comes again.
    """

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
        leaderships: Leaderships,
    ) -> None:
        super().__init__(
            config,
            log,
            committer,
            tail,
            arguments,
            schemas=schemas,
            stored=stored,
            vitals=vitals,
        )
        self._leaderships = leaderships

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
        change = self._arguments.update(target, spec=spec, status=status, labels=labels)
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
        it must not do anything else. `owner` counts where the resource is created. What
        makes a repeated request the same is what was asked for, not what `change` gave.

        Raises:
            ConflictError: there was a conflict each time.
            InvalidError: an argument is wrong.
        """
        key = self._arguments.key(type, name, mesh)
        asked = self._arguments.upsert(key, labels, owner)
        retries = self._config.upsert
        for attempt in count():
            record = self._resources.get(key.text)
            current = None if record is None else self._wrap(record)
            spec = change(current)
            if spec is None:  # pyright: ignore[reportUnnecessaryComparison]
                raise InvalidError("must return the spec, not None", path="change")
            step: Change
            if current is None:
                step = self._arguments.create(
                    type, name, mesh=mesh, spec=spec, labels=labels, owner=owner
                )
            else:
                step = self._arguments.update(current, spec=spec, labels=labels)
            try:
                return await self._change(
                    step,
                    actor=actor,
                    reason=reason,
                    request_id=request_id,
                    asked=asked,
                )
            except (ConflictError, AlreadyExistsError) as error:
                # Without a key, it is the request id that was used for something else.
                if error.key is None or attempt >= retries.conflict_retry_max_times:
                    raise
            # The state is up to date after a conflict: the first retry needs no pause.
            if attempt:
                jitter = retries.conflict_retry_jitter_percent / 100
                pause = retries.conflict_retry_base_backoff * 2**attempt
                await anyio.sleep(pause * random.uniform(1 - jitter, 1 + jitter))  # noqa: S311
        raise AssertionError

    @asynccontextmanager
    async def transaction(
        self,
        *,
        actor: str | None = None,
        reason: str = "",
        request_id: str | None = None,
        recorded_at: datetime | None = None,
        lease: Lease | None = None,
    ) -> AsyncGenerator[Transaction]:
        """Collect changes in the body; append all of them at its end, or none.

        Nothing is sent before the body ends, and nothing at all if it raises.
        `tx.results` has, for each change, the resource as it is after the transaction,
        None where it is deleted. `recorded_at` is for what happened earlier, elsewhere:
        an aware datetime not before that of the last event. With a `lease`, nothing is
        applied once that leadership is given up or another's, whatever this instance
        knows of it; a repeated request id is answered all the same.

        Raises:
            StoreError: what the first change that fails would raise alone.
            ConflictError: the lease is not held any more.
            InvalidError: `recorded_at` would make time run backwards in the log.
        """
        required = () if lease is None else (check_lease(lease),)
        tx = Transaction(self._arguments)
        try:
            yield tx
        finally:
            tx.end()
        if tx.changes:
            command = self._arguments.command(
                tx.changes,
                actor=actor,
                reason=reason,
                request_id=request_id,
                recorded_at=recorded_at,
            )
            records = await self._submit(
                msgspec.structs.replace(
                    command, required=required, shapes=tuple(tx.shapes.items())
                )
            )
            tx.results = [
                None if each is None else self._wrap(each) for each in records
            ]

    @asynccontextmanager
    async def leadership(
        self,
        name: str,
        *,
        ttl: float = 15.0,
        actor: str | None = None,
        reason: str = "",
    ) -> AsyncGenerator[Lease]:
        """Wait until this instance leads, and lead for the body: one of all at a time.

        Taking it, taking it over and giving it up are events of the type `EvstoreLease`.
        A leader whose heartbeat has not been seen for `ttl` seconds, by the database's
        clock, is succeeded. Nobody is promised to come next. Two calls of one instance
        exclude each other, too.

        Where the leadership is lost, the body is cancelled, a little before another
        instance may lead; in a thread of `evstore.blocking` there is only
        `lease.check()`. A process that was stopped may still take a step before it
        notices. So give `lease` to `transaction`, and `lease.fence` to whatever else the
        task changes.

        Args:
            name: as the name of a resource.
            ttl: seconds, 0.1 to 3600. An instance is alive or dead as a whole: of
                several ttls, the shortest counts for all that it leads.
            actor: who leads; the default is that of every write.
            reason: why; it follows what happened in the events' reasons.

        Raises:
            UnavailableError: the leadership was lost in the body, or the store was
                closed. While the log cannot be reached, candidates go on waiting.
            InvalidError: an argument is wrong.
        """
        async with self._leaderships.lead(
            name, ttl=ttl, actor=actor, reason=reason
        ) as lease:
            yield lease

    async def _change(
        self,
        change: Change,
        *,
        actor: str | None,
        reason: str,
        request_id: str | None,
        asked: object = None,
    ) -> Resource[Any]:
        (record,) = await self._submit(
            self._arguments.command(
                [change],
                actor=actor,
                reason=reason,
                request_id=request_id,
                asked=asked,
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
