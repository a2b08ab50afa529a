"""Work that needs no open store: migrations, snapshots, rights, a doctor, proof, statistics."""

from .counting import stats
from .examining import doctor
from .granting import grant, grants
from .migrating import (
    MigrationPlan,
    MigrationReport,
    MigrationStatus,
    PlannedRebuild,
    PlannedStep,
    StoredProjection,
    migrate_up,
    migration_plan,
    migration_status,
)
from .proving import anchor, verify
from .snapshots import (
    Belonging,
    CreatedSnapshot,
    StoredSnapshot,
    Verdict,
    VerifiedSnapshot,
    create_snapshots,
    drop_snapshots,
    list_snapshots,
    verify_snapshots,
)

__all__ = [
    "Belonging",
    "CreatedSnapshot",
    "MigrationPlan",
    "MigrationReport",
    "MigrationStatus",
    "PlannedRebuild",
    "PlannedStep",
    "StoredProjection",
    "StoredSnapshot",
    "Verdict",
    "VerifiedSnapshot",
    "anchor",
    "create_snapshots",
    "doctor",
    "drop_snapshots",
    "grant",
    "grants",
    "list_snapshots",
    "migrate_up",
    "migration_plan",
    "migration_status",
    "stats",
    "verify",
    "verify_snapshots",
]
