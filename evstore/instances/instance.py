"""What a running store does by itself: it follows the log, and tells that it runs."""

from __future__ import annotations

import logging
import math
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import anyio

from evstore.clock import boot_microseconds
from evstore.errors import StoreError, UnavailableError
from evstore.log import Instance

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from evstore.commit.committer import Committer
    from evstore.folds.projections import Projections
    from evstore.log import Log

logger = logging.getLogger(__name__)

CODE_VERSION: Final = version("evstore")
FOLLOW_PAUSE_SECONDS: Final = 0.005
POLL_SECONDS_MIN: Final = 0.05
BEAT_SECONDS_MAX: Final = 2.0
BEATS_PER_TTL: Final = 3
DIGESTS_KEPT: Final = 128
# What is held ends here before others may take it: time to stop, and clocks differ.
CERTAIN_SHARE: Final = 0.9


class Follower:
    """Has the committer read on whenever other instances may have appended.

    At most one read every 5 ms. Where the log tells of appends, it is looked at each
    `poll_interval` seconds besides: a lost notification costs latency and never an
    event. Where it does not, or not now, it is looked at each 50 ms while events come,
    and half as often with each look that finds nothing, down to the same interval.
    `looked_at` is when it was last about to be, by `boot_microseconds`.
    """

    def __init__(self, log: Log, committer: Committer, poll_interval: float) -> None:
        self.looked_at = boot_microseconds()
        self._log = log
        self._committer = committer
        self._longest = poll_interval
        self._shortest = min(POLL_SECONDS_MIN, poll_interval)

    async def run(self) -> None:
        """Follow the log until cancelled."""
        pause = self._longest
        seen = self._committer.projections.position
        while True:
            seconds = self._longest if self._log.listening else pause
            await self._log.wait(seen, seconds=seconds)
            self._committer.nudge()
            self.looked_at = boot_microseconds()
            # Where this program cannot read on, the log need not wait for a look.
            blocked = self._committer.blocked is not None
            await anyio.sleep(self._longest if blocked else FOLLOW_PAUSE_SECONDS)
            self.looked_at = boot_microseconds()
            position = self._committer.projections.position
            if position != seen:
                pause = self._shortest
            else:
                pause = min(2 * pause, self._longest)
            seen = position


