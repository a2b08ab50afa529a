"""Probes: what `evstore doctor` asks an API server. They change nothing, judge nothing.

Each stands for itself: what one of them is refused is `Unknown`, and the others go on.
What would be created is tried as a dry run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evstore.doctor.facts import Clock, Unknown
from evstore.doctor.kubernetes.facts import Facts
from evstore.log.kubernetes import manifests
from evstore.log.kubernetes.client import Client
from evstore.log.kubernetes.dates import DatedClock
from evstore.log.kubernetes.shelf import Shelf

from .access import Access
from .activity import Activity
from .contents import Contents
from .known import Finding, known, look_for, nothing

if TYPE_CHECKING:
    from evstore.config import Config

_REQUEST_SECONDS_MAX: Final = 10.0
_SECOND: Final = 1_000_000


async def examine(config: Config) -> Facts:
    """Ask the cluster that `config` names for all that a doctor looks at.

    Raises:
        ConfigError: how it is reached is not known, or it does not accept who we are.
        UnavailableError: it cannot be reached.
    """
    clock = DatedClock()
    client = Client(
        config.kubernetes, seconds=_REQUEST_SECONDS_MAX, measure=clock.measure
    )
    try:
        await client.open()
        return await _facts(client, clock, config)
    finally:
        await client.aclose()


async def _facts(client: Client, clock: DatedClock, config: Config) -> Facts:
    mirror = config.kubernetes.mirror.enabled
    access, activity = Access(client, clock, mirror=mirror), Activity(client, clock)
    # The first answer says whether there is a server, and whether it lets us in.
    version = await access.version()
    ready = Finding(access.ready)
    kinds = Finding(access.kinds)
    account = Finding(access.account)
    namespace = Finding(access.namespace)
    rights = Finding(access.rights)
    instances = Finding(activity.instances)
    turns = Finding(activity.turns)
    shown = Finding(activity.mirror if mirror else nothing)
    await look_for(ready, kinds, account, namespace, rights, instances, turns, shown)
    contents = Contents(client, Shelf(client), clock, activity.labels)
    # Who may not look at the kinds may find what they are of.
    known_kinds = kinds.found
    usable = isinstance(known_kinds, Unknown) or all(e.served for e in known_kinds)
    log = Finding(contents.look if usable else nothing)
    writable = Finding(access.writable if usable else nothing)
    floor = Finding(contents.floor if usable else nothing)
    await look_for(log, writable, floor)
    listens = usable and config.evstore.notify
    return Facts(
        way=access.way(),
        version=version,
        ready=ready.found,
        account=account.found,
        token=await access.token(),
        namespace=namespace.found,
        kinds=known_kinds,
        kinds_needed=manifests.SCHEMA_VERSION,
        rights=rights.found,
        writable=writable.found,
        watch=await known(contents.watch) if listens else None,
        log=log.found,
        floor=floor.found,
        snapshots=contents.snapshots,
        leftovers=contents.leftovers,
        instances=instances.found,
        turns=turns.found,
        mirror=shown.found,
        clock=_clock(clock),
    )


def _clock(clock: DatedClock) -> Clock | Unknown:
    bounds = clock.ahead()
    if bounds is None:
        return Unknown("the server's answers have no date")
    least, most = bounds
    return Clock(
        seconds_ahead=(least + most) / 2 / _SECOND,
        seconds_error=(most - least) / 2 / _SECOND,
    )
