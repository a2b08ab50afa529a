"""Proof: the whole log is read as it is stored, and its chain of hashes made again.

The first place that does not hold is named, with what was done there. A redaction is no
fault where an event announces it, of that digest and into that body. What the chain alone
cannot tell, that its end was cut or that all of it was made anew, the anchors tell.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import msgspec

from evstore.clock import boot_microseconds, to_datetime
from evstore.codec import unbroken
from evstore.log import UnreadableError
from evstore.model import Filter, Operation
from evstore.redaction import announcement_of

from .certified import certified
from .diagnosis import (
    NEIGHBOURS,
    Finding,
    Kind,
    Surroundings,
    belongs,
    computed,
    diagnose,
    finding,
    positions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from uuid import UUID

    from evstore.anchors import Anchor
    from evstore.log import AuditedEvent, Verifiable
    from evstore.model import Head, StoredEvent
    from evstore.redaction import Announcement


class Redacted(msgspec.Struct, frozen=True, kw_only=True):
    """A redaction: what went of which event, and who announced it at which position."""

    position: int
    key: str
    fields: tuple[str, ...]
    announced: int
    time: int
    actor: str


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found: `findings` has the first fault, and none where all holds.

    `head` and `hash` are the end of what was read. `redactions` are announced and done;
    `unfinished` ones are announced only: what should have gone is still stored.
    `unguarded` says what keeps the log from being append-only, each a statement. `anchored`
    is the last position that an anchor vouches for.
    """

    log: UUID
    head: int
    hash: bytes
    seconds: float
    findings: list[Finding]
    redactions: list[Redacted]
    unfinished: list[Redacted]
    unguarded: list[str]
    anchored: int | None

    @property
    def ok(self) -> bool:
        """Whether the log is what was once appended, as far as can be told."""
        return not self.findings


async def verify(
    log: Verifiable,
    *,
    anchors: Sequence[Anchor] = (),
    advance: Callable[[int], None] | None = None,
) -> Verification:
    """Verify a log up to its head as of the call, against anchors that were `read`.

    A log that was compacted is verified from its floor on, and what is certified there
    as well. `advance` is told up to which position it has got.

    Raises:
        CompactedError: it was compacted meanwhile; verify it again.
        UnavailableError: the log cannot be read.
    """
    began = boot_microseconds()
    until = (await log.head()).position
    floor = log.floor
    scan = _Scan(floor, {anchor.position for anchor in anchors})
    damaged = None
    if floor != log.genesis:
        scan.base, damaged = await certified(log, floor)
    broken = await _read(log, scan, until, advance)
    found = [each for each in (damaged, broken) if each is not None]
    redactions = _Redactions(scan)
    # Behind what cannot be read there may be announcements: say nothing of these.
    if scan.position == until:
        await redactions.settle(log, until)
        found += redactions.findings
    first = min(found, key=lambda each: each.position, default=None)
    bad, anchored = _compare(log.identity, scan, anchors)
    return Verification(
        log=log.identity,
        head=scan.position,
        hash=scan.hash,
        seconds=(boot_microseconds() - began) / 1e6,
        findings=[*([first] if first else []), *bad],
        redactions=redactions.done,
        unfinished=redactions.unfinished,
        unguarded=await log.unguarded(),
        anchored=anchored,
    )


async def _read(
    log: Verifiable,
    scan: _Scan,
    until: int,
    advance: Callable[[int], None] | None,
) -> Finding | None:
    """Take in what is stored; return the first place where the chain does not hold."""
    try:
        after = scan.floor.position
        async with aclosing(log.audit(after=after, until=until)) as chunks:
            async for events in chunks:
                scan.take(events)
                if advance is not None:
                    advance(scan.position)
    except UnreadableError as error:
        if scan.fault is None:
            text = f"position {error.position} was changed: {error}"
            return finding(Kind.CHANGED, error.position, text)
    if scan.fault is None:
        return _end(scan, until)
    return scan.fault.finding or await _examine(
        log, scan.fault.position, until, scan.floor
    )


def _end(scan: _Scan, until: int) -> Finding | None:
    """Find out whether the log ends as it should, where all before holds."""
    if scan.position < until:
        text = f"{positions(scan.position + 1, until)} removed, at the end"
        return finding(Kind.CUT, scan.position + 1, text, last=until)
    if scan.commit > scan.position:
        text = f"cut at the end: the transaction of position {scan.position} goes on to"
        text += f" {scan.commit}"
        return finding(Kind.CUT, scan.position + 1, text, last=scan.commit)
    return None


