"""evstore: the resource store of a service-mesh control plane, event-sourced.

Every change of a resource is an event appended to a log; current state is a fold of
that log, held in memory and rebuilt on start; every past state can be asked for.

Only what stands in `__all__` is public.
"""

from .blame import Blame, BlamedLeaf
from .bookmark import Bookmark
from .changed import Diff, ResourceChange, Version
from .config import Config, load_config
from .diagnosis import Finding
from .diff import Difference
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
from .proof import Verification
from .redactor import Redaction
from .revert import Conflict, Revert
from .store import Store, open  # noqa: A004 - evstore.open reads as it should
from .transaction import Transaction

__all__ = [
    "AlreadyExistsError",
    "Blame",
    "BlamedLeaf",
    "Bookmark",
    "CompactedError",
    "Config",
    "ConfigError",
    "Conflict",
    "ConflictError",
    "Diff",
    "Difference",
    "DivergedError",
    "Event",
    "Finding",
    "Health",
    "InvalidError",
    "Key",
    "Lease",
    "NotFoundError",
    "Operation",
    "OutcomeUnknownError",
    "Page",
    "Redaction",
    "Resource",
    "ResourceChange",
    "Revert",
    "SchemaError",
    "Store",
    "StoreError",
    "Transaction",
    "UnavailableError",
    "Verification",
    "Version",
    "load_config",
    "open",
]
