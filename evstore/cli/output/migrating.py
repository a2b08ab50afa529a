"""How `evstore migrate` shows what is applied, what would be done, and who runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from evstore.cli.session import say

from .charts import size
from .documents import local_time, rfc3339
from .snapshots import short_label
from .tables import Column, print_table, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore.log import Instance
    from evstore.log.kubernetes.migrations import Kind
    from evstore.maintenance import (
        MigrationPlan,
        MigrationReport,
        MigrationStatus,
        PlannedRebuild,
        PlannedStep,
        StoredProjection,
    )
    from evstore.snapshots.rebuild import Due

_LEAST: Final = 20


def status_document(found: MigrationStatus) -> dict[str, Any]:
    """Return all of a status as one document."""
    applied: list[dict[str, Any]] = [
        {
            "version": each.version,
            "name": each.name,
            "state": "dirty" if each.dirty else "applied",
            "applied_at": rfc3339(each.applied_at),
        }
        for each in found.applied
    ]
    pending: list[dict[str, Any]] = [
        {
            "version": each.version,
            "name": each.name,
            "state": "pending",
            "applied_at": None,
        }
        for each in found.pending
    ]
    if found.kinds:
        done: dict[str, Any] = {
            "version": min(each.version for each in found.kinds),
            "head": found.head,
            "kinds": _kind_documents(found.kinds),
        }
    else:
        done = {
            "version": len(found.applied),
            "head": found.head,
            "migrations": applied + pending,
        }
    return {
        **done,
        "projections": [_stored_document(each) for each in found.projections],
        "due": [_due_document(each) for each in found.due],
        "instances": _instance_documents(found.instances, found.head),
    }


def print_status(found: MigrationStatus) -> None:
    """Print a status as tables."""
    rows = [
        (
            str(each.version),
            printable(each.name),
            "dirty" if each.dirty else "applied",
            local_time(each.applied_at),
        )
        for each in found.applied
    ]
    rows += [(str(each.version), each.name, "pending", "") for each in found.pending]
    titles = ("VERSION", "NAME", "STATE", "APPLIED AT")
    print_table([Column(title) for title in titles], rows)
    _print_kinds(found.kinds)
    if found.applied or any(each.version for each in found.kinds):
        print()
        _print_projections(found.projections)
    _print_instances(found.instances, found.head)


def _stored_document(each: StoredProjection) -> dict[str, Any]:
    return {
        "name": each.name,
        "version": each.version,
        "fingerprint": each.fingerprint,
        "label": each.label,
        "own": each.own,
        "snapshots": each.snapshots,
        "size": each.size,
        "position": each.position,
        "behind": each.behind,
        "taken_at": None if each.taken_at is None else rfc3339(each.taken_at),
        "instances": list(map(str, each.instances)),
    }


def _due_document(due: Due) -> dict[str, Any]:
    return {
        "name": due.name,
        "version": due.version,
        "label": due.label,
        "stored": due.stored,
        "others": list(due.others),
        "events": due.events,
    }


def _print_projections(projections: Sequence[StoredProjection]) -> None:
    titles = (
        "PROJECTION",
        "SNAPSHOTS",
        "SIZE",
        "STORED",
        "BEHIND",
        "TAKEN AT",
        "RUN BY",
    )
    print_table(
        [Column(title) for title in titles],
        [
            (
                printable(short_label(each.label)),
                str(each.snapshots),
                size(each.size) if each.snapshots else "",
                "none" if each.position is None else str(each.position),
                str(each.behind),
                "" if each.taken_at is None else local_time(each.taken_at),
                _count(len(each.instances)),
            )
            for each in projections
        ],
    )


def _count(instances: int) -> str:
    return f"{instances} instance{'s' * (instances != 1)}" if instances else "nobody"


def report_document(report: MigrationReport) -> dict[str, Any]:
    """Return what was done as one document."""
    return {
        "version": report.version,
        "applied": [each.name for each in report.applied],
        "rebuilt": [
            {
                "name": each.name,
                "version": each.version,
                "label": each.label,
                "position": each.position,
                "stopped": None
                if each.stopped is None
                else {"position": each.stopped.position, "cause": each.stopped.cause},
            }
            for each in report.rebuilt
        ],
        "left_out": list(report.left_out),
        "position": report.position,
        "head": report.head,
        "complete": report.complete,
    }


def print_report(report: MigrationReport) -> None:
    """Print what was done, a line for the tables and one for each projection."""
    done = "migrated to" if report.applied else "already at"
    print(f"{done} version {report.version}")
    for each in report.rebuilt:
        if each.stopped is None:
            what = "rebuilt" if report.complete else "folded"
            print(
                f"{what} {printable(each.name)}, version {each.version}, up to position"
                f" {each.position:,}"
            )


def note_left_out(labels: Sequence[str]) -> None:
    """Say what only another program could rebuild."""
    if labels:
        named = ", ".join(printable(short_label(each)) for each in labels)
        say(f"note: left to the program that folds it, give its --app: {named}")


def _kind_documents(kinds: Sequence[Kind]) -> list[dict[str, Any]]:
    return [{"name": each.name, "version": each.version} for each in kinds]


def _print_kinds(kinds: Sequence[Kind]) -> None:
    rows = [(each.name, str(each.version), _state(each)) for each in kinds]
    print_table([Column(title) for title in ("KIND", "VERSION", "STATE")], rows)


def _state(kind: Kind) -> str:
    from evstore.maintenance.cluster import schema_version

    if not kind.version:
        return "missing"
    return "newer" if kind.version > schema_version() else "installed"


def plan_document(plan: MigrationPlan) -> dict[str, Any]:
    """Return all of a plan as one document."""
    return {
        "version": plan.version,
        "head": plan.head,
        "steps": [
            {
                "version": step.migration.version,
                "name": step.migration.name,
                "locks": list(step.migration.locks),
                "readable_from": step.migration.readable_from,
                "writable_from": step.migration.writable_from,
                "left_behind": [
                    {"id": str(each.instance.id), "reads": each.reads}
                    for each in step.left_behind
                ],
            }
            for step in plan.steps
        ],
        "kinds": _kind_documents(plan.kinds),
        "rebuilds": [
            {
                **_due_document(each.due),
                "elsewhere": list(map(str, each.elsewhere)),
            }
            for each in plan.rebuilds
        ],
        "left_out": list(plan.left_out),
        "instances": _instance_documents(plan.instances, plan.head),
    }


def print_plan(plan: MigrationPlan, *, what: str) -> None:
    """Print a plan as tables, and what they come to in a line before and behind."""
    place = f"at version {plan.version}" if plan.version else "empty"
    idle = not (plan.steps or plan.kinds or plan.rebuilds)
    print(f"the {what} is {place}" + (": nothing to do" if idle else ""))
    if plan.steps or plan.kinds:
        print()
    _print_kinds(plan.kinds)
    print_table(
        [
            Column("VERSION"),
            Column("NAME"),
            Column("LOCKS", least=_LEAST),
            Column("LEAVES BEHIND", least=_LEAST),
        ],
        [_step_row(step) for step in plan.steps],
    )
    if plan.rebuilds:
        print()
    print_table(
        [
            Column("REBUILD"),
            Column("STORED"),
            Column("EVENTS"),
            Column("OTHER CODE", least=_LEAST),
            Column("RUN BY OTHER CODE", least=_LEAST),
        ],
        [_rebuild_row(each) for each in plan.rebuilds],
    )
    _print_instances(plan.instances, plan.head)
    refused = [step for step in plan.steps if step.left_behind]
    if refused:
        step = refused[0].migration
        print(
            f"\n`evstore migrate up` stops before version {step.version} ({step.name}),"
            " unless with --force, for as long as those run that it leaves behind"
        )


def _rebuild_row(planned: PlannedRebuild) -> tuple[str, ...]:
    due = planned.due
    return (
        printable(short_label(due.label)),
        "none" if due.stored is None else str(due.stored),
        f"{due.events:,}",
        printable(", ".join(map(short_label, due.others))),
        ", ".join(map(str, planned.elsewhere)),
    )


def _step_row(step: PlannedStep) -> tuple[str, ...]:
    migration = step.migration
    behind = [
        f"{each.instance.id} cannot {'write' if each.reads else 'read'}"
        for each in step.left_behind
    ]
    locks = "; ".join(migration.locks) or "none"
    return str(migration.version), migration.name, locks, ", ".join(behind)


def _instance_documents(
    instances: Sequence[Instance], head: int
) -> list[dict[str, Any]]:
    return [
        {
            "id": str(each.id),
            "code_version": each.code_version,
            "knows": each.knows,
            "position": each.position,
            "behind": _behind(each, head),
            "projections": list(each.projections),
            "seen_at": None if each.seen_at is None else rfc3339(each.seen_at),
        }
        for each in instances
    ]


def _print_instances(instances: Sequence[Instance], head: int) -> None:
    if not instances:
        print("\nno instance was seen in the last minute")
        return
    print()
    titles = ("INSTANCE", "EVSTORE", "KNOWS", "POSITION", "BEHIND", "SEEN AT")
    print_table(
        [*(Column(title) for title in titles), Column("PROJECTIONS", least=_LEAST)],
        [
            (
                str(each.id),
                printable(each.code_version),
                str(each.knows),
                str(each.position),
                str(_behind(each, head)),
                "" if each.seen_at is None else local_time(each.seen_at),
                printable(", ".join(map(short_label, each.projections))),
            )
            for each in instances
        ],
    )


def _behind(instance: Instance, head: int) -> int:
    """Return how many events an instance had not applied when it was last seen."""
    return max(0, head - instance.position)
