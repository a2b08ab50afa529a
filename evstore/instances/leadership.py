"""Leadership: one instance at a time runs a task, and the log tells which and when.

A leadership is a resource of a reserved type, the lease. Taking it, taking it over and
giving it up are events like any other, appended by compare-and-set, so that of two
candidates one wins. Its version, the position of the event that made somebody the
holder, is the fence: it only grows, and a transaction can require it. Renewals are the
instance's heartbeats, judged by the log's clock, and leave the log as it is.

Nobody takes a lease over from an instance whose heartbeat is there. Whoever takes over
has the heartbeat expired first, and an instance that finds its own gone never beats
under that id again: it has lost what it held, whatever it thinks.
"""

from __future__ import annotations

import functools
import random
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

import anyio
import msgspec

from evstore.codec import canonical
from evstore.commit.changes import Change, Command, Create, Delete, Precondition, Update
from evstore.errors import (
    AlreadyExistsError,
    ConflictError,
    DivergedError,
    InvalidError,
    NotFoundError,
    OutcomeUnknownError,
    SchemaError,
    StoreError,
    UnavailableError,
)

from .lease import Lease, Tenure, exactly, holder_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup

    from evstore.commit.arguments import Arguments
    from evstore.commit.committer import Committer
    from evstore.log import Log
    from evstore.model import Key, Record
    from evstore.watching.tail import Tail

    from .instance import Presence

TTL_SECONDS_MIN: Final = 0.1
TTL_SECONDS_MAX: Final = 3600.0
GIVE_UP_SECONDS: Final = 2.0
RETRY_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
JITTER_SECONDS_MAX: Final = 0.25
# How often in a ttl a holder looks at the clock: one that has been suspended wakes late.
LOOKS_PER_TTL: Final = 10


@dataclass(eq=False)
class _Seat:
    """One call of `leadership`: a candidate first, then perhaps the holder.

    `unsure` while nobody knows whether a taking of it is in the log, or will be.
    """

    key: Key
    ttl: float
    command: Command
    token: UUID = field(default_factory=uuid4)
    tenure: Tenure | None = None
    seen: Record | None = None
    unsure: bool = False
    stirred: anyio.Event = field(default_factory=anyio.Event)
    over: anyio.Event = field(default_factory=anyio.Event)
    gone: anyio.Event = field(default_factory=anyio.Event)

    def asks(self, change: Change, what: str) -> Command:
        """Return the command that makes a change of the lease, and says why."""
        own = self.command.reason
        reason = f"{what}: {own}" if own else what
        return msgspec.structs.replace(self.command, changes=(change,), reason=reason)


