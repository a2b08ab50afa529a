"""Compaction of a log in a cluster: the state is certified, then the floor is raised."""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from evstore.clock import to_datetime, to_microseconds
from evstore.codec import unbroken
from evstore.config import StoreType
from evstore.errors import CompactedError, ConfigError, InvalidError
from evstore.folds.projection import BUILT_IN
from evstore.folds.projections import Projections
from evstore.log import AuditedEvent, Base
from evstore.log.extras import extra
from evstore.model import Operation, StoredEvent
from evstore.proof import chain
from evstore.snapshots.floor import begin

if TYPE_CHECKING:
    from collections.abc import Callable

    from evstore.config import Config
    from evstore.log.kubernetes import Compactor, KubernetesLog, Plan

# Whoever was heard of since then is running, and what it has not read stays.
RUNNING: Final = timedelta(hours=1)


class Compaction(msgspec.Struct, frozen=True, kw_only=True):
    """What a compaction did, or would do.

    The history began after `before`, and begins after `floor` now. `objects` are those
    that could go, with so many `bytes` of events; `removed` is how many went.
    `leftovers` are pieces that nothing refers to, with so many `leftover_bytes`; they
    went as well, or would.
    `resources` is how many the certified state has, None where there is no new one.
    `held_by` is an instance that needs more than was to be kept. `projections` are those
    of programs' own that were seen: they cannot be folded from the first event again.
    """

    before: int
    floor: int
    head: int
    objects: int
    bytes: int
    removed: int
    leftovers: int
    leftover_bytes: int
    resources: int | None
    held_by: str | None
    projections: tuple[str, ...]


async def compact(
    config: Config,
    *,
    keep_since: int | datetime | None = None,
    keep_events: int | None = None,
    dry_run: bool = False,
    force: bool = False,
    advance: Callable[[int], None] | None = None,
) -> Compaction:
    """Remove history below a certified state, of a log in a cluster.

    What is kept is at least what is asked for: whole objects are removed, never one
    younger than an hour, nor the last, nor what a running instance has not read. The log
    is verified first; the state at the floor is folded from what the cluster has, stored,
    and read back, before anything goes. What a run that was broken off has left is
    removed by the next, and with it pieces that nothing refers to and nothing can: of
    large appends that lost a race or failed, of snapshots and certified states that were
    not finished. Pieces younger than an hour stay. Where nothing is said of what is to
    be kept, only such leftovers go.

    Args:
        config: of a store in a cluster.
        keep_since: a position or an aware datetime; what it names stays.
        keep_events: so many events stay.
        dry_run: change nothing, and say what would go.
        force: also where projections of programs' own were seen, which cannot be folded
            from events that were removed.
        advance: is told up to which position the log has been verified.

    Raises:
        ConfigError: the store type has no cluster, or our account lacks the role.
        InvalidError: both is asked for; there are projections of programs' own; the log
            does not verify, or a redaction is not done. Nothing was done.
        CompactedError: another run came in between. Nothing was done; run it again.
        UnavailableError: the cluster cannot be reached. Run it again.
    """
    if config.type is not StoreType.KUBERNETES:
        message = f"store.type is {config.type.value}: nothing is ever removed there"
        raise ConfigError(f"{message}; only a log in a cluster is compacted")
    if keep_since is not None and keep_events is not None:
        message = "say what is kept: since a moment, or so many events, not both"
        raise InvalidError(message)
    with extra("kubernetes"):
        from evstore.log.kubernetes import open_kubernetes  # noqa: PLC0415 - an extra
    async with open_kubernetes(config) as log:
        await log.connect()
        head = await log.head()
        before = log.floor.position
        wanted, held_by = await _needed(
            log, await _wanted(log, head.position, keep_since, keep_events)
        )
        compactor = log.compactor()
        await compactor.check_rights()
        plan = await compactor.plan(wanted)
        projections = await _projections(log)
        resources, removed = None, 0
        if dry_run:
            left = await compactor.leftovers()
        else:
            if plan.floor > before:
                _check_forced(projections, force=force)
                resources = await _raise(log, compactor, plan, advance)
            removed = await compactor.sweep()
            left = await compactor.clear()
        return Compaction(
            before=before,
            floor=plan.floor,
            head=head.position,
            objects=plan.objects,
            bytes=plan.bytes,
            removed=removed,
            leftovers=left.objects,
            leftover_bytes=left.bytes,
            resources=resources,
            held_by=held_by,
            projections=projections,
        )


