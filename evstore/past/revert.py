"""Taking changes back: what would have to change now, and what stands in the way. Pure.

A plan is made against the state of now. Of each resource, `base` is what the changes to be
taken back made of it, `target` what it was before them. What others have changed since
stays, unless it is the same fields: those are conflicts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from evstore.codec import body_text, canonical
from evstore.errors import ConflictError
from evstore.folds.resources import owner_of
from evstore.model import Key, Record
from evstore.redaction import MARK, marks
from evstore.schemas import AS_STORED
from evstore.values.diff import differences, same
from evstore.values.merge import Clash, merge

from .changed import ResourceChange, content_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evstore.folds.resources import State
    from evstore.schemas import Schemas

OnConflict = Literal["fail", "skip", "force"]

_CONFLICTS_NAMED_MAX: Final = 5


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was changed since, or that keeps a resource from being put back.

    `path` is a JSON pointer, "" for the resource as a whole. `base` is the value that is
    to be taken back, `ours` the one that a revert would put there, `theirs` the one of
    now; each is UNSET where there was, would be or is nothing. What is not `forcible`
    cannot be overruled.
    """

    key: Key
    path: str
    message: str
    base: Any = msgspec.UNSET
    ours: Any = msgspec.UNSET
    theirs: Any = msgspec.UNSET
    forcible: bool = True

    def __repr__(self) -> str:
        # The values stay out: they may be secrets, and reprs end up in logs.
        return f"Conflict({self})"

    def __str__(self) -> str:
        return f"{self.key}{self.path and ' '}{self.path}: {self.message}"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("key", self.key), ("path", self.path), ("message", self.message)]


class Revert(msgspec.Struct, frozen=True, kw_only=True):
    """What a revert would change or has changed, and the conflicts that it met.

    `reverts` is what it takes back: `{"commit": position}` for one transaction,
    `{"to": position}` for all that happened since. `position` is that of the state which
    it was planned against. `commit` is that of the new transaction; None where nothing was
    applied, be it that it was a dry run or that nothing was left to change.
    """

    changes: list[ResourceChange]
    conflicts: list[Conflict]
    reverts: dict[str, int]
    on_conflict: OnConflict
    position: int
    commit: int | None = None

    @property
    def standing(self) -> list[Conflict]:
        """The conflicts that keep it from being applied."""
        match self.on_conflict:
            case "fail":
                return self.conflicts
            case "force":
                return [each for each in self.conflicts if not each.forcible]
            case "skip":
                return []

    def check(self) -> None:
        """Check that nothing stands in the way.

        Raises:
            ConflictError: something does; the message names the first few.
        """
        standing = self.standing
        if not standing:
            return
        named = [str(each) for each in standing[:_CONFLICTS_NAMED_MAX]]
        more = len(standing) - len(named)
        if more:
            named.append(f"and {more} more")
        message = f"nothing was reverted; in the way: {'; '.join(named)}"
        raise ConflictError(message)


class Undo(msgspec.Struct, frozen=True, kw_only=True):
    """A resource as the changes to be taken back left it, and as it was before them."""

    base: Record | None
    target: Record | None

    @property
    def key(self) -> str:
        """The key of the resource."""
        found = self.base or self.target
        assert found is not None, "there was something to change"
        return found.key


class Planned(msgspec.Struct, frozen=True):
    """What a plan comes to."""

    changes: list[tuple[Record | None, Record | None]]
    conflicts: list[Conflict]


def plan(
    undos: Iterable[Undo],
    state: State,
    *,
    on_conflict: OnConflict,
    schemas: Schemas = AS_STORED,
) -> Planned:
    """Return what to change now, in an order in which it can be done.

    Owners are created before what they own, and deleted after it. `schemas` tell the
    shape of a record: contents of different shapes are never merged.
    """
    planning = _Planning(state, schemas, force=on_conflict == "force")
    for undo in undos:
        planning.take_back(undo)
    planning.settle()
    return Planned(planning.ordered(), planning.conflicts)


