"""What other code would make of the same history: asked before a release.

The history is replayed through the new code, and compared at the same position with what
older code has come to: as a snapshot has it, as that code makes it now, or for resources
as they are stored. Nothing is written.
"""

from __future__ import annotations

import logging
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec

from evstore.errors import InvalidError
from evstore.folds.projection import BUILT_IN
from evstore.folds.projections import RESOURCES_VERSION, Projections
from evstore.log import open_log
from evstore.model import Resource
from evstore.past.changed import ResourceChange, same_content
from evstore.past.history import resolve
from evstore.snapshots.content import BuiltIn, ContentError
from evstore.snapshots.start import read
from evstore.values.diff import Difference, differences, patch

from .differing import plain
from .folding import bring, custom_of
from .programs import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore.app import App
    from evstore.config import Config
    from evstore.folds.resources import Resources
    from evstore.folds.stopped import Stopped
    from evstore.log import Log, Snapshot
    from evstore.model import Head, Record
    from evstore.past.history import At
    from evstore.snapshots.start import Origin

    from .folding import Advance

logger = logging.getLogger(__name__)

AS_STORED: Final = "as stored"


class ProjectionDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What a projection would be with other code, at one position of the log.

    `before` and `after` are the labels of the two; `before` is `as stored` for resources
    without any upcasters. `resources` are the changes of resources, by type, mesh and
    name; `old` and `new` are the states of a projection of one's own, as JSON has them.
    Where one of these has stopped, there is nothing to compare.
    """

    name: str
    position: int
    before: str
    after: str
    resources: list[ResourceChange] = []
    old: Any = None
    new: Any = None
    before_stopped: Stopped | None = None
    after_stopped: Stopped | None = None

    @property
    def comparable(self) -> bool:
        """Whether neither of the two has stopped."""
        return self.before_stopped is None and self.after_stopped is None

    @property
    def differences(self) -> list[Difference]:
        """The leaves that differ in a state of one's own, with JSON pointers."""
        return list(differences(self.old, self.new)) if self.comparable else []

    @property
    def patch(self) -> list[dict[str, Any]]:
        """The JSON Patch (RFC 6902) from the old state of one's own to the new."""
        return patch(self.old, self.new) if self.comparable else []

    def __repr__(self) -> str:
        # The values stay out: they may be secrets, and reprs end up in logs.
        return f"ProjectionDiff(name={self.name!r}, position={self.position})"


class _Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What is there by other code, at a place: resources, or a state of one's own."""

    label: str
    head: Head
    resources: Resources | None = None
    state: Any = None
    stopped: Stopped | None = None


async def projection_diff(
    config: Config,
    name: str,
    app: App,
    *,
    against: App | None = None,
    at: At | None = None,
    advance: Advance | None = None,
) -> ProjectionDiff:
    """Return what the projection `name` of `app` makes of history that is not there now.

    What is there now is the newest snapshot of that projection that other code has
    taken, where there is none the newest at all, and for resources without any the
    bodies as they are stored. With `against` it is what the code of that app makes of
    the same history. Both are at the position of the snapshot, else at `at`, else at
    the head. Nothing is written: no snapshot, no heartbeat. `advance` is told how many
    events have been folded, and of how many.

    Raises:
        InvalidError: an app has no such projection or cannot be used, or there is
            nothing to compare with at `at`; the message says what there is.
        SchemaError: the database is not at the version that this program needs, or an
            event is in a shape that an app does not know.
        CompactedError: the log was compacted above `at`, or at all where it is about a
            projection of one's own.
        UnavailableError: the log cannot be read.
    """
    program, other = Program(app), Program(against)
    for each in (program,) if against is None else (program, other):
        each.named([name])
    async with open_log(config) as stored:
        await stored.connect()  # which measures its clock
        origin = program.begins(stored, names=[name], drops=False)
        log = origin.log
        place = None if at is None else await resolve(log, at)
        label = _label(origin, name)
        found = None
        if against is None:
            found = await _from_snapshots(log, name, label, place)
        until = found.head.position if found else (place or await log.head()).position
        passes = 1 if found else 2

        def told(done: int) -> Callable[[int], None]:
            """Tell of positions, with those of the passes before."""

            def tell(position: int) -> None:
                if advance is not None:
                    advance(done * until + position, passes * until)

            return tell

        if found is None:
            # Without an app the bodies are as they are stored.
            old = other.begins(stored, names=[name], drops=False)
            label_before = AS_STORED if against is None else _label(old, name)
            found = await _folded(old, name, label_before, until, told(0))
        new = await _folded(origin, name, label, until, told(passes - 1))
        return _compared(name, found, new)