class Leaderships:
    """The leaderships that this instance has, or waits for."""

    def __init__(
        self,
        log: Log,
        committer: Committer,
        tail: Tail,
        arguments: Arguments,
        *,
        presence: Presence,
        tasks: TaskGroup,
    ) -> None:
        self._log = log
        self._committer = committer
        self._tail = tail
        self._arguments = arguments
        self._presence = presence
        self._tasks = tasks
        self._seats: set[_Seat] = set()
        self._taken = anyio.Event()
        self._closing = False
        self._closed = False

    @asynccontextmanager
    async def lead(
        self, name: str, *, ttl: float, actor: str | None, reason: str
    ) -> AsyncGenerator[Lease]:
        """Wait for a leadership and hold it for the body; see `Store.leadership`."""
        seat = _Seat(
            key=self._arguments.lease_key(name),
            ttl=_checked(ttl),
            command=self._arguments.command(
                [], actor=actor, reason=reason, request_id=None
            ),
        )
        self._committer.check_open()
        self._seats.add(seat)
        self._taken.set()
        try:
            tenure = await self._wait_for(seat)
            lease = Lease(
                name, tenure.record, why_lost=functools.partial(self._why_lost, tenure)
            )
            with tenure.scope:
                self._tasks.start_soon(self._guard, seat, tenure)
                yield lease
            lease.check()
        finally:
            seat.over.set()
            if self._closed:
                self._seats.discard(seat)
            else:
                # In a task of the store, which no caller can cancel.
                self._tasks.start_soon(self._leave, seat)
                with anyio.move_on_after(GIVE_UP_SECONDS, shield=True):
                    await seat.gone.wait()

    async def run(self) -> None:
        """Tell holders and candidates what happens to their leases."""
        while True:
            if not self._seats:
                self._taken = anyio.Event()
                await self._taken.wait()
            for seat in self._seats:
                if seat.tenure is not None:
                    why = self._why_lost(seat.tenure)
                    if why:
                        seat.tenure.lose(why)
                elif self._record(seat) is not seat.seen:
                    seat.stirred.set()
            await self._tail.changed()

    async def aclose(self) -> None:
        """End all bodies and give their leases up, in bounded time."""
        self._closing = True
        with anyio.move_on_after(GIVE_UP_SECONDS):
            for seat in [*self._seats]:
                seat.stirred.set()
                if seat.tenure is not None:
                    seat.tenure.lose("the store was closed")
            for seat in [*self._seats]:
                await seat.gone.wait()
        self._closed = True

    # Waiting and taking.

    async def _wait_for(self, seat: _Seat) -> Tenure:
        failures = 0
        while True:
            if self._closing:
                message = "the store is closed"
                raise UnavailableError(message)
            seat.stirred = anyio.Event()
            try:
                pause = await self._try(seat)
                failures = 0
            except (UnavailableError, DivergedError):
                failures += 1
                pause = _pause_after(failures)
            if seat.tenure is not None and not self._closing:
                return seat.tenure
            with anyio.move_on_after(pause):
                await seat.stirred.wait()

    async def _try(self, seat: _Seat) -> float:
        """Take the lease if nobody alive has it; else return after what pause to try."""
        seat.seen = record = self._record(seat)
        if record is None:
            return await self._take(seat, None, "taken")
        holder = holder_of(record)
        if holder.token == seat.token:
            # Taken by a command whose answer was lost.
            await self._presence.stand(seat.token, seat.ttl)
            return await self._sit(seat, record)
        left = await self._log.expire(holder.instance, seconds=holder.ttl)
        if left > 0:
            # Not all candidates at once, and the holder may have been seen since.
            jitter = random.uniform(0, min(holder.ttl / 10, JITTER_SECONDS_MAX))  # noqa: S311
            return left + jitter
        return await self._take(
            seat,
            record,
            f"taken over from {holder.instance}, not seen for {holder.ttl:g} s",
        )

    async def _take(self, seat: _Seat, before: Record | None, what: str) -> float:
        # First seen, then known as the holder: others expire who has no heartbeat.
        instance = await self._presence.stand(seat.token, seat.ttl)
        spec = canonical(
            {
                "actor": seat.command.actor,
                "instance": str(instance),
                "token": str(seat.token),
                "ttl": seat.ttl,
            },
            "spec",
        )
        key = seat.key.text
        change: Change
        if before is None:
            change = Create(key=key, spec=spec)
        else:
            change = Update(key=key, precondition=exactly(before), spec=spec)
        was_unsure, seat.unsure = seat.unsure, True
        try:
            verdict = await self._committer.submit(seat.asks(change, what))
        except (AlreadyExistsError, ConflictError, NotFoundError):
            # Another was faster, and the state knows it by now. Commands are decided in
            # order: one of before that had no answer is in the state as well, if at all.
            self._remains_candidate(seat)
            return 0.0
        except OutcomeUnknownError:
            raise
        except StoreError:
            # This one was not applied.
            if not was_unsure:
                self._remains_candidate(seat)
            raise
        seat.unsure = False
        assert isinstance(verdict, list), "the command has no request id"
        (record,) = verdict
        assert record is not None, "what was taken is there"
        return await self._sit(seat, record)

    def _remains_candidate(self, seat: _Seat) -> None:
        seat.unsure = False
        self._presence.leave(seat.token, held=False)

    async def _sit(self, seat: _Seat, record: Record) -> float:
        tenure = Tenure(record, holder_of(record))
        if self._why_lost(tenure):
            # It took so long that others may have it by now: once more from the start.
            await self._remove(seat)
        else:
            seat.tenure = tenure
        return 0.0

    # Holding.

    async def _guard(self, seat: _Seat, tenure: Tenure) -> None:
        """Cancel the body before another instance may take the lease over."""
        look = seat.ttl / LOOKS_PER_TTL
        while not seat.over.is_set():
            why = self._why_lost(tenure)
            if why:
                tenure.lose(why)
                return
            left = self._presence.seconds_left(tenure.holder.instance)
            with anyio.move_on_after(min(left, look)):
                await seat.over.wait()

    def _why_lost(self, tenure: Tenure) -> str:
        """Return why a lease is lost; "" while it is held."""
        if tenure.lost:
            return tenure.lost
        if self._committer.blocked is not None:
            return f"what follows in the log cannot be read: {self._committer.blocked}"
        return self._why_taken(tenure)

    def _why_taken(self, tenure: Tenure) -> str:
        """Return why a lease is, or may be, another's by now; "" where it is not."""
        record = self._committer.projections.resources.get(tenure.record.key)
        if record is None:
            return "its lease is not in the log any more"
        if not exactly(tenure.record).holds(record):
            holder = holder_of(record)
            by = f" for {holder.actor}" if holder.actor else ""
            return f"instance {holder.instance} took it over{by}"
        if self._presence.seconds_left(tenure.holder.instance):
            return ""
        if self._presence.id != tenure.holder.instance:
            return "others took this instance for dead"
        return f"no heartbeat could be recorded in its ttl, {tenure.holder.ttl:g} s"

    # Giving up.

    async def _leave(self, seat: _Seat) -> None:
        """Give up whatever this seat has in the log, however long it takes.

        This instance may be seen for long: what it holds without knowing would never
        be anybody else's.
        """
        failures = 0
        try:
            while not await self._removed(seat):
                failures += 1
                await anyio.sleep(_pause_after(failures))
        finally:
            self._presence.leave(seat.token, held=True)
            self._seats.discard(seat)
            seat.gone.set()

    async def _removed(self, seat: _Seat) -> bool:
        try:
            await self._remove(seat)
        except SchemaError:
            # We cannot append any more: let it go as from one who is dead.
            self._presence.resign()
            return True
        except StoreError:
            return self._closed
        return True

    async def _remove(self, seat: _Seat) -> None:
        if seat.unsure:
            # Commands are decided in order: once this one, which can never succeed, has
            # its answer, the one before it is in the log or never will be.
            never = Delete(key=seat.key.text, precondition=Precondition(0))
            with suppress(ConflictError):
                await self._committer.submit(seat.asks(never, ""))
            seat.unsure = False
        record = self._record(seat)
        if record is None or holder_of(record).token != seat.token:
            return
        change = Delete(key=seat.key.text, precondition=exactly(record))
        with suppress(ConflictError):  # taken over: not this seat's to give up
            await self._committer.submit(seat.asks(change, "given up"))

    def _record(self, seat: _Seat) -> Record | None:
        return self._committer.projections.resources.get(seat.key.text)


def _pause_after(failures: int) -> float:
    return RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1]


def _checked(ttl: object) -> float:
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        message = f"must be a number of seconds, not {type(ttl).__name__}"
        raise InvalidError(message, path="ttl")
    if not TTL_SECONDS_MIN <= ttl <= TTL_SECONDS_MAX:
        bounds = f"between {TTL_SECONDS_MIN:g} and {TTL_SECONDS_MAX:g} seconds"
        raise InvalidError(f"must be {bounds}, not {ttl:g}", path="ttl")
    return float(ttl)
