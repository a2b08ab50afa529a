"""evstore: the resource store of a service-mesh control plane, event-sourced.

Every change of a resource is an event appended to a log; current state is a fold of
that log, held in memory and rebuilt on start; every past state can be asked for.

Only what stands in `__all__` is public.
"""

from .app import App
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
from .folds.custom import ProjectionStatus, Stopped
from .folds.projection import Projection
from .instances.health import Health
from .instances.lease import Lease
from .model import Event, Key, Operation, Page, Resource
from .past.blame import Blame, BlamedLeaf
from .past.changed import Diff, ResourceChange, Version
from .past.revert import Conflict, Revert
from .proof.chain import Verification
from .proof.diagnosis import Finding
from .proof.redactor import Redaction
from .schemas import Schema, Upcaster, upcaster
from .store import Store, open  # noqa: A004 - evstore.open reads as it should
from .store.transaction import Transaction
from .values.diff import Difference

__all__ = [
    "AlreadyExistsError",
    "App",
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
    "Projection",
    "ProjectionStatus",
    "Redaction",
    "Resource",
    "ResourceChange",
    "Revert",
    "Schema",
    "SchemaError",
    "Stopped",
    "Store",
    "StoreError",
    "Transaction",
    "UnavailableError",
    "Upcaster",
    "Verification",
    "Version",
    "load_config",
    "open",
    "upcaster",
]
