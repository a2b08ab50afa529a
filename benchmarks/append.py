"""How many durable changes a second does one store make, and how long does each take?

Each caller updates a resource of its own, one change after the other, 350 bytes of JSON;
fsync is on. Beside it, in the same run and in turn, what a user would pick instead (see
`benchmarks/peers`), a bare INSERT of one row into the same table, and binary COPY.

Usage: python benchmarks/append.py [--seconds N] [--rounds N] [--quick]
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import anyio
from figures import Aim, Figure, percentile, ratios
from harness import arguments, fresh, report, server, settings_of
from load import changes
from peers import MissingError, Outcome
from peers.bare_insert import BareInsert
from peers.binary_copy import BinaryCopy
from peers.emmett import Emmett
from peers.etcd import Etcd
from peers.kuma import KumaInsert, KumaUpdate
from peers.message_db import MessageDb, MessageDbCategories
from peers.pyeventsourcing import PyEventSourcing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from peers import Peer

    from evstore.embedded import EmbeddedServer

CALLERS = (1, 8, 64, 256)
CLIENTS = (1, 8, 50)  # 50 is Kuma's largest pool
PEERS: tuple[tuple[type[Peer], tuple[int, ...]], ...] = (
    (KumaUpdate, CLIENTS),
    (KumaInsert, CLIENTS),
    (PyEventSourcing, CLIENTS),
    (MessageDb, CLIENTS),
    (MessageDbCategories, CLIENTS),
    (Emmett, CLIENTS),
    (Etcd, (*CLIENTS, 256)),
    (BareInsert, (1,)),
    (BinaryCopy, (1,)),
)
RIVALS = {
    "Kuma's best": (KumaUpdate.name, KumaInsert.name),
    "pyeventsourcing's best": (PyEventSourcing.name,),
    "message-db's best, all in one order": (MessageDb.name,),
    "message-db's best, no common order": (MessageDbCategories.name,),
    "emmett's best": (Emmett.name,),
    "etcd's best": (Etcd.name,),
}
EVSTORE = "evstore"
LOADED = 64  # callers that the aims speak of


def main() -> None:
    options = arguments(__doc__, rounds={"type": int, "default": 5, "quick": 1})
    found: dict[tuple[str, int], list[Outcome]] = defaultdict(list)
    missing: dict[str, str] = {}
    abouts: list[str] = []
    with server() as running, ExitStack() as stack:
        settings = settings_of(running)
        runs: dict[tuple[str, int], Callable[[float], Outcome]] = {
            (EVSTORE, callers): partial(_evstore, running, callers)
            for callers in CALLERS
        }
        for kind, clients in PEERS:
            peer = kind()
            try:
                peer.prepare(running)
            except MissingError as error:
                missing[peer.name] = str(error)
                continue
            stack.callback(peer.close)
            abouts.append(f"{peer.name}: {peer.about}")
            runs |= {(peer.name, each): partial(peer.changes, each) for each in clients}
        for number in range(options.rounds):
            # Every other round backwards: who comes last has the fullest server.
            for key in list(runs)[:: -1 if number % 2 else 1]:
                found[key].append(runs[key](options.seconds))
                running.psql("CHECKPOINT")
    order = {key: index for index, key in enumerate(runs)}
    rows = [
        _row(name, clients, found[name, clients], found)
        for name, clients in sorted(found, key=lambda key: order[key])
    ]
    rows += [[name, None, "missing", None, None, None] for name in missing]
    abouts += [f"{name}: missing: {reason}" for name, reason in missing.items()]
    report(
        "durable changes a second",
        ["what", "clients", "changes/s", "p50 ms", "p99 ms", "of COPY"],
        rows,
        aims=_aims(found),
        notes=abouts,
        settings=settings,
        quick=options.quick,
    )


def _evstore(running: EmbeddedServer, callers: int, seconds: float) -> Outcome:
    """Measure on a database of its own, so that no round replays another's events."""
    name = f"append_{time.monotonic_ns()}"
    load = anyio.run(changes, fresh(running, name), callers, seconds)
    running.drop_database(name)
    return Outcome(len(load.answered), load.ended - load.began, load.latencies)


def _row(
    name: str,
    clients: int,
    outcomes: Sequence[Outcome],
    found: Mapping[tuple[str, int], Sequence[Outcome]],
) -> list[object]:
    rates = [outcome.rate for outcome in outcomes]
    timed = [outcome.latencies for outcome in outcomes if outcome.latencies]
    copied = [outcome.rate for outcome in found[BinaryCopy.name, 1]]
    return [
        name,
        clients,
        Figure.of(rates),
        Figure.of(percentile(each, 0.5) * 1e3 for each in timed) if timed else None,
        Figure.of(percentile(each, 0.99) * 1e3 for each in timed) if timed else None,
        f"{ratios(rates, copied).median:.0%}",
    ]


def _aims(
    found: Mapping[tuple[str, int], Sequence[Outcome]],
) -> list[Aim]:
    rates = {
        key: [outcome.rate for outcome in outcomes] for key, outcomes in found.items()
    }
    ours = rates[EVSTORE, LOADED]
    at = f"{LOADED} callers"
    aims = []
    for best_of, names in RIVALS.items():
        what = f"{at}, beside {best_of}"
        theirs = [rates[key] for key in rates if key[0] in names]
        if not theirs:
            aims.append(Aim(what, 10, None))
            continue
        best = max(theirs, key=lambda values: Figure.of(values).median)
        aims.append(Aim(what, 10, ratios(ours, best).median))
    copied = ratios(ours, rates[BinaryCopy.name, 1]).median * 100
    aims.append(Aim(f"{at}, beside binary COPY", 45, copied, "%"))
    medians = [
        [percentile(outcome.latencies, 0.5) for outcome in found[key]]
        for key in ((EVSTORE, 1), (BareInsert.name, 1))
    ]
    one = ratios(*medians).median
    aims.append(
        Aim("median of one caller, beside a bare INSERT", 1.8, one, at_most=True)
    )
    return aims


if __name__ == "__main__":
    main()
