"""Resources and events as documents for JSON and YAML, and as cells for tables."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from datetime import datetime

    from evstore.model import Event, Key, Resource

MASK: Final = "***"


def rfc3339(moment: datetime) -> str:
    """Return a time as JSON has it: in UTC, to the microsecond."""
    utc = moment.astimezone(UTC)
    return utc.isoformat(timespec="microseconds").replace("+00:00", "Z")


def local_time(moment: datetime) -> str:
    """Return a time as tables have it: in the zone of this machine."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def resource_document(resource: Resource[Any]) -> dict[str, Any]:
    """Return a resource with all its fields; `apply` takes it as a manifest."""
    return {
        "type": resource.type,
        "mesh": resource.mesh,
        "name": resource.name,
        "labels": resource.labels,
        "spec": resource.spec,
        "status": resource.status,
        "owner": _key(resource.owner),
        "version": resource.version,
        "commit": resource.commit,
        "created_version": resource.created_version,
        "created_at": rfc3339(resource.created_at),
        "modified_at": rfc3339(resource.modified_at),
        **_redacted(resource),
    }


def event_document(event: Event) -> dict[str, Any]:
    """Return an event with all its fields."""
    return {
        "position": event.position,
        "commit": event.commit,
        "recorded_at": rfc3339(event.recorded_at),
        "actor": event.actor,
        "reason": event.reason,
        "operation": event.operation.value,
        "type": event.type,
        "mesh": event.mesh,
        "name": event.name,
        "labels": event.labels,
        "spec": event.spec,
        "status": event.status,
        "owner": _key(event.owner),
        "schema_version": event.schema_version,
        "metadata": event.metadata,
        "hash": event.hash.hex(),
        **_redacted(event),
    }


def _redacted(content: Resource[Any] | Event) -> dict[str, Any]:
    """Return what was redacted, where anything was."""
    return {"redacted": list(content.redacted)} if content.redacted else {}


def key_document(key: Key) -> dict[str, Any]:
    """Return a key's three fields."""
    return {"type": key.type, "mesh": key.mesh, "name": key.name}


def _key(key: Key | None) -> dict[str, Any] | None:
    return None if key is None else key_document(key)


def masked(value: Any) -> Any:
    """Return a spec with every value hidden, its shape kept."""
    match value:
        case dict():
            fields = cast("dict[str, Any]", value)
            return {name: masked(item) for name, item in fields.items()}
        case list():
            return [masked(item) for item in cast("list[object]", value)]
        case _:
            return MASK
