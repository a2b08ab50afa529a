"""The commands that wait to be appended: in order, and bounded."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from evstore.clock import boot_microseconds
from evstore.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evstore.config import Limits

    from .batch import Pending


class Waiting:
    """A queue of commands, bounded in number and in bytes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._queue: deque[Pending] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[Pending]:
        return iter(self._queue)

    @property
    def next_alone(self) -> bool:
        """Whether the next command must be appended by itself."""
        return bool(self._queue) and self._queue[0].alone

    def put(self, pending: Pending) -> None:
        """Add a command at the end.

        Raises:
            UnavailableError: the queue is full; nothing was applied.
        """
        limits = self._limits
        if len(self._queue) >= limits.queue_commands_max or (
            self._queue and self._bytes + pending.size > limits.queue_bytes_max
        ):
            message = (
                f"{len(self._queue)} commands with {self._bytes} bytes are waiting;"
                " try again in a moment"
            )
            raise UnavailableError(message)
        self._bytes += pending.size
        self._queue.append(pending)

    def put_back(self, batch: Sequence[Pending]) -> None:
        """Let commands that were taken wait again, before all others."""
        self._bytes += sum(pending.size for pending in batch)
        self._queue.extendleft(reversed(batch))

    def take(self, count: int) -> list[Pending]:
        """Take the next commands; one that must go alone goes alone.

        Commands whose callers have gone are dropped.
        """
        batch: list[Pending] = []
        while self._queue and len(batch) < count:
            if self._queue[0].alone and batch:
                break
            pending = self._queue.popleft()
            self._bytes -= pending.size
            if not pending.answer.done():
                batch.append(pending)
            if pending.alone:
                break
        return batch

    def clear(self) -> None:
        """Forget all that waits."""
        self._queue.clear()
        self._bytes = 0

    def take_overdue(self) -> list[Pending]:
        """Take the commands whose deadline has passed."""
        now = boot_microseconds()
        overdue: list[Pending] = []
        while self._queue and self._queue[0].deadline <= now:
            pending = self._queue.popleft()
            self._bytes -= pending.size
            overdue.append(pending)
        return overdue
