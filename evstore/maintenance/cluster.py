"""What a cluster must know before a store can keep its log there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from evstore.errors import ConfigError
from evstore.log.extras import extra

from .programs import Standing
from .standing import running_instances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore.config import Config
    from evstore.log import Log
    from evstore.log.kubernetes.migrations import Kind

logger = logging.getLogger(__name__)


def schema_version() -> int:
    """Return the version of the kinds that this program needs.

    Raises:
        ConfigError: the extra is not installed.
    """
    with extra("kubernetes"):
        from evstore.log.kubernetes import manifests  # noqa: PLC0415 - an extra
    return manifests.SCHEMA_VERSION


async def install(config: Config) -> list[Kind]:
    """Install or update the kinds; return those for which there was anything to do.

    Raises:
        ConfigError: we may not.
        SchemaError: the cluster is newer than this program.
        UnavailableError: the cluster cannot be reached.
    """
    with extra("kubernetes"):
        from evstore.log.kubernetes import migrations  # noqa: PLC0415 - an extra
    return await migrations.migrate(config)


async def kinds(config: Config) -> list[Kind]:
    """Return the kinds that this program needs, with the versions that the cluster has.

    Raises:
        ConfigError: we may not look.
        UnavailableError: the cluster cannot be reached.
    """
    with extra("kubernetes"):
        from evstore.log.kubernetes import migrations  # noqa: PLC0415 - an extra
    return await migrations.status(config)


async def pending_kinds(config: Config) -> list[Kind]:
    """Return the kinds that `install` would install or update, as they are now.

    Raises:
        ConfigError: we may not look.
        SchemaError: the cluster is newer than this program.
        UnavailableError: the cluster cannot be reached.
    """
    with extra("kubernetes"):
        from evstore.log.kubernetes import migrations  # noqa: PLC0415 - an extra
    return await migrations.pending(config)


async def has_log(config: Config) -> bool:
    """Whether there is a log that we may look at; of a new cluster there is none.

    Who may install kinds need not have rights in the namespace: that is a warning.

    Raises:
        UnavailableError: the cluster cannot be reached.
    """
    with extra("kubernetes"):
        from evstore.log.kubernetes import migrations  # noqa: PLC0415 - an extra
    try:
        return await migrations.has_log(config)
    except ConfigError as error:
        logger.warning("looks at no log, and so at no projections: %s", error)
        return False


async def standing_of(log: Log) -> Standing:
    """Return how a log stands that is open.

    Raises:
        UnavailableError: it cannot be read.
    """
    head = (await log.head()).position
    return Standing(
        head=head,
        running=await running_instances(log),
        snapshots=[
            each for each in await log.snapshots() if each.stamp.log == log.identity
        ],
        floor=log.floor.position,
    )


def cluster_manifests(
    config: Config,
    *,
    account: str,
    admission_policy: bool = False,
    exempt: Sequence[str] = (),
) -> str:
    """Return kinds and roles as YAML for `kubectl apply`; reach no cluster.

    The role of the runtime is bound to the service account `account` of the log's
    namespace, or of another where it says `namespace:name`. Those of the owner, for
    restoring and redacting, and of the compactor are bound to nobody. With
    `admission_policy` there is also a policy, for Kubernetes 1.30 and later, by which
    nobody changes or removes what was appended but the users `exempt`, who need the role
    for it all the same.

    Raises:
        ConfigError: the extra is not installed.
        InvalidError: that is no name of a service account.
    """
    with extra("kubernetes"):
        from evstore.log.kubernetes import (  # noqa: PLC0415 - an extra
            admission,
            manifests,
        )
    kubernetes = config.kubernetes
    namespace = kubernetes.system_namespace
    printed = manifests.as_yaml(
        namespace, account=account, mirror=kubernetes.mirror.enabled
    )
    if admission_policy:
        printed += admission.as_yaml(namespace, exempt=exempt)
    return printed
