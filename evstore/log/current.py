"""A log as a program sees it: bodies in the current shape, all else as it is stored.

Whoever needs the stored bytes uses the log itself: verifying, redacting, exporting,
restoring.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import msgspec

from evstore.errors import CompactedError, SchemaError
from evstore.model import ANY, Filter, Operation
from evstore.redaction import CurrentAnnouncement, announcement_of, covers, redact

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from evstore.model import Head, StoredEvent
    from evstore.schemas import Schemas

    from .contract import Log, Turn
    from .shapes import Base


def current_log(log: Log, schemas: Schemas) -> Log:
    """Return the log whose bodies are in the shape that `schemas` declare.

    Where everything is to stay as it is stored, that is the log itself.
    """
    return log if schemas.as_stored else cast("Log", CurrentLog(log, schemas))


class CurrentLog:
    """A log whose bodies are in the current shape; what has none is the log's own.

    Reading stops with a `SchemaError` before the first event that cannot be handed out:
    what lies before it has been, of `read_on` as whole transactions.

    An announcement of a redaction names fields of the stored body. What follows the log
    to fold it, by `read_on` or `replay`, gets it with what it leaves of the body, where
    that is in another shape (`CurrentAnnouncement`).
    """

    def __init__(self, log: Log, schemas: Schemas) -> None:
        self._stored = log
        self._schemas = schemas

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stored, name)

    async def read(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        where: Filter = ANY,
        reverse: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[list[StoredEvent]]:
        """Yield events in chunks; see the log's contract."""
        chunks = self._stored.read(
            after=after, until=until, where=where, reverse=reverse, limit=limit
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                found, error = self._readable(chunk)
                if found:
                    yield found
                if error is not None:
                    raise error

    async def replay(
        self, *, after: int, until: int
    ) -> AsyncGenerator[list[StoredEvent]]:
        """Yield all events of a range; see the log's contract."""
        gone: dict[int, msgspec.Raw] = {}
        chunk: list[StoredEvent] = []
        while after < until:
            chunks = self._stored.replay(after=after, until=until)
            async with aclosing(chunks):
                async for chunk in chunks:
                    if self._schemas.upcasting and self._unsettled(chunk, gone):
                        break
                    found, error = self._readable(chunk)
                    if found:
                        yield found
                    if error is not None:
                        raise error
                else:
                    return
            # Looked up when the replay has let go of its connection: there may be no
            # other. It is as good as never: only where a redaction is not done yet.
            found, error = self._readable(chunk)
            yield await self._settled(found)
            if error is not None:
                raise error
            after = chunk[-1].position

    async def read_on(self, after: Head) -> list[StoredEvent]:
        """Return whole transactions after a place; see the log's contract."""
        return await self.whole(await self._stored.read_on(after))

    @asynccontextmanager
    async def turn(self, after: Head) -> AsyncGenerator[_CurrentTurn]:
        """Wait for the right to append next; see the log's contract."""
        async with self._stored.turn(after) as turn:
            yield _CurrentTurn(self, turn, await self.whole(turn.following))

    async def base(self) -> Base | None:
        """Return what is certified at the floor, with bodies in the current shape."""
        base = await self._stored.base()
        if base is None:
            return None
        return msgspec.structs.replace(base, events=self._schemas.current(base.events))

    async def latest(self, *, where: Filter, until: int) -> list[StoredEvent]:
        """Return the last event of each key; see the log's contract."""
        return self._schemas.current(
            await self._stored.latest(where=where, until=until)
        )

    async def previous(
        self, places: Sequence[tuple[str, int]]
    ) -> list[StoredEvent | None]:
        """Return the last event of each key before a position; see the contract."""
        return [
            None if event is None else self._schemas.current([event])[0]
            for event in await self._stored.previous(places)
        ]

    async def pick(self, positions: Sequence[int]) -> list[StoredEvent]:
        """Return the events at some positions; see the log's contract."""
        return self._schemas.current(await self._stored.pick(positions))

    def _readable(
        self, events: list[StoredEvent]
    ) -> tuple[list[StoredEvent], SchemaError | None]:
        """Return events in the current shape up to one that cannot be, and why."""
        try:
            return self._schemas.current(events), None
        except SchemaError as error:
            positions = [event.position for event in events]
            good = events[: positions.index(cast("int", error.position))]
            return self._schemas.current(good), error

    async def whole(self, events: list[StoredEvent]) -> list[StoredEvent]:
        """Return whole transactions in the current shape, up to one that cannot be.

        Raises:
            SchemaError: that is the first.
        """
        while True:
            try:
                return await self._settled(self._schemas.current(events))
            except SchemaError as error:
                bad = next(each for each in events if each.position == error.position)
                events = [each for each in events if each.commit < bad.commit]
                if not events:
                    raise

    def _unsettled(
        self, events: list[StoredEvent], gone: dict[int, msgspec.Raw]
    ) -> bool:
        """Whether something is announced here that was not gone when it was read.

        `gone` are bodies without what was, by position; these events' are added to it.
        """
        found = False
        for event in events:
            if event.body_digest is not None:
                gone[event.position] = event.body
            announced = announcement_of(event)
            if announced is not None:
                body = gone.get(announced.position)
                found = found or body is None or not covers(body, announced.fields)
        return found

    async def _settled(self, events: list[StoredEvent]) -> list[StoredEvent]:
        """Return events, announcements with what they leave of bodies of other shapes."""
        if not self._schemas.upcasting:
            return events
        found = list(events)
        for index, event in enumerate(events):
            if event.operation is Operation.REDACTED:
                found[index] = await self._settle(event)
        return found

    async def _settle(self, event: StoredEvent) -> StoredEvent:
        announced = announcement_of(event)
        assert announced is not None, "the caller has looked"
        for stored in await self._picked(announced.position):
            if not self._schemas.is_old(stored):
                break
            fields = await self._announced(event, stored)
            left = msgspec.structs.replace(
                stored, body=msgspec.Raw(redact(stored.body, fields))
            )
            try:
                body = self._schemas.body(left)
            except SchemaError as error:
                # It cannot be folded here, and not where the body was stored.
                raise SchemaError(str(error), position=event.position) from error
            known = msgspec.structs.asdict(event)
            return CurrentAnnouncement(**known, left=msgspec.Raw(body))
        return event

    async def _picked(self, position: int) -> list[StoredEvent]:
        """Return the event at a position, if it is there."""
        try:
            return await self._stored.pick([position])
        except CompactedError:
            return []  # what was announced to go is gone with it

    async def _announced(self, event: StoredEvent, stored: StoredEvent) -> list[str]:
        """Return the parts of a body that have been announced to go, this one's last.

        Others may have been announced and not done: each leaves what all before it left.
        """
        type_, mesh, name = event.key.split("/")
        where = Filter(type=type_, mesh=mesh, name=name, operation=Operation.REDACTED)
        fields: list[str] = []
        # What was announced up to the floor was done before the log was compacted.
        after = max(stored.position, self._stored.floor.position)
        chunks = self._stored.read(after=after, until=event.position, where=where)
        async with aclosing(chunks):
            async for chunk in chunks:
                for each in map(announcement_of, chunk):
                    if each is not None and each.position == stored.position:
                        fields += each.fields
        return fields


class _CurrentTurn:
    """The right to append next, with what follows in the current shape."""

    def __init__(
        self, log: CurrentLog, turn: Turn, following: list[StoredEvent]
    ) -> None:
        self.following = following
        self._log = log
        self._turn = turn

    async def read_on(self, after: Head) -> list[StoredEvent]:
        return await self._log.whole(await self._turn.read_on(after))

    async def append(self, events: list[StoredEvent], *, after: Head) -> None:
        await self._turn.append(events, after=after)
