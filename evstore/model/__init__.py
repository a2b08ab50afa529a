"""The nouns: keys, events, resources, pages. Shapes only; no rules, no I/O.

Each noun has two forms. `StoredEvent` and `Record` are what logs and folds pass around:
immutable, compact, their JSON undecoded. `Event` and `Resource` are what a caller gets:
each decodes its own copy, so that changing it never reaches the store.
"""

from evstore.keys import Key

from .stored import (
    CAUSE,
    CREATED_AT,
    CREATED_VERSION,
    LEASE_TYPE,
    REASON,
    REQUEST_DIGEST,
    REQUEST_ID,
    RESERVED_TYPES,
    REVERTS,
    SECRET_TYPES,
    Body,
    Head,
    Operation,
    Record,
    StoredEvent,
)
from .views import ANY, Event, Filter, Page, Resource, SpecT

__all__ = [
    "ANY",
    "CAUSE",
    "CREATED_AT",
    "CREATED_VERSION",
    "LEASE_TYPE",
    "REASON",
    "REQUEST_DIGEST",
    "REQUEST_ID",
    "RESERVED_TYPES",
    "REVERTS",
    "SECRET_TYPES",
    "Body",
    "Event",
    "Filter",
    "Head",
    "Key",
    "Operation",
    "Page",
    "Record",
    "Resource",
    "SpecT",
    "StoredEvent",
]
