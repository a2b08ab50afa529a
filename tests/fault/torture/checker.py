"""The checker: all that a history and the log must agree on. Pure.

A checker that looks at states in the middle of a run would have to stop the run. This
one looks at what was written down, afterwards: the log is one order of all writes, so
each statement is right or wrong at certain positions, and the clock says which positions
can be meant: what was acknowledged before a call was there when it began, and what was
asked for after it was not there when it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .call_rules import check_reads, check_verdicts
from .evidence import Evidence
from .log_rules import check_log
from .state_rules import check_states
from .watch_rules import check_watches
from .write_rules import check_writes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore.model import Head, StoredEvent

    from .evidence import Violation
    from .records import History


def check(
    genesis: Head,
    events: Sequence[StoredEvent],
    histories: Sequence[History],
    *,
    floor: int = 0,
) -> list[Violation]:
    """Return everything that is wrong.

    `events` is the whole log as it is at the end, with what was compacted meanwhile, up
    to `floor`. The histories are of all who wrote to it, those of one process in the
    order of its lives.
    """
    evidence = Evidence(genesis, events, histories, floor=floor)
    broken = list(check_log(evidence))
    return [
        *broken,
        *check_writes(evidence),
        *check_verdicts(evidence),
        *check_reads(evidence),
        *check_watches(evidence),
        # A log that is broken cannot be folded.
        *([] if broken else check_states(evidence)),
    ]
