"""Reverting: the one method of the past that changes the present."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from evstore.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidError,
    NotFoundError,
)
from evstore.model import RESERVED_TYPES, REVERTS, Filter, Key, Operation
from evstore.past.changed import ResourceChange, changed_between, content_of
from evstore.past.history import At, resolve
from evstore.past.revert import OnConflict, Planned, Revert, Undo, plan as make_plan
from evstore.values.diff import same

from .past import Past

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore.commit.arguments import Typed
    from evstore.commit.changes import Change, Command
    from evstore.commit.commands import Repeated
    from evstore.model import Record

_PARTS: Final = ("spec", "status", "labels")


class _Target(msgspec.Struct, frozen=True):
    """What is to be taken back: one transaction, or all that followed a position.

    `after` and `until` bound its events; without `until`, they go on until now.
    """

    where: Filter
    kind: str
    position: int
    after: int
    until: int | None


class Reverting(Past):
    """What a store can take back."""

    async def revert(  # noqa: PLR0913
        self,
        plan: Revert | None = None,
        *,
        commit: int | None = None,
        to: At | None = None,
        type: Typed | None = None,  # noqa: A002
        name: str | None = None,
        mesh: str | None = None,
        on_conflict: OnConflict = "fail",
        dry_run: bool = False,
        actor: str | None = None,
        reason: str = "",
        request_id: str | None = None,
    ) -> Revert:
        """Take back a transaction, or all that happened since a position or a time.

        It is one new transaction; the past stays as it is. Of a transaction, what others
        have changed since stays as well: where that are the same fields, or a resource as
        a whole, or where an owner is missing, there are conflicts. Everything that it
        touches must still be as it was when the plan was made; where it is not, a new
        plan is made, as often as `store.upsert.*` says. The metadata of its events has
        `reverts`: `{"commit": position}` or `{"to": position}`.

        Args:
            plan: exactly this, as a dry run has returned it, instead of all else.
            commit: a position of the transaction.
            to: a position or an aware datetime; resources become what they were then.
            type: only resources of this type.
            name: only resources with this name.
            mesh: only resources of this mesh; None for all.
            on_conflict: "fail" applies nothing; "skip" leaves what is in conflict as it
                is now; "force" overrules, and deletes what a deleted owner owns, too.
            dry_run: only make the plan; its conflicts are no error then.
            actor: who reverts; the default is that of every write.
            reason: why; without one, it says what is reverted.
            request_id: as of every write.

        Raises:
            ConflictError: there are conflicts, what a plan touches has changed since, or
                something changed each time.
            NotFoundError: there never was a resource of that type, mesh and name.
            InvalidError: an argument is wrong, or what was once valid is not any more.
        """
        if plan is not None:
            plan.check()
            command = self._revert_command(
                plan, actor=actor, reason=reason, request_id=request_id
            )
            if dry_run:
                return plan
            try:
                return await self._apply(plan, command)
            except (AlreadyExistsError, NotFoundError) as error:
                raise ConflictError(str(error), key=error.key) from error
        target = await self._target(self._arguments.where(type, mesh, name), commit, to)
        if on_conflict not in get_args(OnConflict):
            message = f"{on_conflict!r} is not allowed; use fail, skip or force"
            raise InvalidError(message, path="on_conflict")
        asked = (
            "revert",
            target.kind,
            target.position,
            msgspec.structs.astuple(target.where),
            on_conflict,
        )
        if dry_run:
            return await self._plan(target, on_conflict)
        known: dict[str, Any] = {
            "actor": actor,
            "reason": reason,
            "request_id": request_id,
            "asked": asked,
        }
        if request_id is not None:
            # What was applied once is answered so, whatever a plan would be now.
            verdict = await self._committer.submit(self._arguments.command([], **known))
            if not isinstance(verdict, list):
                return await self._repeated(verdict)
        return await self._plan_and_apply(target, on_conflict, known)

    async def _plan_and_apply(
        self, target: _Target, on_conflict: OnConflict, known: dict[str, Any]
    ) -> Revert:
        for attempt in count():
            made = await self._plan(target, on_conflict)
            made.check()
            command = self._revert_command(made, **known)
            try:
                return await self._apply(made, command)
            except (ConflictError, AlreadyExistsError, NotFoundError) as error:
                # Without a key, it is the request id that was used for something else.
                retries = self._config.upsert.conflict_retry_max_times
                if error.key is None or attempt >= retries:
                    raise
        raise AssertionError

    async def _target(
        self, where: Filter, commit: int | None, to: At | None
    ) -> _Target:
        if (commit is None) == (to is None):
            raise InvalidError("give either commit or to", path="commit")
        if to is not None:
            place = await resolve(self._log, to)
            await self._check_existed(where)
            return _Target(where, "to", place.position, place.position, None)
        if not isinstance(commit, int) or isinstance(commit, bool) or commit < 1:
            message = f"{commit!r} is no position of a transaction"
            raise InvalidError(message, path="commit")
        end = (await resolve(self._log, commit)).position
        first = end
        floor = self._log.floor.position
        async for chunk in self._log.read(after=floor, until=end, reverse=True):
            own = [each for each in chunk if each.commit == end]
            first = own[-1].position if own else first
            if len(own) < len(chunk):
                break
        return _Target(where, "commit", end, first - 1, end)

    async def _check_existed(self, where: Filter) -> None:
        """Check that a resource that is named has ever been there."""
        if None in (where.type, where.mesh, where.name):
            return
        floor = self._log.floor.position
        if await self._log.latest(where=where, until=floor):
            return
        async for _ in self._log.read(after=floor, where=where, limit=1):
            return
        key = Key(type=where.type or "", mesh=where.mesh or "", name=where.name or "")
        raise NotFoundError(f"{key} never existed", key=key)

    async def _plan(self, target: _Target, on_conflict: OnConflict) -> Revert:
        await self._reach(None, consistent=True)
        until = self.position if target.until is None else target.until
        pairs = await changed_between(
            self._log, target.where, after=target.after, until=until
        )
        # From here to the plan nothing is awaited: it is about one state.
        undos = [
            Undo(
                base=new if target.until is not None else self._now(old, new),
                target=old,
            )
            for old, new in pairs
            if _key_of(old, new).split("/")[0] not in RESERVED_TYPES
        ]
        planned = make_plan(
            undos, self._resources, on_conflict=on_conflict, schemas=self._schemas
        )
        return Revert(
            changes=self._changed(planned),
            conflicts=planned.conflicts,
            reverts={target.kind: target.position},
            on_conflict=on_conflict,
            position=self.position,
        )

    def _now(self, old: Record | None, new: Record | None) -> Record | None:
        return self._resources.get(_key_of(old, new))

    def _changed(self, planned: Planned) -> list[ResourceChange]:
        return [
            ResourceChange(before=self._wrapped(old), after=self._wrapped(new))
            for old, new in planned.changes
        ]

    def _revert_command(
        self,
        plan: Revert,
        *,
        actor: str | None,
        reason: str,
        request_id: str | None,
        asked: object = None,
    ) -> Command:
        ((kind, position),) = plan.reverts.items()
        if not reason:
            reason = (
                f"revert of transaction {position}"
                if kind == "commit"
                else f"return to position {position}"
            )
        command = self._arguments.command(
            [self._change_of(each) for each in plan.changes],
            actor=actor,
            reason=reason,
            request_id=request_id,
            asked=asked,
        )
        shapes = tuple(
            (change.after.record.key, change.after.record.schema_version)
            for change in plan.changes
            if change.after is not None
        )
        return msgspec.structs.replace(command, reverts=(kind, position), shapes=shapes)

    def _change_of(self, change: ResourceChange) -> Change:
        """Return the change that makes a resource what it is planned to be."""
        key, before, after = change.key, change.before, change.after
        if after is None:
            assert before is not None, "only what is there is deleted"
            deletion = self._arguments.delete(
                key.type, key.name, mesh=key.mesh, version=before
            )
            return msgspec.structs.replace(deletion, alone=True)
        wanted = content_of(after.record.body) or {}
        if before is None:
            return self._arguments.create(
                key.type,
                key.name,
                mesh=key.mesh,
                spec=wanted["spec"],
                status=wanted.get("status"),
                labels=wanted.get("labels"),
                owner=after.owner,
            )
        now = content_of(before.record.body) or {}
        parts: dict[str, Any] = {
            part: wanted.get(part, {} if part == "labels" else None)
            for part in _PARTS
            if not same(wanted.get(part), now.get(part))
        }
        return self._arguments.update(before, **parts)

    async def _apply(self, plan: Revert, command: Command) -> Revert:
        if not plan.changes:
            return plan
        verdict = await self._committer.submit(command)
        if not isinstance(verdict, list):
            return await self._repeated(verdict)
        changes = [
            msgspec.structs.replace(change, after=self._wrapped(record))
            for change, record in zip(plan.changes, verdict, strict=True)
        ]
        commit = await self._commit_of(plan.changes, verdict)
        return msgspec.structs.replace(plan, changes=changes, commit=commit)

    async def _commit_of(
        self, changes: Sequence[ResourceChange], records: Sequence[Record | None]
    ) -> int:
        """Return where the transaction ended that made these records."""
        for record in records:
            if record is not None:
                return record.commit
        key = changes[-1].key
        where = Filter(
            type=key.type, mesh=key.mesh, name=key.name, operation=Operation.DELETED
        )
        async for chunk in self._log.read(where=where, reverse=True, limit=1):
            return chunk[0].commit
        raise AssertionError

    async def _repeated(self, verdict: Repeated) -> Revert:
        """Return what a repeated request did when it came first."""
        target = await self._target(Filter(), verdict.commit, None)
        pairs = await changed_between(
            self._log, Filter(), after=target.after, until=verdict.commit
        )
        reverts: dict[str, int] = {}
        async for chunk in self._log.read(after=target.after, limit=1):
            metadata = self._event(chunk[0]).metadata
            reverts = metadata.get(REVERTS, {})
        return Revert(
            changes=self._changed(Planned(pairs, [])),
            conflicts=[],
            reverts=reverts,
            on_conflict="fail",
            position=target.after,
            commit=verdict.commit,
        )


def _key_of(old: Record | None, new: Record | None) -> str:
    found = new or old
    assert found is not None, "something changed"
    return found.key
