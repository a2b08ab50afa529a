"""Whether what instances and starts come to is what a replay of the whole log comes to."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from evstore.folds.projection import BUILT_IN
from evstore.folds.projections import RESOURCES_VERSION
from evstore.snapshots.content import folds_of
from evstore.snapshots.start import refold

from .differing import first_difference
from .finding import event_missed, event_that_set
from .folding import digest_of, following, stopped_of
from .programs import Program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from evstore.app import App
    from evstore.config import Config
    from evstore.folds.projections import Projections
    from evstore.folds.stopped import Stopped
    from evstore.log import Instance
    from evstore.model import StoredEvent
    from evstore.snapshots.start import Origin

    from .folding import Advance


class Discrepancy(msgspec.Struct, frozen=True, kw_only=True):
    """A state that is not what the replay of the whole log comes to.

    It is that of a running `instance`, by the digest of its last heartbeat, or without
    one that of a start. They were compared at `position`. `what` is the key of the first
    resource that differs, `request ID`, or in a projection of one's own the JSON pointer
    to the first member, or `whether it runs`; `event` is the position of the event that should have set it.
    Each is None where that cannot be told.
    """

    projection: str
    position: int
    instance: UUID | None = None
    what: str | None = None
    event: int | None = None

    def __str__(self) -> str:
        whose = "a start" if self.instance is None else f"instance {self.instance}"
        text = (
            f"{self.projection}: {whose} comes to another state at position"
            f" {self.position} than the log"
        )
        if self.what is None:
            return f"{text}; what differs cannot be told from the digest"
        text += f"; the first that differs is {self.what or 'the state as a whole'}"
        if self.event is None:
            return f"{text}; which event should have set it cannot be told"
        return f"{text}, which the event at position {self.event} should have set"


class ProjectionCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one projection.

    `stored` is the position of the snapshot that a start begins from, or of the floor of
    a log that was compacted; None where it begins with the first event; `position` is what the replay has folded up to, `digest`
    that of its state, None where it has stopped; `equal` says whether a start comes to
    the same.
    """

    name: str
    version: int
    label: str
    stored: int | None
    position: int
    digest: bytes | None
    stopped: Stopped | None
    equal: bool


