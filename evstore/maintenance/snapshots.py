"""Snapshots as an operator handles them: listed, made, dropped, and verified."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

from evstore.errors import InvalidError
from evstore.folds.projection import BUILT_IN
from evstore.instances.instance import CODE_VERSION
from evstore.log import open_log
from evstore.snapshots.content import ContentError, folds_of
from evstore.snapshots.start import read
from evstore.snapshots.taking import take

from .differing import first_difference
from .folding import bring
from .programs import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from evstore.app import App
    from evstore.config import Config
    from evstore.folds.projections import Projections
    from evstore.folds.stopped import Stopped
    from evstore.log import Log, Snapshot
    from evstore.snapshots.content import Fold
    from evstore.snapshots.start import Origin


class Belonging(enum.StrEnum):
    """Whose a snapshot is, seen from a log and a program."""

    OWN = "own"
    """Of this log and this program: a start may begin from it."""

    OTHER_CODE = "other code"
    """Of this log, and of a program with another version, or with other upcasters."""

    LOST_END = "lost end"
    """Of a place that this log has not, or not with that hash."""

    COMPACTED = "compacted"
    """Of a place below the floor of this log: nothing leads on from there."""

    OTHER_LOG = "other log"
    """Of another log, that a restored or copied database has brought along."""


class Verdict(enum.StrEnum):
    """What came out for a snapshot."""

    RIGHT = "right"
    """It is what a replay of the log up to its position comes to."""

    WRONG = "wrong"
    """It is not; a start would drop it, or come to a wrong state."""

    UNKNOWN = "unknown"
    """Its chunks are those that were stored, but only its own program can judge them."""

    GONE = "gone"
    """It was dropped or pruned meanwhile."""


class StoredSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot, and whose it is."""

    snapshot: Snapshot
    belonging: Belonging


class CreatedSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a projection of which a snapshot was to be taken at `position`.

    `snapshot` is None where none was: it has stopped, as `stopped` says, or another
    instance was saving one in that moment.
    """

    name: str
    version: int
    label: str
    position: int
    snapshot: Snapshot | None
    stopped: Stopped | None = None


class VerifiedSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What came out for a snapshot, and why.

    `what` is, where it is the state that differs, the first that does: the key of a
    resource, `request ID`, or the JSON pointer to a member of a state of one's own.
    """

    snapshot: Snapshot
    verdict: Verdict
    reason: str = ""
    what: str | None = None


async def list_snapshots(
    config: Config, *, app: App | None = None
) -> list[StoredSnapshot]:
    """Return all snapshots, the one of the highest position first.

    Without an app those are other code's that were not taken of resources as stored.

    Raises:
        InvalidError: what the app declares cannot be used.
        ConfigError: our role may not read them.
        SchemaError: the database is not at the version that this program needs.
        UnavailableError: the log cannot be read.
    """
    labels = {code.label for code in Program(app).codes}
    async with open_log(config) as log:
        await log.connect()
        return [
            StoredSnapshot(snapshot=each, belonging=await _belonging(log, each, labels))
            for each in await log.snapshots()
        ]


