"""Request ids that the log remembers: a projection of its last 24 hours.

A command that was appended under a request id is found here when it comes again. The
ids are forgotten by the time in the log, not by anybody's clock, so every instance
forgets the same ones at the same position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evstore.model import StoredEvent

MEMORY_MICROSECONDS: Final = 24 * 3600 * 1_000_000
MEMORY_REQUESTS_MAX: Final = 200_000

_MARK: Final = b'"request_id":'


class Request(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is remembered of a request: its content, and where it was committed."""

    digest: str
    commit: int
    time: int


class _RequestOnly(msgspec.Struct):
    request_id: str | None = None
    request_digest: str = ""


_decode = msgspec.json.Decoder(_RequestOnly).decode


class Requests:
    """The remembered requests at one position of the log."""

    def __init__(self) -> None:
        self._requests: dict[str, Request] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def get(self, request_id: str) -> Request | None:
        """Return what is remembered under `request_id`."""
        return self._requests.get(request_id)

    def items(self) -> list[tuple[str, Request]]:
        """Return each id with what is remembered of it, oldest first."""
        return list(self._requests.items())

    def restore(self, items: Iterable[tuple[str, Request]]) -> None:
        """Remember these, oldest first, and nothing else."""
        self._requests = dict(items)

    def apply(self, events: Sequence[StoredEvent]) -> None:
        """Take in the next events, and forget what is too old after them."""
        for event in events:
            if _MARK in bytes(event.metadata):
                found = request_of(event)
                if found is not None:
                    self._remember(*found)
        self._forget(events[-1].time)

    def adopt(self, overlay: RequestOverlay, *, time: int) -> None:
        """Take over what an overlay has remembered, up to a time of the log."""
        for request_id, request in overlay.new.items():
            self._remember(request_id, request)
        self._forget(time)

    def _remember(self, request_id: str, request: Request) -> None:
        # The newest is the last, also where an id comes again.
        self._requests.pop(request_id, None)
        self._requests[request_id] = request

    def _forget(self, time: int) -> None:
        """Forget what is too old at a time of the log, or too much."""
        requests = self._requests
        horizon = time - MEMORY_MICROSECONDS
        while requests:
            oldest_id, oldest = next(iter(requests.items()))
            if len(requests) <= MEMORY_REQUESTS_MAX and oldest.time >= horizon:
                break
            del requests[oldest_id]


def request_of(event: StoredEvent) -> tuple[str, Request] | None:
    """Return the request id that `event` was appended under, with what to remember."""
    found = _decode(event.metadata)
    if found.request_id is None:
        return None
    return found.request_id, Request(found.request_digest, event.commit, event.time)


class RequestOverlay:
    """Remembered requests, and those of commands that are not in the log yet."""

    def __init__(self, base: Requests | RequestOverlay) -> None:
        self._base = base
        self.new: dict[str, Request] = {}

    def rebase(self, base: Requests) -> None:
        """Lie on other requests from now on, the old ones and ours among them."""
        self._base = base

    def get(self, request_id: str) -> Request | None:
        """Return what is remembered under `request_id`."""
        return self.new.get(request_id) or self._base.get(request_id)

    def apply(self, events: Iterable[StoredEvent]) -> None:
        """Remember the requests of `events`."""
        for event in events:
            found = request_of(event)
            if found is not None:
                self.new[found[0]] = found[1]
