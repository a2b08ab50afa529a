"""One connection, spoken to through libpq: several statements a round trip, in order.

This is how the writer talks to the server. A cursor costs a third of what a single caller
waits for, so the statements of a round trip are handed to libpq together, with one
synchronisation point behind them, and their results are taken when the socket becomes
readable. Round trips may overlap: the answers come in the order of the calls.
https://www.postgresql.org/docs/current/libpq-pipeline-mode.html
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - watches the socket, and must not cancel a statement
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final

import anyio
import psycopg
from psycopg import errors, pq

from .connections import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from psycopg.pq.abc import PGresult

    from .connections import Connection
    from .statements import Prepared

    # A statement, and its binds in binary format.
    Step = tuple[Prepared, Mapping[str, bytes]]

_DONE: Final = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
_LOST: Final = "the connection to the server was lost"


class RoundTrip:
    """Statements that were sent together, and what has come back of them.

    Without an explicit transaction they are one of their own, committed when the answer
    is complete. `error` is that of the first statement that failed; the ones behind it
    were not executed. `warned` says that the server warned meanwhile.
    """

    __slots__ = ("_deadline", "_landed", "error", "results", "warned")

    def __init__(
        self, landed: Callable[[RoundTrip], None], deadline: asyncio.TimerHandle
    ) -> None:
        self._landed = landed
        self._deadline = deadline
        self.results: list[PGresult] = []
        self.error: psycopg.Error | None = None
        self.warned = False

    def land(self) -> None:
        """Tell whoever waits that the answer is complete."""
        self._deadline.cancel()
        self._landed(self)

    def row(self, statement: int) -> list[bytes]:
        """Return the first row of a statement, counted from 0, its values as texts.

        For statements that return a row whatever happens, with nothing null in it.
        """
        result = self.results[statement]
        return [result.get_value(0, column) or b"" for column in range(result.nfields)]


class Wire:
    """A connection that nobody else uses from now on.

    A lost connection is an error without SQLSTATE for every round trip that has no
    answer, unless the server said why it ended the session. `notified` is called for each
    notification, with the id of the server process that sent it.
    """

    def __init__(
        self, connection: Connection, *, notified: Callable[[int], None] | None = None
    ) -> None:
        self._connection = connection
        self._libpq = connection.pgconn
        self._notified = notified
        self._lost = anyio.Event()
        self._loop = asyncio.get_running_loop()
        self._trips: deque[RoundTrip] = deque()
        self._sending = False
        self.closed = False
        connection.add_notice_handler(self._notice)
        self._socket = self._libpq.socket
        self._libpq.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._readable)

    @property
    def process(self) -> int:
        """The id of the server process."""
        return self._libpq.backend_pid

    async def prepare(self, statements: Sequence[Prepared], *, seconds: float) -> None:
        """Have the server parse the statements that are going to be sent.

        Raises:
            psycopg.Error: one of them is wrong, or the connection was lost.
        """
        answer: asyncio.Future[RoundTrip] = self._loop.create_future()
        self._expect(_answers(answer), seconds)
        try:
            for name, text, _ in statements:
                self._libpq.send_prepare(name, text)
            self._end_round_trip()
        except psycopg.Error:
            self._loop.call_soon(self._lose)
        trip = await answer
        if trip.error:
            raise trip.error

    def send(
        self, *steps: Step, seconds: float, landed: Callable[[RoundTrip], None]
    ) -> None:
        """Send prepared statements and their binds as one round trip; return at once.

        `landed` is called once, from the event loop and never from this call. Where no
        answer comes in `seconds`, the socket is shut: unlike a cancellation, that lets
        the server finish what it was told.
        """
        self._expect(landed, seconds)
        try:
            for (name, _, binds), values in steps:
                parameters = [values[bind] for bind in binds]
                formats = [pq.Format.BINARY] * len(binds)
                self._libpq.send_query_prepared(name, parameters, formats)
            self._end_round_trip()
        except psycopg.Error:
            # The socket is dead: whoever waits hears of it from the loop.
            self._loop.call_soon(self._lose)

    async def run(self, *steps: Step, seconds: float) -> RoundTrip:
        """Send a round trip and wait for its answer.

        A caller who is cancelled leaves it under way.
        """
        answer: asyncio.Future[RoundTrip] = self._loop.create_future()
        self.send(*steps, seconds=seconds, landed=_answers(answer))
        return await answer

    async def lost(self) -> None:
        """Return when the connection is lost."""
        await self._lost.wait()

    def cut(self) -> None:
        """Break the connection off, without a word to the server."""
        if not self.closed:
            cut(self._connection)

    async def aclose(self) -> None:
        """Close the connection; what has no answer is lost."""
        self._lose()
        await self._connection.close()

    def _expect(self, landed: Callable[[RoundTrip], None], seconds: float) -> None:
        self._trips.append(RoundTrip(landed, self._loop.call_later(seconds, self.cut)))

    def _end_round_trip(self) -> None:
        self._libpq.pipeline_sync()
        self._flush()

    # What the event loop calls.

    def _readable(self) -> None:
        try:
            self._libpq.consume_input()
            self._take_results()
            if self._notified is not None:
                while (notification := self._libpq.notifies()) is not None:
                    self._notified(notification.be_pid)
            if self._sending:
                self._flush()
        except psycopg.Error:
            # What arrived before the end is still to be had.
            with contextlib.suppress(psycopg.Error):
                self._take_results()
            self._lose()

    def _writable(self) -> None:
        try:
            self._flush()
        except psycopg.Error:
            self._lose()

    def _flush(self) -> None:
        """Send what the socket takes; the rest when it takes more."""
        unsent = bool(self._libpq.flush())
        if unsent and not self._sending:
            self._loop.add_writer(self._socket, self._writable)
        elif self._sending and not unsent:
            self._loop.remove_writer(self._socket)
        self._sending = unsent

    def _take_results(self) -> None:
        libpq, between = self._libpq, False
        while self._trips and not libpq.is_busy():
            result = libpq.get_result()
            if result is None:
                # The end of a statement's results. Twice: there is nothing more yet.
                if between:
                    return
                between = True
                continue
            between = False
            trip = self._trips[0]
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                self._trips.popleft()
                trip.land()
            elif result.status in _DONE:
                trip.results.append(result)
            elif result.status == pq.ExecStatus.FATAL_ERROR and trip.error is None:
                trip.error = errors.error_from_result(result)

    def _lose(self) -> None:
        """The connection is gone: tell everybody who waits."""
        if not self.closed:
            self.closed = True
            self._lost.set()
            self._loop.remove_reader(self._socket)
            if self._sending:
                self._loop.remove_writer(self._socket)
        trips, self._trips = self._trips, deque()
        for trip in trips:
            trip.error = trip.error or psycopg.OperationalError(_LOST)
            trip.land()

    def _notice(self, diagnostic: errors.Diagnostic) -> None:
        # For example: a commit that no longer waits for its replica.
        if diagnostic.severity_nonlocalized == "WARNING" and self._trips:
            self._trips[0].warned = True


def _answers(answer: asyncio.Future[RoundTrip]) -> Callable[[RoundTrip], None]:
    """Return what a round trip calls when it lands; a caller may be cancelled by then."""

    def landed(trip: RoundTrip) -> None:
        if not answer.done():
            answer.set_result(trip)

    return landed