class _Planning:
    def __init__(self, state: State, schemas: Schemas, *, force: bool) -> None:
        self._state = state
        self._schemas = schemas
        self._force = force
        # By key: the resource as it will be, None for one that is to go.
        self._wanted: dict[str, Record | None] = {}
        self.conflicts: list[Conflict] = []

    def take_back(self, undo: Undo) -> None:
        base, target = undo.base, undo.target
        current = self._state.get(undo.key)
        if _same(target, current) or _same(base, target):
            return
        if target is not None:
            self._put_back(base, target, current)
        elif self._unchanged(base, current, "has been changed since it was created"):
            self._wanted[undo.key] = None

    def _put_back(
        self, base: Record | None, target: Record, current: Record | None
    ) -> None:
        if current is None:
            if self._unchanged(base, None, "has been deleted since", target):
                self._want(self._as(target, target, like=None), target)
        elif base is None:
            if self._unchanged(
                None, current, "has been created again since", target
            ) and self._same_owner(None, target, current):
                self._want(self._as(current, target, like=current), target)
        elif self._same_owner(base, target, current):
            if len({self._shape(each) for each in (base, target, current)}) == 1:
                self._merge(base, target, current)
            elif self._unchanged(
                base, current, "has been changed since, in another shape", target
            ):
                self._want(self._as(current, target, like=current), target)

    def _shape(self, record: Record) -> int:
        return self._schemas.shape_of(record.key, record.schema_version)

    def _as(self, owned: Record, target: Record, *, like: Record | None) -> Record:
        """Return a record with the content of `target`, and the owner of `owned`."""
        return _planned(owned, _content(target), like=like, shape=self._shape(target))

    def _unchanged(
        self,
        base: Record | None,
        current: Record | None,
        message: str,
        target: Record | None = None,
    ) -> bool:
        """Whether a resource as a whole can be put back; if not as it was, a conflict."""
        if _same(base, current):
            return True
        found = current or base
        assert found is not None, "one of them is there"
        self._conflict(
            found.key,
            message,
            base=_value(base),
            ours=_value(target),
            theirs=_value(current),
        )
        return self._force

    def _same_owner(self, base: Record | None, target: Record, current: Record) -> bool:
        wanted = owner_of(target.body)
        before = None if base is None else owner_of(base.body)
        now = owner_of(current.body)
        if wanted == now or (base is not None and wanted == before):
            return True
        self._conflict(
            current.key,
            "an owner cannot be changed; delete the resource first",
            path="/owner",
            ours=_content(target).get("owner", msgspec.UNSET),
            theirs=_content(current).get("owner", msgspec.UNSET),
            forcible=False,
        )
        return False

    def _merge(self, base: Record, target: Record, current: Record) -> None:
        clashes: list[Clash] = []
        contents = [_content(each) for each in (base, target, current)]
        for content in contents:
            content.pop("owner", None)
        merged = merge(*contents, clashes=clashes, force=self._force)
        for clash in clashes:
            self._conflict(
                current.key,
                "has been changed since",
                path=clash.path,
                base=clash.base,
                ours=clash.wanted,
                theirs=clash.current,
            )
        shape = self._shape(current)
        self._want(_planned(current, merged, like=current, shape=shape), target)

    def _want(self, record: Record, target: Record) -> None:
        """Have a resource as planned, unless that would take a mark for a value."""
        current = self._state.get(record.key)
        lost = _redacted(record, current, target) if marks(target.body) else []
        for field in lost:
            self._conflict(
                record.key,
                "has been redacted and cannot be restored",
                path=field,
                forcible=False,
            )
        if not lost and not _same(record, current):
            self._wanted[record.key] = record

    def settle(self) -> None:
        """Leave out what its owner or its children do not allow, until all fits."""
        fits = False
        while not fits:
            fits = all([self._settle_deletions(), self._settle_creations()])

    def _settle_deletions(self) -> bool:
        """Whether nothing that is to go owns what stays; with force, all of it goes."""
        fits = True
        for key, record in list(self._wanted.items()):
            if record is not None:
                continue
            staying = [
                child
                for child in sorted(self._state.children(key))
                if self._wanted.get(child, child) is not None
            ]
            if not staying:
                continue
            fits = False
            more = f" and {len(staying) - 1} more" if len(staying) > 1 else ""
            self._conflict(key, f"owns {Key.from_text(staying[0])}{more}")
            if self._force:
                self._wanted.update(dict.fromkeys(staying))
            else:
                del self._wanted[key]
        return fits

    def _settle_creations(self) -> bool:
        """Whether everything that is to be created has its owner."""
        fits = True
        for key, record in list(self._wanted.items()):
            if record is None or self._state.get(key) is not None:
                continue
            owner = owner_of(record.body)
            if owner is None or self._will_be(owner):
                continue
            fits = False
            message = f"its owner {Key.from_text(owner)} is not there"
            self._conflict(key, message, ours=_value(record), forcible=False)
            del self._wanted[key]
        return fits

    def _will_be(self, key: str) -> bool:
        return self._wanted.get(key, self._state.get(key)) is not None

    def ordered(self) -> list[tuple[Record | None, Record | None]]:
        """Return each resource as it is and as it will be, in a possible order."""
        created: list[Record] = []
        updated: list[Record] = []
        deleted: list[Record] = []
        for key in sorted(self._wanted, key=lambda text: text.split("/")):
            record, current = self._wanted[key], self._state.get(key)
            if record is None:
                assert current is not None, "only what is there is deleted"
                deleted.append(current)
            else:
                (updated if current else created).append(record)
        return [
            *((None, record) for record in owners_first(created)),
            *((self._state.get(record.key), record) for record in updated),
            *((record, None) for record in reversed(owners_first(deleted))),
        ]

    def _conflict(self, key: str, message: str, *, path: str = "", **more: Any) -> None:
        conflict = Conflict(key=Key.from_text(key), path=path, message=message, **more)
        self.conflicts.append(conflict)


