"""What a cluster must know before a store can keep its log there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstore.config import StoreType
from evstore.errors import ConfigError
from evstore.log.extras import extra

if TYPE_CHECKING:
    from evstore.config import Config
    from evstore.log.kubernetes.migrations import Kind


async def cluster_status(config: Config) -> list[Kind]:
    """Return the kinds that this program needs, with the versions that the cluster has.

    Raises:
        ConfigError: the store type has no cluster, or we may not look.
        UnavailableError: the cluster cannot be reached.
    """
    if config.type is not StoreType.KUBERNETES:
        message = f"store.type is {config.type.value}: there is no cluster"
        raise ConfigError(f"{message}; set it to kubernetes")
    with extra("kubernetes"):
        from evstore.log.kubernetes import migrations  # noqa: PLC0415 - an extra
    return await migrations.status(config)


def cluster_manifests(config: Config, *, account: str) -> str:
    """Return kinds and roles as YAML for `kubectl apply`; reach no cluster.

    The role of the runtime is bound to the service account `account` of the log's
    namespace. Those of the owner, for restoring and redacting, and of the compactor are
    bound to nobody.

    Raises:
        ConfigError: the extra is not installed.
    """
    with extra("kubernetes"):
        from evstore.log.kubernetes import manifests  # noqa: PLC0415 - an extra
    kubernetes = config.kubernetes
    return manifests.as_yaml(
        kubernetes.system_namespace, account=account, mirror=kubernetes.mirror.enabled
    )
