"""Work that needs no open store: migrations, rights, a doctor, proof, statistics."""

from .cluster import cluster_manifests, cluster_status
from .compacting import Compaction, compact
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
from .proving import anchor, verify

__all__ = [
    "Compaction",
    "MigrationPlan",
    "MigrationReport",
    "MigrationStatus",
    "PlannedStep",
    "anchor",
    "cluster_manifests",
    "cluster_status",
    "compact",
    "doctor",
    "grant",
    "grants",
    "migrate_up",
    "migration_plan",
    "migration_status",
    "stats",
    "verify",
]