async def create_snapshots(
    config: Config,
    *,
    app: App | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> list[CreatedSnapshot]:
    """Bring each projection to the head, and keep a snapshot of it.

    Begins from the snapshots that are there; `advance` is told how many events have
    been folded, and of how many. Each is kept whole or not at all; of each label the last
    two stay.

    Raises:
        InvalidError: what the app declares cannot be used.
        ConfigError: our role may not keep them.
        SchemaError: the database is not at the version that this program needs, or an
            event is in a shape that the app does not know.
        UnavailableError: the log cannot be read.
    """
    async with Program(app).origin(config) as origin:
        projections = await origin.begun()
        begin = projections.behind
        head = (await origin.log.head()).position

        def told(position: int) -> None:
            if advance is not None:
                advance(position - begin, head - begin)

        told(begin)
        await bring(origin.log, projections, until=head, advance=told)
        return [
            await _create(origin, projections, fold) for fold in folds_of(projections)
        ]


async def _create(
    origin: Origin, projections: Projections, fold: Fold
) -> CreatedSnapshot:
    taken = await take(
        origin.log,
        fold,
        fingerprint=origin.fingerprint,
        code_version=CODE_VERSION,
    )
    stopped = {each.name: each.stopped for each in projections.custom}
    return CreatedSnapshot(
        name=fold.name,
        version=fold.version,
        label=origin.label(fold),
        position=fold.head.position,
        snapshot=taken,
        stopped=stopped.get(fold.name),
    )


async def drop_snapshots(
    config: Config,
    ids: Sequence[UUID] | None = None,
    *,
    projection: str | None = None,
) -> int:
    """Drop the snapshots with these ids, or of a projection, or all; return how many.

    A start then replays what they had folded, and instances take new ones when those
    are due. Either all of them are dropped or none; of a log in a cluster one after the
    other, so where this fails some may be gone.

    Raises:
        InvalidError: there is no snapshot with one of the ids; none was dropped.
        ConfigError: our role may not drop them.
        SchemaError: the database is not at the version that this program needs.
        UnavailableError: the log cannot be reached; nobody knows.
    """
    async with open_log(config) as log:
        if ids is None and projection is None:
            return await log.drop_snapshots()
        found = {each.id: each for each in await log.snapshots()}
        for each in ids or ():
            if each not in found:
                message = f"there is no snapshot {each}; nothing was dropped"
                raise InvalidError(message, path="ids")
        chosen = [
            each.id
            for each in found.values()
            if (ids is None or each.id in ids)
            and projection in {None, each.stamp.projection}
        ]
        return await log.drop_snapshots(chosen)


async def verify_snapshots(
    config: Config,
    *,
    app: App | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> list[VerifiedSnapshot]:
    """Read each snapshot, and compare it with a replay of the log; change nothing.

    Of each: whether the log has its place, whether its chunks are those that were
    stored, whether they can be decoded to a state with its digest, and whether that is
    the state that the log comes to there. The log is replayed once, up to the last of
    them. The lowest position comes first. `advance` is told how many events have been
    folded, and of how many.

    Of a log that was compacted, the replay begins at its floor, and only snapshots of
    the built-in projection can be compared: others cannot be folded from there.

    Raises:
        InvalidError: what the app declares cannot be used.
        ConfigError: our role may not read them.
        SchemaError: the database is not at the version that this program needs, or an
            event is in a shape that the app does not know.
        UnavailableError: the log cannot be read.
    """
    async with open_log(config) as stored:
        await stored.connect()
        names = [BUILT_IN] if stored.floor.position else []
        origin = Program(app).begins(stored, names=names)
        log = origin.log
        fresh = await origin.beginning()
        labels = {origin.label(fold) for fold in folds_of(fresh)}
        found = (await log.snapshots())[::-1]
        own = [
            each
            for each in found
            if await _belonging(log, each, labels) is Belonging.OWN
        ]
        last = own[-1].stamp.head.position if own else 0
        verified: list[VerifiedSnapshot] = []

        def told(position: int) -> None:
            if advance is not None:
                advance(position, last)

        told(0)
        for each in found:
            if each in own:
                # Not while a snapshot is read: there may be no second connection.
                until = each.stamp.head.position
                await bring(log, fresh, until=until, advance=told)
                judged = await _compared(origin, fresh, each)
            else:
                judged = await _looked_at(log, each, labels)
            if judged.verdict is Verdict.WRONG and await _is_gone(log, each):
                judged = VerifiedSnapshot(snapshot=each, verdict=Verdict.GONE)
            verified.append(judged)
        return verified


async def _belonging(log: Log, snapshot: Snapshot, labels: set[str]) -> Belonging:
    stamp = snapshot.stamp
    if stamp.log != log.identity:
        return Belonging.OTHER_LOG
    if stamp.head.position < log.floor.position:
        return Belonging.COMPACTED
    if await log.place(stamp.head.position) != stamp.head:
        return Belonging.LOST_END
    return Belonging.OWN if stamp.label in labels else Belonging.OTHER_CODE


async def _is_gone(log: Log, snapshot: Snapshot) -> bool:
    return all(each.id != snapshot.id for each in await log.snapshots())


async def _looked_at(
    log: Log, snapshot: Snapshot, labels: set[str]
) -> VerifiedSnapshot:
    """Judge a snapshot that this program cannot fold: its place and its chunks."""
    belonging = await _belonging(log, snapshot, labels)
    verdict = Verdict.UNKNOWN
    if belonging is Belonging.LOST_END:
        verdict, reason = Verdict.WRONG, "the log has no event with its hash there"
    elif belonging is Belonging.OTHER_LOG:
        reason = f"it is of the log {snapshot.stamp.log}; drop it, nothing reads it"
    elif belonging is Belonging.COMPACTED:
        reason = "the log was compacted beyond it; drop it, nothing reads it"
    elif log.floor.position and snapshot.stamp.projection != BUILT_IN:
        reason = "the log was compacted: there is no replay to compare it with"
    else:
        reason = "only the program that took it can judge it: give its --app"
    if verdict is Verdict.UNKNOWN:
        try:
            await read(log, snapshot, _Ignoring())
        except ContentError as error:
            verdict, reason = Verdict.WRONG, str(error)
    return VerifiedSnapshot(snapshot=snapshot, verdict=verdict, reason=reason)


async def _compared(
    origin: Origin, replayed: Projections, snapshot: Snapshot
) -> VerifiedSnapshot:
    """Judge a snapshot of this program by a replay up to its position."""
    stamp = snapshot.stamp
    restored = origin.fresh()
    (fold,) = (f for f in folds_of(restored) if f.name == stamp.projection)
    reading = fold.reading()
    try:
        await read(origin.log, snapshot, reading)
        reading.thaw(stamp.head, stamp.digest)
    except ContentError as error:
        return VerifiedSnapshot(
            snapshot=snapshot, verdict=Verdict.WRONG, reason=str(error)
        )
    what = first_difference(replayed, restored, stamp.projection)
    if what is None:
        return VerifiedSnapshot(snapshot=snapshot, verdict=Verdict.RIGHT)
    return VerifiedSnapshot(
        snapshot=snapshot,
        verdict=Verdict.WRONG,
        reason="a replay of the log comes to another state",
        what=what,
    )


class _Ignoring:
    """Reads the chunks of a state that nobody here can put together."""

    def add(self, chunk: bytes) -> None:
        """Take the next chunk."""

    def thaw(self, head: object, digest: bytes) -> None:
        """Have nothing begin from it."""
