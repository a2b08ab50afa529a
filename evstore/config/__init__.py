"""The settings of a store: what they are, and reading them from file and environment.

The names, defaults and meanings are those of the store of Kuma, whose place this one
takes, so that a control plane's file and variables can stay as they are. Kuma's
settings that have no effect here are accepted; `catalog.IGNORED` names them and says
why. What Kuma has no setting for is under
`store.evstore`.
"""

from __future__ import annotations

from .loading import Setting, describe, load_config
from .shapes import (
    Config,
    EvstoreConfig,
    KubernetesConfig,
    Limits,
    MirrorConfig,
    PostgresConfig,
    ReadReplicaConfig,
    SnapshotsConfig,
    StoreType,
    TlsConfig,
    TlsMode,
    UpsertConfig,
)

__all__ = [
    "Config",
    "EvstoreConfig",
    "KubernetesConfig",
    "Limits",
    "MirrorConfig",
    "PostgresConfig",
    "ReadReplicaConfig",
    "Setting",
    "SnapshotsConfig",
    "StoreType",
    "TlsConfig",
    "TlsMode",
    "UpsertConfig",
    "describe",
    "load_config",
]