class Presence:
    """This instance as others know it: its heartbeats, and for how long they count.

    An instance is alive or dead as a whole. What it holds may be taken by others once it
    has not been seen for a ttl that it has held something under; so the shortest of
    these counts, also when that has been given up: somebody slow may still judge by it.
    `beaten_at` is when the last heartbeat that was recorded had been sent, by
    `boot_microseconds`; None where none was, under this id. `fingerprint` is that of the
    upcasters, for the labels of projections.
    """

    def __init__(self, log: Log, committer: Committer, fingerprint: str = "") -> None:
        self.id = uuid4()
        self.beaten_at: int | None = None
        self._fingerprint = fingerprint
        self._digests: dict[int, bytes] = {}
        self._digests_of: Projections | None = None
        self._log = log
        self._committer = committer
        self._standing: dict[UUID, float] = {}
        self._shortest = math.inf
        self._tried_at = -sys.maxsize
        self._silent = False
        self._demanded = False
        self._stirred = anyio.Event()
        self._tried = anyio.Event()

    @property
    def _ttl(self) -> float:
        return min((self._shortest, *self._standing.values()))

    def seconds_left(self, identity: UUID) -> float:
        """Return for how long nobody can take what `identity` holds; 0: they may.

        Threads ask as well, while a heartbeat is being recorded. A new id is set before
        its heartbeats are: whoever reads in the other order never takes those for ones
        of the id before.
        """
        beaten_at = self.beaten_at
        if beaten_at is None or identity != self.id:
            return 0.0
        passed = (boot_microseconds() - beaten_at) / 1e6
        return max(0.0, self._ttl * CERTAIN_SHARE - passed)

    async def stand(self, holding: UUID, ttl: float) -> UUID:
        """Be seen at least each third of `ttl` until `leave`; return the id to go by.

        Raises:
            UnavailableError: no heartbeat could be recorded.
        """
        recent = min(ttl, self._ttl) / BEATS_PER_TTL
        if not self._was_seen(recent):
            self._demanded = True
            self._stirred.set()
            await self._tried.wait()
            if not self._was_seen(recent):
                message = "no heartbeat could be recorded"
                raise UnavailableError(message)
        self._standing[holding] = ttl
        self._stirred.set()
        return self.id

    def leave(self, holding: UUID, *, held: bool) -> None:
        """Stand for this no longer; `held` says whether others may have known of it."""
        ttl = self._standing.pop(holding, math.inf)
        if held:
            self._shortest = min(self._shortest, ttl)

    def resign(self) -> None:
        """Go by a new id: what the old one holds is others' to take, in its ttl."""
        self.id = uuid4()
        self.beaten_at = None
        self._shortest = math.inf
        self._demanded = True
        self._stirred.set()

    def _was_seen(self, seconds: float) -> bool:
        if self.beaten_at is None:
            return False
        return boot_microseconds() - self.beaten_at < seconds * 1e6

    async def run(self, interval: float) -> None:
        """Beat each `interval` seconds, 0 for never, and as often as holding demands."""
        try:
            await self._keep_beating(interval)
        finally:
            self._tried.set()

    async def _keep_beating(self, interval: float) -> None:
        while True:
            period = min(interval or math.inf, self._ttl / BEATS_PER_TTL)
            if self._silent:
                period /= BEATS_PER_TTL
            left = period - (boot_microseconds() - self._tried_at) / 1e6
            if left <= 0 or self._demanded:
                self._demanded = False
                await self._beat()
                # Shielded, and perhaps due again by now: here the end gets in.
                await anyio.lowlevel.checkpoint()
                continue
            self._stirred = anyio.Event()
            with anyio.move_on_after(left):
                await self._stirred.wait()

    async def _beat(self) -> None:
        """Try to record a heartbeat, and tell whoever waits that it was tried.

        Not to be cancelled in the middle: that would cost the connection. But a server
        that does not answer must not hold up the end of the store. A heartbeat that
        fails is made up for by the next.
        """
        limit = min(BEAT_SECONDS_MAX, self._ttl / BEATS_PER_TTL)
        failure: object = f"no answer in {limit:g} s"
        self._tried_at = boot_microseconds()
        with anyio.move_on_after(limit, shield=True):
            try:
                await self._record(self._tried_at)
            except StoreError as error:
                failure = error
            else:
                failure = None
                await self._tend()
        if failure and not self._silent:
            logger.warning("no heartbeat recorded, will try again: %s", failure)
        self._silent = failure is not None
        tried, self._tried = self._tried, anyio.Event()
        tried.set()

    async def _tend(self) -> None:
        try:
            await self._log.tend()
        except StoreError as error:
            logger.warning("could not prepare the log for what comes: %s", error)

    def digest(self) -> bytes:
        """Return the state digest as of now, and keep it to compare others' with."""
        projections = self._committer.projections
        if self._digests_of is not projections:
            # Made anew for another log, or for one that lost its end.
            self._digests_of = projections
            self._digests.clear()
        digest = projections.resources.digest()
        self._digests.pop(projections.position, None)
        self._digests[projections.position] = digest
        if len(self._digests) > DIGESTS_KEPT:
            del self._digests[next(iter(self._digests))]
        return digest

    def drift(self, instances: Iterable[Instance]) -> tuple[UUID, ...]:
        """Return who had, where this instance was as well, another state digest."""
        self.digest()
        return tuple(
            each.id
            for each in instances
            if each.id != self.id
            and self._digests.get(each.position, each.digest) != each.digest
        )

    async def _record(self, sent: int) -> None:
        projections = self._committer.projections
        instance = Instance(
            id=self.id,
            position=projections.position,
            digest=self.digest(),
            code_version=CODE_VERSION,
            projections=projections.labels(self._fingerprint),
        )
        known = self.beaten_at is not None
        stands = await self._log.beat(instance, renewal=known)
        if self.id != instance.id:
            return  # resigned meanwhile: this heartbeat is nobody's
        if stands:
            self.beaten_at = sent
            return
        logger.warning("others took this instance for dead; it goes by a new id now")
        self.resign()
