"""Work that needs no open store: migrations, rights, a doctor, proof, statistics."""

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
    PlannedStep,
    migrate_up,
    migration_plan,
    migration_status,
)
from .previewing import ProjectionDiff, projection_diff
from .proving import anchor, verify
from .standing import ProjectionsStatus, ProjectionStanding, projections_status

__all__ = [
    "Discrepancy",
    "MigrationPlan",
    "MigrationReport",
    "MigrationStatus",
    "PlannedStep",
    "ProjectionCheck",
    "ProjectionDiff",
    "ProjectionStanding",
    "ProjectionVerification",
    "ProjectionsStatus",
    "anchor",
    "doctor",
    "grant",
    "grants",
    "migrate_up",
    "migration_plan",
    "migration_status",
    "projection_diff",
    "projections_status",
    "stats",
    "verify",
    "verify_projections",
]
