"""The tail: the newest events of a process, kept once for all of its watchers.

Watchers pull: each has a position and takes what follows it from the tail. One that
falls behind the tail's beginning reads from the log until it has caught up, so a slow
watcher loses nothing, slows nobody and costs no memory. One that has taken all waits
until something that its filter lets through is published; what others write costs it
nothing.
"""

from __future__ import annotations

import copy
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import anyio

from evstore.clock import boot_microseconds
from evstore.errors import CompactedError, DivergedError
from evstore.model import Operation
from evstore.redaction import announcement_of, redacted_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from evstore.errors import SchemaError
    from evstore.model import Filter, StoredEvent

TAIL_BYTES_MAX: Final = 16 * 1024 * 1024
SLICE_EVENTS_MAX: Final = 500


class Tail:
    """The newest events that this process has applied.

    `position` is that of the last one, always the end of a transaction. `generation`
    counts how often it began anew, because the log turned out not to be the one that was
    followed, or to have been compacted beyond what was followed. `blocked` is
    why what follows in the log cannot be read by this program; None where it can.
    `moved_at` is when something was published last, by the clock that never steps.
    """

    def __init__(self, position: int, *, events_max: int) -> None:
        self.position = position
        self.generation = 0
        # The last generation that began because the log was another one, and what the
        # others since then began with.
        self._diverged = 0
        self._compacted: CompactedError | None = None
        self.closed = False
        self.blocked: SchemaError | None = None
        self.moved_at = boot_microseconds()
        self._events_max = events_max
        self._events: deque[StoredEvent] = deque()
        self._bytes = 0
        self._changed = anyio.Event()
        self._waiting: dict[tuple[int, ...], _Waiting] = {}

    def publish(self, events: Sequence[StoredEvent]) -> None:
        """Add whole transactions that were just applied, and wake who waits for them."""
        self._events.extend(events)
        self._bytes += sum(event.size for event in events)
        for event in events:
            if event.operation is Operation.REDACTED:
                self._forget(event)
        while len(self._events) > self._events_max or self._bytes > TAIL_BYTES_MAX:
            self._bytes -= self._events.popleft().size
        before = self.position
        self._move(events[-1].position)
        self._wake(events, before)

    def _forget(self, event: StoredEvent) -> None:
        """Let go of what a redaction announces to go; watchers read it so from now on."""
        announced = announcement_of(event)
        assert announced is not None, "the caller has looked"
        index = announced.position - self._events[0].position
        if 0 <= index < len(self._events):
            old = self._events[index]
            new = self._events[index] = redacted_event(old, event, announced)
            self._bytes += new.size - old.size

    def diverge(self, position: int) -> None:
        """Begin anew at `position`: what was published before may never have been."""
        self._diverged = self.generation + 1
        self._begin_anew(position)

    def compact(self, position: int, error: CompactedError) -> None:
        """Begin anew at `position`: what follows what was published has been removed."""
        self._compacted = error
        self._begin_anew(position)

    def check_unbroken(self, generation: int) -> None:
        """Check that it has not begun anew since a generation.

        Raises:
            DivergedError: the log lost events that this process had applied.
            CompactedError: events were removed that this process had not applied.
        """
        if self._diverged > generation:
            message = "the log lost events that had been read; list and watch again"
            raise DivergedError(message)
        if self.generation > generation:
            assert self._compacted is not None, "there is no third reason"
            raise CompactedError(str(self._compacted), oldest=self._compacted.oldest)

    def _begin_anew(self, position: int) -> None:
        self.generation += 1
        self._events.clear()
        self._bytes = 0
        self._move(position)
        self._wake_all()

    def block(self, error: SchemaError | None) -> None:
        """Tell whoever waits that this program cannot read what follows, or can again."""
        news = error is not None and self.blocked is None
        self.blocked = error
        if news:
            changed, self._changed = self._changed, anyio.Event()
            changed.set()
            self._wake_all()

    def check_readable(self) -> None:
        """Check that this program can read what follows in the log.

        Raises:
            SchemaError: it cannot.
        """
        if self.blocked is not None:
            # One of its own for each: tracebacks grow where an exception is shared.
            raise copy.copy(self.blocked)

    def close(self) -> None:
        """Nothing more is to come: end the watches."""
        self.closed = True
        self._move(self.position)
        self._wake_all()

    def _move(self, position: int) -> None:
        self.position = position
        self.moved_at = boot_microseconds()
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def changed(self) -> None:
        """Return when something has been published since the call."""
        await self._changed.wait()

    def after(self, position: int) -> list[StoredEvent] | None:
        """Return events after `position`, some hundreds at most, in order.

        None where the tail begins later, and only the log has them.
        """
        first = self.position + 1 - len(self._events)
        if position + 1 < first:
            return None
        start = position + 1 - first
        end = min(start + SLICE_EVENTS_MAX, len(self._events))
        return [self._events[index] for index in range(start, end)]

    async def wait(self, where: Filter, *, seconds: float | None = None) -> int:
        """Wait, from the tail's position on, for an event that `where` may accept.

        Returns a position up to which nothing was published that it accepts. Also
        returns where the tail diverges or is closed, and after `seconds`.
        """
        fields = _fields(where)
        waiting = self._waiting.get(fields)
        if waiting is None:
            waiting = self._waiting[fields] = _Waiting(fields)
        call = waiting.join(where)
        try:
            if seconds is None:
                await call.event.wait()
            else:
                with anyio.move_on_after(seconds):
                    await call.event.wait()
        finally:
            waiting.leave(call)
        # Not called: all that was published meanwhile was looked at, and passed over.
        return self.position if call.before is None else call.before

    def _wake(self, events: Sequence[StoredEvent], before: int) -> None:
        rooms = [waiting for waiting in self._waiting.values() if waiting.calls]
        if rooms:
            keys = [key.split("/") for key in {event.key for event in events}]
            for waiting in rooms:
                waiting.wake(keys, before)

    def _wake_all(self) -> None:
        for waiting in self._waiting.values():
            waiting.wake_all(self.position)


def _fields(where: Filter) -> tuple[int, ...]:
    """Return which parts of a key a filter looks at."""
    wanted = (where.type, where.mesh, where.name)
    return tuple(index for index, value in enumerate(wanted) if value is not None)


class _Call:
    """What all who wait with one filter wait for."""

    __slots__ = ("before", "event", "of", "waiters")

    def __init__(self, of: object) -> None:
        self.of = of
        self.event = anyio.Event()
        self.before: int | None = None
        self.waiters = 0


class _Waiting:
    """Who waits with filters on the same parts of keys, by the values of these parts."""

    def __init__(self, fields: tuple[int, ...]) -> None:
        self._value: Callable[[Sequence[str | None]], Any]
        self._value = itemgetter(*fields) if fields else _nothing
        self.calls: dict[Any, _Call] = {}

    def join(self, where: Filter) -> _Call:
        of = self._value((where.type, where.mesh, where.name))
        call = self.calls.get(of)
        if call is None:
            call = self.calls[of] = _Call(of)
        call.waiters += 1
        return call

    def leave(self, call: _Call) -> None:
        call.waiters -= 1
        if not call.waiters and self.calls.get(call.of) is call:
            del self.calls[call.of]

    def wake(self, keys: Iterable[Sequence[str]], before: int) -> None:
        for value in set(map(self._value, keys)):
            call = self.calls.pop(value, None)
            if call is not None:
                call.before = before
                call.event.set()

    def wake_all(self, before: int) -> None:
        for call in self.calls.values():
            call.before = before
            call.event.set()
        self.calls = {}


def _nothing(_: Sequence[str | None]) -> None:
    return None
