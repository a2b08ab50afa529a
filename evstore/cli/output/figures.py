"""The figures of `evstore stats`, as documents, charts and pages have them. Pure."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from .charts import size
from .documents import local_time, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evstore.past.stats import Stats


def document(found: Stats) -> dict[str, Any]:
    """Return statistics with all their fields, and what follows from them."""
    fields = dict(msgspec.to_builtins(found))
    for name, time in (("first_at", found.first_at), ("last_at", found.last_at)):
        fields[name] = None if time is None else rfc3339(time)
    fields["days"] = round(found.days, 6)
    fields["events_a_day"] = round(found.events_a_day, 3)
    each = found.bytes_an_event
    fields["bytes_an_event"] = None if each is None else round(each, 1)
    return fields


def summary(found: Stats) -> Iterator[tuple[str, str]]:
    """Yield the figures of the log: what they are, and how many."""
    activity = found.activity
    yield "log", str(found.log)
    yield "events", f"{activity.events:,} in {activity.transactions:,} transactions"
    if found.first_at is None or found.last_at is None:
        return
    yield "positions", f"{found.first:,} to {found.last:,} of {found.head:,}"
    yield "time", f"{local_time(found.first_at)} to {local_time(found.last_at)}"
    pace = f"{found.events_a_day:,.1f} events a day over {found.days:,.1f} days"
    yield "pace", pace
    each = activity.bytes / activity.events
    yield "content", f"{size(activity.bytes)}, {size(each)} an event"
    storage, on_disk = found.storage, found.bytes_an_event
    if storage is not None and on_disk is not None:
        count = len(storage.partitions)
        parts = (
            f"{size(storage.table_bytes)} of events and"
            f" {size(storage.index_bytes)} of indexes in {count}"
            f" partition{'s' * (count != 1)}, {size(on_disk)} an event"
        )
        yield "on disk", parts
        growth = on_disk * found.events_a_day
        yield (
            "growth",
            f"{size(growth)} a day, {size(growth * 365)} a year",
        )
        yield "snapshots", f"{size(storage.snapshot_bytes)} on disk"


def per_day(found: Stats) -> list[tuple[date, int]]:
    """Return the events of each day, those without any among them."""
    counts = {date.fromisoformat(day.date): day.events for day in found.activity.days}
    if not counts:
        return []
    first, last = min(counts), max(counts)
    days = [first + timedelta(days=index) for index in range((last - first).days + 1)]
    return [(day, counts.get(day, 0)) for day in days]