def owners_first(records: Sequence[Record]) -> list[Record]:
    """Return records so that none stands before its owner."""
    waiting = {record.key: record for record in records}
    found: list[Record] = []
    for first in records:
        chain: list[Record] = []
        record = waiting.pop(first.key, None)
        while record is not None:
            chain.append(record)
            owner = owner_of(record.body)
            record = None if owner is None else waiting.pop(owner, None)
        found += reversed(chain)
    return found


def _redacted(record: Record, current: Record | None, target: Record) -> list[str]:
    """Return where a planned record would take from its target what is not there any more.

    Marks are found leaf by leaf: an element of a list may have moved since.
    """
    now, planned = (
        {} if each is None else _content(each) for each in (current, record)
    )
    found = [each.path for each in differences(now, planned) if each.new == MARK]
    gone = marks(target.body)
    found += [
        f"/{part}"
        for part in ("spec", "labels", "status")
        if f"/{part}" in gone
        and (
            current is None
            or not same(now.get(part, msgspec.UNSET), planned.get(part, msgspec.UNSET))
        )
    ]
    return found


def _content(record: Record) -> dict[str, Any]:
    found = content_of(record.body)
    assert found is not None, "a record has a body"
    return found


def _value(record: Record | None) -> Any:
    return msgspec.UNSET if record is None else _content(record)


def _same(one: Record | None, other: Record | None) -> bool:
    if one is not None and other is not None and one.body == other.body:
        return True
    return same(_value(one), _value(other))


def _planned(
    target: Record, content: dict[str, Any], *, like: Record | None, shape: int
) -> Record:
    """Return the record that will be: content as given, owner as in `target`."""
    owner = _content(target).get("owner")
    body = body_text(
        canonical(content.get("labels", {}), "labels"),
        canonical(owner, "owner"),
        canonical(content.get("spec"), "spec"),
        canonical(content.get("status"), "status"),
    )
    return Record(
        target.key,
        0,
        0,
        like.created_version if like else 0,
        like.created_time if like else 0,
        0,
        body,
        b"",
        b"",
        shape,
    )