def _label(origin: Origin, name: str) -> str:
    labels = origin.fresh().labels(origin.fingerprint)
    return next(each for each in labels if each.startswith(f"{name}:"))


async def _folded(
    origin: Origin,
    name: str,
    label: str,
    until: int,
    advance: Callable[[int], None],
) -> _Baseline:
    """Return what the code of an origin makes of the log up to a position."""
    projections = await origin.beginning()
    await bring(origin.log, projections, until=until, advance=advance)
    head = projections.head
    if name == BUILT_IN:
        return _Baseline(label=label, head=head, resources=projections.resources)
    custom = custom_of(projections, name)
    state = plain(custom.freeze()) if custom.running else None
    return _Baseline(label=label, head=head, state=state, stopped=custom.stopped)


async def _from_snapshots(
    log: Log, name: str, own: str, place: Head | None
) -> _Baseline | None:
    """Return what a snapshot has; None for resources without one.

    Raises:
        InvalidError: there is none of a projection of one's own.
    """
    candidates = [
        each
        for each in await log.snapshots()
        if each.stamp.projection == name
        and each.stamp.log == log.identity
        and each.stamp.head.position >= log.floor.position
    ]
    # Newest first as they are; those by other code before our own.
    candidates.sort(key=lambda each: each.stamp.label == own)
    for snapshot in candidates:
        if place is not None and snapshot.stamp.head.position != place.position:
            continue
        try:
            return await _content(log, snapshot)
        except ContentError as error:
            logger.warning(
                "passes over the snapshot of %s at %s: %s",
                name,
                snapshot.stamp.head.position,
                error,
            )
    if name == BUILT_IN:
        return None
    there = sorted({each.stamp.head.position for each in candidates})
    where = f"; there are some at {', '.join(map(str, there))}" if there else ""
    at = "" if place is None else f" at position {place.position}"
    message = (
        f"there is no snapshot of {name}{at} to compare with{where}; name the code that"
        " is to be compared with (--against)"
    )
    raise InvalidError(message, path="against")


async def _content(log: Log, snapshot: Snapshot) -> _Baseline:
    """Return what is in a snapshot that other code may have taken.

    Raises:
        ContentError: it cannot be read, or is of no place in this log.
    """
    stamp = snapshot.stamp
    if await log.place(stamp.head.position) != stamp.head:
        message = "the log has no event with its hash there"
        raise ContentError(message)
    if stamp.projection == BUILT_IN:
        if stamp.version != RESOURCES_VERSION:
            message = (
                f"it is in version {stamp.version}, which this evstore cannot read"
            )
            raise ContentError(message)
        projections = Projections(log.genesis)
        reading = BuiltIn(projections).reading()
        await read(log, snapshot, reading)
        reading.thaw(stamp.head, stamp.digest)
        return _Baseline(
            label=stamp.label, head=stamp.head, resources=projections.resources
        )
    collected = _Collected()
    await read(log, snapshot, collected)
    collected.thaw(stamp.head, stamp.digest)
    return _Baseline(label=stamp.label, head=stamp.head, state=collected.state)


class _Collected:
    """The state of a projection whose code is not here."""

    def __init__(self) -> None:
        self.state: Any = None
        self._payload = bytearray()

    def add(self, chunk: bytes) -> None:
        self._payload += chunk

    def thaw(self, head: Head, digest: bytes) -> None:
        del head
        payload = bytes(self._payload)
        if sha256(payload).digest() != digest:
            message = "its state has another digest"
            raise ContentError(message)
        try:
            self.state = plain(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            message = f"it is no state of a projection: {error}"
            raise ContentError(message) from error


def _compared(name: str, old: _Baseline, new: _Baseline) -> ProjectionDiff:
    changes: list[ResourceChange] = []
    if old.resources is not None and new.resources is not None:
        changes = _resource_changes(old.resources, new.resources)
    return ProjectionDiff(
        name=name,
        position=new.head.position,
        before=old.label,
        after=new.label,
        resources=changes,
        old=old.state,
        new=new.state,
        before_stopped=old.stopped,
        after_stopped=new.stopped,
    )


def _resource_changes(old: Resources, new: Resources) -> list[ResourceChange]:
    keys = {each.key for each in old} | {each.key for each in new}
    changes: list[ResourceChange] = []
    for key in sorted(keys, key=lambda text: text.split("/")):
        before, after = old.get(key), new.get(key)
        if not same_content(before, after):
            changes.append(
                ResourceChange(before=_resource(before), after=_resource(after))
            )
    return changes


def _resource(record: Record | None) -> Resource[Any] | None:
    return None if record is None else Resource(record)
