"""Probes: what `evstore doctor` asks an API server. They change nothing, judge nothing.

Each stands for itself: what one of them is refused is `Unknown`, and the others go on.
What would be created is tried as a dry run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evstore.doctor.facts import Clock, Unknown
from evstore.doctor.kubernetes.facts import Facts, Log
from evstore.log.kubernetes import manifests
from evstore.log.kubernetes.client import Client
from evstore.log.kubernetes.dates import DatedClock
from evstore.log.kubernetes.shelf import Shelf

from .access import Access
from .activity import Activity
from .contents import Contents
from .known import known

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
    access = Access(client, clock, mirror=mirror)
    # The first answer says whether there is a server, and whether it lets us in.
    version = await access.version()
    kinds = await known(access.kinds)
    activity = Activity(client, clock)
    instances = await known(activity.instances)
    contents = Contents(client, Shelf(client), clock, activity.labels)
    # Who may not look at the kinds may find what they are of.
    usable = isinstance(kinds, Unknown) or all(each.served for each in kinds)
    found = await known(contents.look) if usable else None
    there = isinstance(found, Log)
    return Facts(
        way=access.way(),
        version=version,
        account=await access.account(),
        token=await access.token(),
        namespace=await known(access.namespace),
        kinds=kinds,
        kinds_needed=manifests.SCHEMA_VERSION,
        rights=await known(access.rights),
        writable=await known(access.writable) if usable else None,
        watch=(
            await known(contents.watch) if usable and config.evstore.notify else None
        ),
        log=found,
        floor=await known(contents.floor) if usable else None,
        snapshots=contents.snapshots if there else None,
        leftovers=contents.leftovers if there else None,
        instances=instances,
        turns=await known(activity.turns),
        mirror=await known(activity.mirror) if mirror else None,
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
