"""How `evstore projection` shows what stands, what differs, and what would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from .differences import block, difference_document, difference_lines
from .documents import local_time, rfc3339
from .tables import Column, print_table, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore.folds.stopped import Stopped
    from evstore.log import Instance
    from evstore.maintenance import (
        ProjectionDiff,
        ProjectionsStatus,
        ProjectionVerification,
    )

_DIGEST_SHOWN: Final = 12


def status_document(found: ProjectionsStatus) -> dict[str, Any]:
    """Return all of a status as one document."""
    return {
        "head": found.head,
        "projections": [
            {
                "name": each.name,
                "version": each.version,
                "label": each.label,
                "stored": each.stored,
                "behind": each.behind,
                "position": each.position,
                "digest": _hex(each.digest),
                "stopped": _stop(each.stopped),
                "instances": [str(id_) for id_ in each.instances],
            }
            for each in found.projections
        ],
        "instances": [
            {
                "id": str(each.id),
                "code_version": each.code_version,
                "position": each.position,
                "projections": list(each.projections),
                "seen_at": None if each.seen_at is None else rfc3339(each.seen_at),
            }
            for each in found.instances
        ],
    }


def print_status(found: ProjectionsStatus) -> None:
    """Print a status as tables."""
    titles = ("NAME", "VERSION", "STORED", "BEHIND", "DIGEST", "INSTANCES")
    print_table(
        [*map(Column, titles), Column("STATE", least=20)],
        [
            (
                each.name,
                str(each.version),
                _place(each.stored),
                str(each.behind),
                _short(each.digest),
                f"{len(each.instances)} of {len(found.instances)}",
                _state(each.position, each.stopped),
            )
            for each in found.projections
        ],
    )
    _print_instances(found.instances)


def _print_instances(instances: Sequence[Instance]) -> None:
    if not instances:
        print("\nno instance was seen in the last minute")
        return
    print()
    print_table(
        [
            *map(Column, ("INSTANCE", "EVSTORE", "POSITION", "SEEN AT")),
            Column("PROJECTIONS", least=20),
        ],
        [
            (
                str(each.id),
                printable(each.code_version),
                str(each.position),
                "" if each.seen_at is None else local_time(each.seen_at),
                printable(" ".join(each.projections)),
            )
            for each in instances
        ],
    )


def check_document(found: ProjectionVerification) -> dict[str, Any]:
    """Return all that was found as one document."""
    return {
        "ok": found.ok,
        "head": found.head,
        "projections": [
            {
                "name": each.name,
                "version": each.version,
                "label": each.label,
                "stored": each.stored,
                "position": each.position,
                "digest": _hex(each.digest),
                "stopped": _stop(each.stopped),
                "equal": each.equal,
            }
            for each in found.projections
        ],
        "compared": [str(each.id) for each in found.compared],
        "discrepancies": [
            {
                "projection": each.projection,
                "position": each.position,
                "instance": None if each.instance is None else str(each.instance),
                "what": each.what,
                "event": each.event,
            }
            for each in found.discrepancies
        ],
    }


def print_verification(found: ProjectionVerification) -> None:
    """Print what was found as a table, and what instances told in a line."""
    titles = ("NAME", "VERSION", "FROM", "DIGEST", "START")
    print_table(
        [*map(Column, titles), Column("STATE", least=20)],
        [
            (
                each.name,
                str(each.version),
                _place(each.stored),
                _short(each.digest),
                "equal" if each.equal else "different",
                _state(each.position, each.stopped),
            )
            for each in found.projections
        ],
    )
    if not any(each.name == "resources" for each in found.projections):
        return
    count = len(found.compared)
    wrong = len([each for each in found.discrepancies if each.instance is not None])
    text = f"{count - wrong} equal" + (f", {wrong} different" if wrong else "")
    print(f"\ncompared with {count} of running instances: {text}" if count else _NONE)


_NONE: Final = "\ncompared with no instance: none has recorded a digest within a day"


def diff_document(found: ProjectionDiff) -> dict[str, Any]:
    """Return what differs in a projection of one's own for JSON, with its JSON Patch."""
    return {
        "projection": found.name,
        "position": found.position,
        "before": found.before,
        "after": found.after,
        "before_stopped": _stop(found.before_stopped),
        "after_stopped": _stop(found.after_stopped),
        "changes": [difference_document(each) for each in found.differences],
        "patch": found.patch,
    }


def print_diff(found: ProjectionDiff, *, show_values: bool) -> None:
    """Print what differs in a projection of one's own as a table.

    Nobody can tell what in such a state is secret: without `show_values` it is told what
    differs, and not from what to what.
    """
    told = found.differences
    if told:
        lines = difference_lines(told, secret=False, values=show_values)
        print_table([Column("CHANGE", least=20)], [[block(found.name, lines)]])


def _state(position: int, stopped: Stopped | None) -> str:
    if stopped is None:
        return f"runs at {position}"
    return printable(f"stopped at {stopped.position}: {stopped.cause}")


def _place(position: int | None) -> str:
    return "none" if position is None else str(position)


def _short(digest: bytes | None) -> str:
    return "" if digest is None else digest.hex()[:_DIGEST_SHOWN]


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()


def _stop(stopped: Stopped | None) -> dict[str, Any] | None:
    return None if stopped is None else msgspec.to_builtins(stopped)
