"""Work that needs no open store: migrations, snapshots, rights, a doctor, proof, statistics."""

from .cluster import cluster_manifests
from .compacting import Compaction, compact
from .comparing import (
    Discrepancy,
    ProjectionCheck,
    ProjectionVerification,
    verify_projections,
)
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
from .previewing import ProjectionDiff, projection_diff
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
from .standing import ProjectionsStatus, ProjectionStanding, projections_status

__all__ = [
    "Belonging",
    "Compaction",
    "CreatedSnapshot",
    "Discrepancy",
    "MigrationPlan",
    "MigrationReport",
    "MigrationStatus",
    "PlannedRebuild",
    "PlannedStep",
    "ProjectionCheck",
    "ProjectionDiff",
    "ProjectionStanding",
    "ProjectionVerification",
    "ProjectionsStatus",
    "StoredProjection",
    "StoredSnapshot",
    "Verdict",
    "VerifiedSnapshot",
    "anchor",
    "cluster_manifests",
    "compact",
    "create_snapshots",
    "doctor",
    "drop_snapshots",
    "grant",
    "grants",
    "list_snapshots",
    "migrate_up",
    "migration_plan",
    "migration_status",
    "projection_diff",
    "projections_status",
    "stats",
    "verify",
    "verify_projections",
    "verify_snapshots",
]