class ProjectionVerification(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify_projections` found; `ok` where nothing differs.

    `compared` are the instances whose digest was compared; `head` is the position up to
    which the log was replayed.
    """

    head: int
    projections: list[ProjectionCheck]
    compared: list[Instance]
    discrepancies: list[Discrepancy]

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.discrepancies


async def verify_projections(
    config: Config,
    app: App | None = None,
    *,
    names: Sequence[str] = (),
    advance: Advance | None = None,
) -> ProjectionVerification:
    """Replay the whole log, and compare with what a start and running instances come to.

    Of a log that was compacted, that is what follows the certified state at its floor.

    A start is the newest snapshot that fits and what follows it, for each projection of
    `names`, all without any. Of instances it is the digest of the resources that each
    told with its last heartbeat, in the last day. Nothing is written. `advance` is told
    how many events have been folded, and of how many.

    Raises:
        InvalidError: there is no projection of a name, or the app cannot be used.
        SchemaError: the database is not at the version that this program needs, or an
            event is in a shape that it does not know.
        CompactedError: the log was compacted, and one of the projections is a program's
            own: it cannot be folded without what was removed.
        UnavailableError: the log cannot be read.
    """
    program = Program(app)
    wanted = program.named(names)
    async with program.origin(config, names=wanted, drops=False) as origin:
        log = origin.log
        # Before the head: no instance that is asked now can be ahead of it then.
        told = await log.instances() if BUILT_IN in wanted else []
        started, replayed = await origin.begun(), await origin.beginning()
        stored = {fold.name: fold.head.position for fold in folds_of(started)}
        head = (await log.head()).position
        heartbeats = Heartbeats(told)
        heartbeats.at(replayed)
        events = log.replay(after=replayed.behind, until=head)
        async with aclosing(events) as chunks:
            async for chunk in chunks:
                for part in heartbeats.parts(chunk):
                    replayed.apply(part)
                    started.apply(following(started, part))
                    heartbeats.at(replayed)
                if advance is not None:
                    advance(replayed.position, head)
        for projections in (started, replayed):
            await refold(log, projections)
        checks: list[ProjectionCheck] = []
        discrepancies: list[Discrepancy] = []
        for fold in folds_of(replayed):
            if fold.name not in wanted:
                continue
            digest = digest_of(fold)
            found = await _compared(origin, replayed, started, fold.name)
            discrepancies += found
            checks.append(
                ProjectionCheck(
                    name=fold.name,
                    version=fold.version,
                    label=origin.label(fold),
                    stored=stored[fold.name] or None,
                    position=fold.head.position,
                    digest=digest,
                    stopped=stopped_of(replayed, fold),
                    equal=not found,
                )
            )
        discrepancies += [
            await _of_instance(origin, instance, digest)
            for instance, digest in heartbeats.different
        ]
        return ProjectionVerification(
            head=head,
            projections=checks,
            compared=heartbeats.compared,
            discrepancies=discrepancies,
        )


async def _compared(
    origin: Origin, replayed: Projections, started: Projections, name: str
) -> list[Discrepancy]:
    """Return how a fold differs that has begun from a snapshot, if it does."""
    position = replayed.position
    event: int | None
    stops = _stops(replayed, name), _stops(started, name)
    if any(stops):
        if stops[0] == stops[1]:
            return []
        what = "whether it runs"
        event = min(each.position for each in stops if each is not None)
    else:
        found = first_difference(replayed, started, name)
        if found is None:
            return []
        what = found
        event = await event_that_set(origin, replayed, started, name, what)
    return [Discrepancy(projection=name, position=position, what=what, event=event)]


def _stops(projections: Projections, name: str) -> Stopped | None:
    """Return where a fold has stopped, also where its state is not of its type."""
    (fold,) = (each for each in folds_of(projections) if each.name == name)
    digest_of(fold)
    return stopped_of(projections, fold)


async def _of_instance(
    origin: Origin, instance: Instance, digest: bytes
) -> Discrepancy:
    """Return what can be told of a digest that is not that of the replay."""
    missed = await event_missed(
        origin.log, instance.position, right=digest, told=instance.digest
    )
    return Discrepancy(
        projection=BUILT_IN,
        position=instance.position,
        instance=instance.id,
        what=None if missed is None else missed.key,
        event=None if missed is None else missed.position,
    )


class Heartbeats:
    """Compares the state with the digests of heartbeats as it passes their positions.

    Those of instances whose built-in projection has another version tell nothing.
    """

    def __init__(self, instances: Sequence[Instance]) -> None:
        self._at: dict[int, list[Instance]] = {}
        for each in instances:
            if _is_comparable(each):
                self._at.setdefault(each.position, []).append(each)
        self.compared: list[Instance] = []
        self.different: list[tuple[Instance, bytes]] = []

    def parts(self, events: list[StoredEvent]) -> Iterator[list[StoredEvent]]:
        """Yield a chunk in parts that end where there is something to compare."""
        first = events[0].position
        start = 0
        for position in sorted(self._at):
            end = position - first + 1
            if start < end < len(events):
                yield events[start:end]
                start = end
        yield events[start:]

    def at(self, projections: Projections) -> None:
        """Compare what was told of this position."""
        for instance in self._at.pop(projections.position, ()):
            digest = projections.resources.digest()
            self.compared.append(instance)
            if digest != instance.digest:
                self.different.append((instance, digest))


def _is_comparable(instance: Instance) -> bool:
    """Whether an instance's digest is of the same fold; old ones have no labels."""
    folded = f"{BUILT_IN}:{RESOURCES_VERSION}:"
    labels = instance.projections
    return not labels or any(each.startswith(folded) for each in labels)