async def _examine(log: Verifiable, position: int, until: int, floor: Head) -> Finding:
    """Find out what was done where a hash does not follow."""
    low, high = (
        max(floor.position, position - 1 - NEIGHBOURS),
        min(until, position + NEIGHBOURS),
    )
    events = await _range(log, low, high)
    around = Surroundings(floor, events)
    there, previous = around.get(position), around.hash_before(position)
    assert there is not None, "it was read before"
    assert previous is not None, "it was read before"
    home = None
    with suppress(UnreadableError):
        async with aclosing(log.audit(after=position, until=until)) as chunks:
            async for chunk in chunks:
                found = (
                    event
                    for event in chunk
                    if belongs(event, position=position, previous=previous, there=there)
                )
                home = next(found, None)
                if home is not None:
                    break
    if home is not None and home.position >= high:
        beyond = await _range(log, home.position - 1, min(until, home.position + 1))
        around = Surroundings(floor, [*events, *beyond])
    return diagnose(around, position, home)


async def _range(log: Verifiable, after: int, until: int) -> list[AuditedEvent]:
    found: list[AuditedEvent] = []
    with suppress(UnreadableError):
        async with aclosing(log.audit(after=after, until=until)) as chunks:
            async for chunk in chunks:
                found += chunk
    return found


class _Fault(msgspec.Struct, frozen=True):
    """Where the chain does not hold; without a finding, the hash does not follow."""

    position: int
    finding: Finding | None = None


class _Scan:
    """One pass over the log: where it has got to, and the first fault on the way.

    After a fault it goes on from what is stored, for redactions and anchors behind it.
    """

    def __init__(self, floor: Head, anchored: Collection[int]) -> None:
        self.floor = floor
        # The events that the state at the floor is made of.
        self.base: dict[int, StoredEvent] = {}
        self.position = floor.position
        self.hash = floor.hash
        self.commit = floor.position
        self.fault: _Fault | None = None
        # What anchors ask for, and what only makes sense once all has been seen.
        self.hashes: dict[int, bytes] = {floor.position: floor.hash}
        self.replaced: dict[int, AuditedEvent] = {}
        self.announcements: list[AuditedEvent] = []
        self._anchored = sorted(anchored)
        self._time = floor.time
        self._tx = ""

    def take(self, events: Sequence[AuditedEvent]) -> None:
        """Take in the next events, in order."""
        previous, position = self.hash, self.position
        commit, tx, time = self.commit, self._tx, self._time
        redacted = Operation.REDACTED
        whole = _unbroken(previous, events)
        for event in events:
            good = whole or computed(previous, event) == event.hash
            if not (
                good
                and event.position == position + 1
                and event.stored_size == len(event.body) + len(event.metadata)
                and (
                    event.commit == commit and event.tx == tx and event.time == time
                    if position < commit
                    else event.time >= time and event.tx != tx
                )
                and event.commit >= event.position
            ):
                self._judge(
                    event, position=position, commit=commit, time=time, good=good
                )
            if event.body_digest is not None:
                self.replaced[event.position] = event
            if event.operation is redacted:
                self.announcements.append(event)
            previous, position = event.hash, event.position
            commit, tx, time = event.commit, event.tx, event.time
        self.hash, self.position = previous, position
        self.commit, self._tx, self._time = commit, tx, time
        first = bisect_left(self._anchored, events[0].position)
        wanted = set(self._anchored[first : bisect_right(self._anchored, position)])
        if wanted:
            self.hashes.update(
                (each.position, each.hash) for each in events if each.position in wanted
            )

    def _judge(
        self,
        event: AuditedEvent,
        *,
        position: int,
        commit: int,
        time: int,
        good: bool,
    ) -> None:
        """Say what is wrong with an event, if it is the first and anything is."""
        here = event.position
        if self.fault is not None:
            return
        if here != position + 1:
            text = f"{positions(position + 1, here - 1)} removed"
            gap = finding(Kind.REMOVED, position + 1, text, last=here - 1)
            self.fault = _Fault(position + 1, gap)
        elif not good:
            self.fault = _Fault(here)
        elif position >= commit and event.time < time:
            text = f"position {here} was recorded before position {position}"
            self.fault = _Fault(here, finding(Kind.BACKDATED, here, text))
        elif event.stored_size == len(event.body) + len(event.metadata):
            text = f"position {here} does not fit the transaction of the one before it"
            self.fault = _Fault(here, finding(Kind.TORN, here, text))
        elif event.body_digest is None:
            # Of a replaced body, it stays the size of what was there first.
            text = f"position {here} was changed: its size"
            self.fault = _Fault(here, finding(Kind.CHANGED, here, text, column="size"))