async def _wanted(
    log: KubernetesLog, head: int, since: int | datetime | None, events: int | None
) -> int:
    """Return the last position that need not be kept."""
    if events is not None:
        if events < 0:
            raise InvalidError("must not be negative", path="keep_events")
        return max(0, head - events)
    if since is None:
        return 0
    if isinstance(since, int):
        return max(0, since - 1)
    try:
        return (await log.locate(to_microseconds(since) - 1)).position
    except CompactedError as error:
        return error.oldest
    except ValueError as error:
        raise InvalidError(str(error), path="keep_since") from error


async def _needed(log: KubernetesLog, wanted: int) -> tuple[int, str | None]:
    """Return up to where no running instance needs the log, and who needs it there."""
    limit = to_datetime(log.clock()) - RUNNING
    held_by: str | None = None
    for each in await log.instances():
        running = each.seen_at is not None and each.seen_at > limit
        if running and each.position < wanted:
            wanted, held_by = each.position, str(each.id)
    return wanted, held_by


async def _projections(log: KubernetesLog) -> tuple[str, ...]:
    """Return the projections of programs' own that instances or snapshots tell of."""
    labels = [label for each in await log.instances() for label in each.projections]
    labels += [each.stamp.label for each in await log.snapshots()]
    return tuple(sorted({label.partition(":")[0] for label in labels} - {BUILT_IN}))


def _check_forced(projections: tuple[str, ...], *, force: bool) -> None:
    if projections and not force:
        message = (
            f"there are projections of programs' own: {', '.join(projections)}. They "
            "could begin only from snapshots at or above the new floor, and never be "
            "folded from the first event again. Nothing was done; force it if that is "
            "no loss"
        )
        raise InvalidError(message)


async def _raise(
    log: KubernetesLog,
    compactor: Compactor,
    plan: Plan,
    advance: Callable[[int], None] | None,
) -> int:
    """Certify the state at the new floor, and raise it; return how many resources."""
    proof = await chain.verify(log, advance=advance)
    if proof.findings:
        message = f"the log does not verify: {proof.findings[0].text}"
        raise InvalidError(f"{message}. Nothing was done")
    if proof.unfinished:
        position = proof.unfinished[0].position
        message = f"a redaction of position {position} was announced and is not done"
        raise InvalidError(f"{message}: finish it first. Nothing was done")
    base = await _fold(log, plan.floor)
    candidate = await compactor.store(base)
    again = Projections(log.genesis)
    begin(again, await compactor.load(candidate.floor))
    if (again.head, again.resources.digest()) != (base.head, base.digest):
        await compactor.discard(candidate.floor)
        message = "the stored state is not the one that was folded. Nothing was done"
        raise InvalidError(message)
    if not await compactor.raise_floor(candidate):
        message = "another compaction came in between. Nothing was done; run it again"
        raise CompactedError(message, oldest=log.floor.position)
    return len(base.events)


async def _fold(log: KubernetesLog, until: int) -> Base:
    """Fold what the cluster has, up to a position that is the end of an object."""
    projections = Projections(log.genesis)
    last: dict[str, StoredEvent] = {}
    previous = log.floor
    base = await log.base()
    if base is not None:
        begin(projections, base)
        last = {event.key: event for event in base.events}
        previous = base.head
    async with aclosing(log.audit(after=previous.position, until=until)) as chunks:
        async for chunk in chunks:
            if not unbroken(previous.hash, chunk):
                message = "the log changed since it was verified. Nothing was done"
                raise InvalidError(message)
            previous = chunk[-1].head
            projections.apply(chunk)
            for event in chunk:
                if event.operation is Operation.DELETED:
                    del last[event.key]
                elif event.operation is not Operation.REDACTED:
                    last[event.key] = _stored(event)
    resources = projections.resources
    if projections.position != until or {
        each.key: each.version for each in resources
    } != {key: event.position for key, event in last.items()}:
        message = f"the log does not lead to position {until}. Nothing was done"
        raise InvalidError(message)
    return Base(
        head=projections.head,
        digest=resources.digest(),
        events=sorted(last.values(), key=lambda event: event.position),
        requests=[
            (name, each.digest, each.commit, each.time)
            for name, each in projections.requests.items()
        ],
        newest_schemas=dict(resources.newest_schemas),
    )


def _stored(event: AuditedEvent) -> StoredEvent:
    """Return an event without what only an audit tells of it."""
    known = msgspec.structs.asdict(event)
    del known["stored_size"]
    return StoredEvent(**known)
