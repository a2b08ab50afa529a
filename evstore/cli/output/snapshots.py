"""How `evstore snapshot` shows what is stored, and what came out for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .charts import size
from .documents import local_time, rfc3339
from .tables import Column, print_table, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evstore.log import Snapshot
    from evstore.maintenance import CreatedSnapshot, StoredSnapshot, VerifiedSnapshot

FINGERPRINT_CHARACTERS: Final = 8
_LEAST: Final = 20
_TITLES: Final = ("PROJECTION", "VERSION", "FINGERPRINT", "POSITION")


def listed_documents(found: Iterable[StoredSnapshot]) -> list[dict[str, Any]]:
    """Return snapshots as documents."""
    return [
        {**snapshot_document(each.snapshot), "belongs": each.belonging.value}
        for each in found
    ]


def print_listed(found: Sequence[StoredSnapshot]) -> None:
    """Print snapshots as a table."""
    if not found:
        print("no snapshots")
        return
    titles = ("ID", *_TITLES, "TAKEN AT", "SIZE", "EVSTORE", "BELONGS")
    print_table(
        [Column(title) for title in titles],
        [
            (
                str(each.snapshot.id),
                *_stamp_cells(each.snapshot),
                local_time(each.snapshot.taken_at),
                size(each.snapshot.size),
                printable(each.snapshot.code_version),
                each.belonging.value,
            )
            for each in found
        ],
    )


def created_documents(found: Iterable[CreatedSnapshot]) -> list[dict[str, Any]]:
    """Return what became of projections as documents."""
    return [
        {
            "projection": each.name,
            "version": each.version,
            "label": each.label,
            "position": each.position,
            "snapshot": None if each.snapshot is None else str(each.snapshot.id),
            "size": None if each.snapshot is None else each.snapshot.size,
            "stopped": None
            if each.stopped is None
            else {"position": each.stopped.position, "cause": each.stopped.cause},
        }
        for each in found
    ]


def print_created(found: Iterable[CreatedSnapshot]) -> None:
    """Print a line for each snapshot that was stored."""
    for each in found:
        if each.snapshot is not None:
            print(
                f"stored {each.name}, version {each.version}, at position"
                f" {each.position:,}: {size(each.snapshot.size)}"
            )


def verified_documents(found: Iterable[VerifiedSnapshot]) -> list[dict[str, Any]]:
    """Return what came out for snapshots as documents."""
    return [
        {
            **snapshot_document(each.snapshot),
            "verdict": each.verdict.value,
            "reason": each.reason,
            "what": each.what,
        }
        for each in found
    ]


def print_verified(found: Sequence[VerifiedSnapshot]) -> None:
    """Print what came out for snapshots as a table."""
    if not found:
        print("no snapshots")
        return
    titles = ("ID", *_TITLES, "VERDICT")
    print_table(
        [*(Column(title) for title in titles), Column("WHY", least=_LEAST)],
        [
            (
                str(each.snapshot.id),
                *_stamp_cells(each.snapshot),
                each.verdict.value,
                printable(each.reason + (f": {each.what}" if each.what else "")),
            )
            for each in found
        ],
    )


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot with all its fields."""
    stamp = snapshot.stamp
    return {
        "id": str(snapshot.id),
        "log": str(stamp.log),
        "projection": stamp.projection,
        "version": stamp.version,
        "fingerprint": stamp.fingerprint,
        "position": stamp.head.position,
        "digest": stamp.digest.hex(),
        "taken_at": rfc3339(snapshot.taken_at),
        "size": snapshot.size,
        "chunks": snapshot.chunks,
        "code_version": snapshot.code_version,
    }


def short_label(label: str) -> str:
    """Return the label of a projection as tables have it."""
    name, version, fingerprint = label.split(":")
    short = f"{name}:{version}"
    return f"{short}:{fingerprint[:FINGERPRINT_CHARACTERS]}" if fingerprint else short


def _stamp_cells(snapshot: Snapshot) -> tuple[str, ...]:
    stamp = snapshot.stamp
    return (
        printable(stamp.projection),
        str(stamp.version),
        stamp.fingerprint[:FINGERPRINT_CHARACTERS],
        str(stamp.head.position),
    )
