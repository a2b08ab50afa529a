"""How `evstore migrate` shows what is applied, what would be done, and who runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .documents import local_time, rfc3339
from .tables import Column, print_table, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore.log import Instance
    from evstore.log.kubernetes.migrations import Kind
    from evstore.maintenance import MigrationPlan, MigrationStatus, PlannedStep

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
    return {
        "version": len(found.applied),
        "head": found.head,
        "migrations": applied + pending,
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
    _print_instances(found.instances, found.head)


def print_kinds(kinds: Sequence[Kind]) -> None:
    """Print the kinds of a cluster as a table."""
    rows = [
        (each.name, str(each.version), "installed" if each.version else "missing")
        for each in kinds
    ]
    print_table([Column(title) for title in ("KIND", "VERSION", "STATE")], rows)


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
        "instances": _instance_documents(plan.instances, plan.head),
    }


def print_plan(plan: MigrationPlan) -> None:
    """Print a plan as tables, and what they come to in a line before and behind."""
    place = f"at version {plan.version}" if plan.version else "empty"
    print(f"the database is {place}" + ("" if plan.steps else ": nothing to do"))
    if plan.steps:
        print()
    print_table(
        [
            Column("VERSION"),
            Column("NAME"),
            Column("LOCKS", least=_LEAST),
            Column("LEAVES BEHIND", least=_LEAST),
        ],
        [_step_row(step) for step in plan.steps],
    )
    _print_instances(plan.instances, plan.head)
    refused = [step for step in plan.steps if step.left_behind]
    if refused:
        step = refused[0].migration
        print(
            f"\n`evstore migrate up` stops before version {step.version} ({step.name}),"
            " unless with --force, for as long as those run that it leaves behind"
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
        [Column(title) for title in titles],
        [
            (
                str(each.id),
                printable(each.code_version),
                str(each.knows),
                str(each.position),
                str(_behind(each, head)),
                "" if each.seen_at is None else local_time(each.seen_at),
            )
            for each in instances
        ],
    )


def _behind(instance: Instance, head: int) -> int:
    """Return how many events an instance had not applied when it was last seen."""
    return max(0, head - instance.position)
