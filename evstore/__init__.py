"""evstore: the resource store of a service-mesh control plane, event-sourced.

Every change of a resource is an event appended to a log; current state is a fold of
that log, held in memory and rebuilt on start; every past state can be asked for.

Only what stands in `__all__` is public.
"""

from .bookmark import Bookmark
from .config import Config, load_config
from .errors import (
    AlreadyExistsError,
    CompactedError,
    ConfigError,
    ConflictError,
    DivergedError,
    InvalidError,
    NotFoundError,
    OutcomeUnknownError,
    SchemaError,
    StoreError,
    UnavailableError,
)
from .health import Health
from .lease import Lease
from .model import Event, Key, Operation, Page, Resource
from .store import Store, open  # noqa: A004 - evstore.open reads as it should
from .transaction import Transaction

__all__ = [
    "AlreadyExistsError",
    "Bookmark",
    "CompactedError",
    "Config",
    "ConfigError",
    "ConflictError",
    "DivergedError",
    "Event",
    "Health",
    "InvalidError",
    "Key",
    "Lease",
    "NotFoundError",
    "Operation",
    "OutcomeUnknownError",
    "Page",
    "Resource",
    "SchemaError",
    "Store",
    "StoreError",
    "Transaction",
    "UnavailableError",
    "load_config",
    "open",
]
