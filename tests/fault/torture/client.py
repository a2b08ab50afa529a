"""A client that writes down what it asks a store for, and what it is told."""

from __future__ import annotations

from contextlib import aclosing, nullcontext
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import anyio

import evstore
from evstore import Bookmark
from evstore.clock import boot_microseconds
from evstore.errors import (
    AlreadyExistsError,
    CompactedError,
    ConflictError,
    DivergedError,
    NotFoundError,
    OutcomeUnknownError,
    StoreError,
    UnavailableError,
)
from evstore.model import ANY, Key

from .records import (
    CREATE,
    DELETE,
    UPDATE,
    UPSERT,
    Asked,
    Change,
    Ended,
    Folded,
    Got,
    Marked,
    Reading,
    Refused,
    Seen,
    Told,
    Unknown,
    Watching,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from contextlib import AbstractContextManager

    from evstore import Event, Resource, Store
    from evstore.model import Filter

    from .records import Record

    Call = Callable[[Mapping[str, Any]], Awaitable[list[int | None] | None]]

PAUSE_SECONDS: Final = 0.05
SLOW_EVERY: Final = 500


class Client:
    """Writes to a store and reads from it; every call is recorded before and after.

    A write with a request id that ends without an outcome, or cannot reach the log, is
    asked for again under the same id until it has one, `attempts` times at most, and
    not once it is `over`.
    """

    def __init__(
        self, store: Store, record: Callable[[Record], None], *, session: str
    ) -> None:
        self.store = store
        self.record = record
        self.session = session
        self.over = False
        self._ids = count(1)

    def token(self) -> str:
        """Return a token for the next write."""
        return f"{self.session}-{next(self._ids)}"

    # Writes.

    async def create(self, key: Key, **how: Any) -> bool:
        """Create a resource."""

        async def call(who: Mapping[str, Any]) -> list[int | None]:
            made = await self.store.create(
                key.type, key.name, mesh=key.mesh, spec={"token": who["reason"]}, **who
            )
            return [made.version]

        return await self._write([Change(CREATE, key.text)], call, **how)

    async def update(self, target: Resource[Any] | Key, **how: Any) -> bool:
        """Update a resource: compare-and-set, or by its key whatever is there."""

        async def call(who: Mapping[str, Any]) -> list[int | None]:
            spec = {"token": who["reason"]}
            return [(await self.store.update(target, spec=spec, **who)).version]

        return await self._write([_update(target)], call, **how)

    async def upsert(self, key: Key, **how: Any) -> bool:
        """Create or update a resource; the spec says which version was there before."""

        async def call(who: Mapping[str, Any]) -> list[int | None]:
            def change(current: Resource[Any] | None) -> dict[str, Any]:
                base = None if current is None else current.version
                return {"token": who["reason"], "base": base}

            made = await self.store.upsert(
                key.type, key.name, mesh=key.mesh, change=change, **who
            )
            return [made.version]

        return await self._write([Change(UPSERT, key.text)], call, **how)

    async def delete(self, key: Key, *, version: int | None = None, **how: Any) -> bool:
        """Delete a resource."""

        async def call(who: Mapping[str, Any]) -> None:
            await self.store.delete(
                key.type, key.name, mesh=key.mesh, version=version, **who
            )

        return await self._write([Change(DELETE, key.text, version)], call, **how)

    async def transact(
        self, targets: list[Resource[Any]], fresh: Key, **how: Any
    ) -> bool:
        """Update several resources and create one, all or nothing."""

        async def call(who: Mapping[str, Any]) -> list[int | None]:
            spec = {"token": who["reason"]}
            async with self.store.transaction(**who) as tx:
                for target in targets:
                    tx.update(target, spec=spec)
                tx.create(fresh.type, fresh.name, mesh=fresh.mesh, spec=spec)
            return [None if each is None else each.version for each in tx.results]

        changes = [*map(_update, targets), Change(CREATE, fresh.text)]
        return await self._write(changes, call, **how)

    async def _write(
        self,
        changes: list[Change],
        call: Call,
        *,
        request: bool = True,
        token: str | None = None,
        attempts: int = 20,
        patience: float | None = None,
    ) -> bool:
        """Return whether the write was acknowledged."""
        token = token or self.token()
        who = {"actor": self.session, "reason": token}
        if request:
            who["request_id"] = token
        for _ in range(attempts if request else 1):
            id_ = next(self._ids)
            self.record(
                Asked(id=id_, at=_now(), token=token, changes=changes, request=request)
            )
            outcome = await self._outcome(id_, call, who, patience)
            self.record(outcome)
            if isinstance(outcome, Told):
                return True
            if isinstance(outcome, Refused) and outcome.error != _UNAVAILABLE:
                return False
            if self.over:
                return False
            patience = None
            await anyio.sleep(PAUSE_SECONDS)
        return False

    async def _outcome(
        self, id_: int, call: Call, who: Mapping[str, Any], patience: float | None
    ) -> Told | Refused | Unknown:
        patient: AbstractContextManager[object] = (
            nullcontext() if patience is None else anyio.fail_after(patience)
        )
        try:
            with patient:
                versions = await call(who)
        except OutcomeUnknownError as error:
            return Unknown(id=id_, at=_now(), why=_name(error))
        except StoreError as error:
            return _refused(id_, error)
        except TimeoutError:
            return Unknown(id=id_, at=_now(), why="its caller went away")
        return Told(id=id_, at=_now(), versions=versions)

    # Reads.

    def fold(self) -> None:
        """Record what the store has folded the log to."""
        digest = self.store.digest().hex()
        self.record(Folded(position=self.store.position, digest=digest))

    async def get(self, key: Key, *, consistent: bool = False) -> Resource[Any] | None:
        """Return a resource; None where there is none, or nobody knows."""
        id_ = next(self._ids)
        self.record(Reading(id=id_, at=_now(), key=key.text, consistent=consistent))
        try:
            found = await self.store.get(
                key.type, key.name, mesh=key.mesh, consistent=consistent
            )
        except NotFoundError:
            found = None
        except StoreError:
            return None
        self.record(
            Got(id=id_, at=_now(), version=None if found is None else found.version)
        )
        return found


class Watcher:
    """Follows a store, and goes on after whatever ends a watch.

    `place` is where it stands: what was given up to there is recorded. It goes on from
    positions or, with `marks`, from bookmarks, and asks for these. Without a place it
    begins with everything that exists. It takes `slow_seconds` over some
    events.
    """

    def __init__(  # noqa: PLR0913
        self,
        store: Store,
        record: Callable[[Record], None],
        *,
        name: str,
        place: int | Bookmark | None = 0,
        where: Filter = ANY,
        marks: bool = False,
        slow_seconds: float = 0.0,
    ) -> None:
        self._store = store
        self._record = record
        self._name = name
        self._where = where
        self._marks = marks
        self.slow_seconds = slow_seconds
        self.place = place

    async def follow(self, until: Callable[[Event], bool]) -> None:
        """Follow until an event that was waited for has come."""
        lost = False
        while True:
            try:
                if lost:
                    await self._list()
                    lost = False
                if await self.watch(until):
                    return
            except (DivergedError, CompactedError):
                lost = True
            except StoreError:
                pass
            await anyio.sleep(PAUSE_SECONDS)

    async def watch(self, until: Callable[[Event], bool]) -> bool:
        """Watch once, from where it stands; return whether what was waited for came."""
        try:
            async with aclosing(self._begin()) as given:
                async for each in given:
                    if isinstance(each, Bookmark):
                        self._marked(each)
                        continue
                    self._seen(each)
                    if until(each):
                        return True
                    if self.slow_seconds and not each.position % SLOW_EVERY:
                        await anyio.sleep(self.slow_seconds)
        except StoreError as error:
            self.end(_name(error))
            raise
        self.end()
        return False

    def end(self, error: str = "") -> None:
        """Record that the watch has ended; without an error, that nothing is missing."""
        self._record(Ended(watcher=self._name, at=_now(), error=error))

    def _begin(self) -> AsyncGenerator[Event | Bookmark]:
        where, initial = self._where, self.place is None
        self._record(
            Watching(
                watcher=self._name,
                at=_now(),
                after=_position(self.place),
                initial=initial,
                where=where,
            )
        )
        return self._store.watch(
            type=where.type,
            mesh=where.mesh,
            name=where.name,
            after=self.place,
            initial=initial,
            bookmarks=self._marks,
        )

    def _seen(self, event: Event) -> None:
        # What exists comes in no order that one could go on in, until its bookmark.
        if self.place is not None:
            self.place = event.bookmark if self._marks else event.position
        self._record(
            Seen(
                watcher=self._name,
                position=event.position,
                commit=event.commit,
                key=event.key.text,
                operation=event.operation.value,
                hash=event.hash.hex(),
            )
        )

    def _marked(self, bookmark: Bookmark) -> None:
        self.place = bookmark if self._marks else bookmark.position
        self._record(
            Marked(
                watcher=self._name,
                position=bookmark.position,
                hash=bookmark.hash.hex(),
            )
        )

    async def _list(self) -> None:
        """Begin again from a listing, as a client must where it cannot go on."""
        page = await self._store.list(self._where.type or "Mesh", consistent=True)
        self.place = page.position


def _now() -> int:
    return boot_microseconds()


def _position(place: int | Bookmark | None) -> int:
    if isinstance(place, Bookmark):
        return place.position
    return place or 0


def _name(error: StoreError) -> str:
    """Return the public error that it is, which may be one of its bases."""
    bases = (each.__name__ for each in type(error).__mro__)
    return next(name for name in bases if name in evstore.__all__)


_UNAVAILABLE: Final = UnavailableError.__name__


def _update(target: Resource[Any] | Key) -> Change:
    if isinstance(target, Key):
        return Change(UPDATE, target.text)
    return Change(UPDATE, target.key.text, target.version)


def _refused(id_: int, error: StoreError) -> Refused:
    key, actual = None, None
    match error:
        case ConflictError():
            key, actual = error.key, error.actual
        case AlreadyExistsError():
            key, actual = error.key, error.version
        case NotFoundError():
            key = error.key
        case _:
            pass
    return Refused(
        id=id_,
        at=_now(),
        error=_name(error),
        key=None if key is None else key.text,
        actual=actual,
    )
