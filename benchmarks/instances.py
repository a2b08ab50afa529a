"""How much do several instances change together, and does any of them starve?

Instances are processes, each with 16 callers that change resources of their own, all on
one database. A gap is the longest time in which none of an instance's changes was
answered.

Usage: python benchmarks/instances.py [--seconds N] [--rounds N] [--quick]
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from figures import Aim, Figure, longest_gap, ratios
from harness import arguments, fresh, report, server, settings_of, worker
from load import instance

if TYPE_CHECKING:
    from load import Load

    from evstore.embedded import EmbeddedServer

INSTANCES = (1, 2, 4, 8)
CALLERS = 16
AIMED = 4  # instances that the aims speak of


class Together(NamedTuple):
    """What the instances of one round did: rates, shares and gaps, one of each."""

    rate: float
    shares: list[float]
    gaps: list[float]


def together(
    running: EmbeddedServer, number: int, seconds: float, name: str
) -> Together:
    """Run some instances at once on a new database."""
    config = fresh(running, name)
    with ExitStack() as stack:
        pipes = [
            stack.enter_context(worker(instance, config, CALLERS))
            for _ in range(number)
        ]
        for pipe in pipes:
            pipe.recv()  # it has its resources
        for pipe in pipes:
            pipe.send(seconds)
        loads: list[Load] = [pipe.recv() for pipe in pipes]
    # Processes begin a moment apart; what counts is the time that all of them share.
    began = max(load.began for load in loads)
    ended = min(load.ended for load in loads)
    counts = [sum(began <= each <= ended for each in load.answered) for load in loads]
    kept = int(running.psql("SELECT count(*) FROM evstore.events", database=name))
    assert kept >= sum(len(load.answered) for load in loads) + number * CALLERS
    running.drop_database(name)
    return Together(
        rate=sum(counts) / (ended - began),
        shares=[count / sum(counts) for count in counts],
        gaps=[longest_gap(load.answered, began=began, ended=ended) for load in loads],
    )


def main() -> None:
    options = arguments(__doc__, rounds={"type": int, "default": 5, "quick": 1})
    found: dict[int, list[Together]] = {number: [] for number in INSTANCES}
    with server() as running:
        settings = settings_of(running)
        for index in range(options.rounds):
            for number in INSTANCES[:: -1 if index % 2 else 1]:
                name = f"instances_{index}_{number}"
                found[number].append(together(running, number, options.seconds, name))
                running.psql("CHECKPOINT")
    alone = [each.rate for each in found[1]]
    rows = []
    for number, rounds in found.items():
        rates = [each.rate for each in rounds]
        rows.append(
            [
                number,
                Figure.of(rates),
                f"{ratios(rates, alone).median:.0%}",
                Figure.of(min(each.shares) * 100 for each in rounds),
                Figure.of(max(each.shares) * 100 for each in rounds),
                Figure.of(max(each.gaps) * 1e3 for each in rounds),
            ]
        )
    four = found[AIMED]
    report(
        f"changes a second of several instances, {CALLERS} callers each",
        [
            "instances",
            "changes/s",
            "of one",
            "smallest share %",
            "largest share %",
            "longest gap ms",
        ],
        rows,
        aims=[
            Aim(
                f"{AIMED} instances, beside one",
                45,
                ratios([each.rate for each in four], alone).median * 100,
                "%",
            ),
            Aim(
                f"longest gap of any of {AIMED} instances, in any round",
                100,
                max(max(each.gaps) for each in four) * 1e3,
                "ms",
                at_most=True,
            ),
        ],
        settings=settings,
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