def _unbroken(previous: bytes, events: Sequence[AuditedEvent]) -> bool:
    try:
        return unbroken(previous, events)
    except (ValueError, TypeError, struct.error):
        return False  # a value that evstore would never have stored


class _Redactions:
    """The replaced bodies and the announcements of a log, and how they match."""

    def __init__(self, scan: _Scan) -> None:
        self.done: list[Redacted] = []
        self.unfinished: list[Redacted] = []
        self.findings: list[Finding] = []
        self._replaced = scan.replaced
        self._floor = scan.floor.position
        self._base = scan.base
        self._announced: dict[int, list[tuple[StoredEvent, Announcement]]] = {}
        for event in scan.announcements:
            self._announce(event)

    async def settle(self, log: Verifiable, until: int) -> None:
        """Match them; where one has no other, see what has been appended since."""
        await self._check_replaced(log, until)
        for position, announcements in sorted(self._announced.items()):
            stored: StoredEvent | None = self._replaced.get(position)
            if not all(_is_done(stored, announced) for _, announced in announcements):
                # Perhaps it was done since the pass came by.
                stored = await self._stored(log, position)
            removed = stored is None and position <= self._floor
            for event, announced in announcements:
                done = removed or _is_done(stored, announced)
                found = self.done if done else self.unfinished
                found.append(_redacted(event, announced))

    async def _stored(self, log: Verifiable, position: int) -> StoredEvent | None:
        if position <= self._floor:
            return self._base.get(position)
        return next(iter(await log.pick([position])), None)

    async def _check_replaced(self, log: Verifiable, until: int) -> None:
        for event in self._replaced.values():
            if not self._allowed(event):
                async for chunk in log.read(after=until, where=_of(event.key)):
                    for later in chunk:
                        self._announce(later)
            if not self._allowed(event):
                text = f"position {event.position} was changed: its body was replaced,"
                text += " and no event announces that"
                self.findings.append(
                    finding(Kind.CHANGED, event.position, text, column="body")
                )

    def _announce(self, event: StoredEvent) -> None:
        with suppress(msgspec.DecodeError):
            announced = announcement_of(event)
            if announced is not None and announced.position:
                self._announced.setdefault(announced.position, []).append(
                    (event, announced)
                )

    def _allowed(self, replaced: AuditedEvent) -> bool:
        return any(
            announced.allows(replaced) and event.key == replaced.key
            for event, announced in self._announced.get(replaced.position, ())
        )


def _is_done(stored: StoredEvent | None, announced: Announcement) -> bool:
    try:
        return stored is not None and announced.done(stored)
    except msgspec.DecodeError:
        return False  # a body that evstore would never have stored


def _of(key: str) -> Filter:
    # Not Key.from_text: what was tampered with may hold anything.
    type_, _, rest = key.partition("/")
    mesh, _, name = rest.partition("/")
    return Filter(type=type_, mesh=mesh, name=name)


def _redacted(event: StoredEvent, announced: Announcement) -> Redacted:
    return Redacted(
        position=announced.position,
        key=event.key,
        fields=announced.fields,
        announced=event.position,
        time=event.time,
        actor=event.actor,
    )


def _compare(
    identity: UUID, scan: _Scan, anchors: Sequence[Anchor]
) -> tuple[list[Finding], int | None]:
    """Return what anchors contradict, and the last position that one vouches for."""
    found: list[Finding] = []
    vouched: int | None = None
    for anchor in sorted(anchors, key=lambda each: each.position):
        stored = scan.hashes.get(anchor.position)
        at = f"the anchor of position {anchor.position}"
        at += f", signed {to_datetime(anchor.signed).isoformat(timespec='seconds')},"
        if anchor.log != identity:
            text = f"{at} is of the log {anchor.log}, and this is {identity}"
            found.append(finding(Kind.FOREIGN, anchor.position, text))
        elif stored is not None and stored.hex() == anchor.hash:
            vouched = anchor.position
        elif anchor.position < scan.floor.position:
            continue  # what it vouches for was removed
        elif anchor.position > scan.position:
            text = f"cut at the end: {at} lies behind the head, {scan.position}"
            first = scan.position + 1
            found.append(finding(Kind.CUT, first, text, last=anchor.position))
        else:
            first = (vouched or 0) + 1
            text = f"{at} has another hash: somewhere from position {first} on the log"
            text += " was made anew, or cut and grown again"
            found.append(finding(Kind.REWRITTEN, first, text, last=anchor.position))
    return found, vouched
