"""Opening a store: puts together what runs, starts it, and ends it in order."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from evstore.background import background
from evstore.commit.arguments import Arguments
from evstore.commit.committer import Committer
from evstore.commit.live import LiveState
from evstore.commit.refolding import Refolder
from evstore.config import Config, StoreType
from evstore.folds.projection import Projection, definitions_of
from evstore.instances.health import Vitals
from evstore.instances.instance import Follower, Presence
from evstore.instances.leadership import Leaderships
from evstore.instances.snapshotting import Snapshotter
from evstore.log import open_log
from evstore.log.current import current_log
from evstore.schemas import Schema, Schemas, Upcaster
from evstore.snapshots.start import origin_of
from evstore.watching.tail import Tail

from .facade import Store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from evstore.mirror.mirror import Mirror


@asynccontextmanager
async def open(  # noqa: A001 - evstore.open reads as it should
    config: Config | None = None,
    *,
    types: Iterable[type[Any] | Schema] = (),
    upcasters: Iterable[Upcaster] = (),
    projections: Iterable[Projection[Any]] = (),
) -> AsyncGenerator[Store]:
    """Open the store that `config` names; without one, an empty store in memory.

    The state is that of the log before the body begins: folded from its first event, or
    from a snapshot on. At the end the commands that wait are appended, then all
    connections are closed.

    Args:
        config: as `load_config` returns it.
        types: `msgspec.Struct` types; the name of each is a resource type, whose specs
            are then validated on write and decoded into the struct on read. A `Schema`
            also says which schema version this program writes; without one, that is
            where the type's upcasters lead to, or 1.
        upcasters: what makes older bodies current whenever they are read.
        projections: projections of one's own, instances; `Store.view` reads them.

    Raises:
        InvalidError: a type, an upcaster or a projection cannot be used.
        SchemaError: the database is not at the version that this program needs, or the
            log has an event in a shape that it does not know.
        UnavailableError: the database cannot be reached.
        ConfigError: the server refuses user, password or database.
    """
    schemas = Schemas(types, upcasters)
    async with open_with(config or Config(), schemas, projections) as store:
        yield store


@asynccontextmanager
async def open_with(
    config: Config, schemas: Schemas, projections: Iterable[Projection[Any]] = ()
) -> AsyncGenerator[Store]:
    """Open the store for a program that declares `schemas`; see `open`.

    With `AS_STORED` it hands out and writes what there is, whatever its schema version.
    """
    limits = config.evstore.limits
    arguments = Arguments(schemas.structs.values(), actor=config.evstore.actor)
    definitions = definitions_of(projections)
    async with open_log(config) as stored, background() as tasks:
        await stored.connect()
        log = current_log(stored, schemas)
        origin = origin_of(log, schemas, definitions)
        state = await origin.state()
        tail = Tail(state.position, events_max=limits.tail_events_max)
        live = LiveState(log, origin, state, tail, schemas)
        committer = Committer(log, live, limits)
        presence = Presence(log, committer, origin.fingerprint)
        leaderships = Leaderships(
            log, committer, tail, arguments, presence=presence, tasks=tasks
        )
        follower = Follower(log, committer, config.evstore.poll_interval)
        vitals = Vitals(config.evstore, log, committer, tail, follower, presence)
        # What is in memory alone ends with it: nothing would ever start from there.
        lasting = config.type is not StoreType.MEMORY
        every = config.evstore.snapshots.every_events if lasting else 0
        snapshotter = Snapshotter(log, committer, origin, every=every)
        store = Store(
            config,
            log,
            committer,
            tail,
            arguments,
            schemas=schemas,
            stored=stored,
            vitals=vitals,
            leaderships=leaderships,
        )
        tasks.start_soon(committer.run)
        tasks.start_soon(follower.run)
        tasks.start_soon(vitals.run)
        tasks.start_soon(presence.run, config.evstore.heartbeat_interval)
        tasks.start_soon(leaderships.run)
        tasks.start_soon(snapshotter.run)
        mirror = _mirror(config, committer, tail)
        if mirror is not None:
            tasks.start_soon(mirror.run)
        if definitions:
            tasks.start_soon(Refolder(log, live).run)
        try:
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                await leaderships.aclose()
                await committer.aclose(seconds=limits.append_timeout)
                await snapshotter.aclose(seconds=limits.append_timeout)
                await presence.aclose()


def _mirror(config: Config, committer: Committer, tail: Tail) -> Mirror | None:
    """Return what shows the current state in the cluster, where that is wanted."""
    if config.type is not StoreType.KUBERNETES or not config.kubernetes.mirror.enabled:
        return None
    from evstore.mirror.mirror import Mirror  # noqa: PLC0415 - an extra

    return Mirror(config, resources=lambda: committer.projections.resources, tail=tail)
