"""What facts about a PostgreSQL server mean: a line each, and what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstore.doctor import rules
from evstore.doctor.checks import Check, fail, ok, told
from evstore.errors import ConfigError

from . import activity, replicas, role, server

if TYPE_CHECKING:
    from evstore.config import Config, PostgresConfig
    from evstore.errors import StoreError

    from .facts import Facts


def unreachable(error: StoreError) -> list[Check]:
    """Return what is to be said of a server that cannot be asked anything."""
    if isinstance(error, ConfigError):
        advice = "correct store.postgres.*, or what the server lets in"
    else:
        advice = "start the server, or correct store.postgres.host and port"
    return [fail("reachable", str(error), advice)]


def judge(facts: Facts, config: Config) -> list[Check]:
    """Return the checks of a server that was reached, always in the same order."""
    return [
        _reachable(config.postgres),
        *server.server(facts.server, config.postgres),
        *told("migrations", facts.schema, server.schema),
        *told("rights", facts.rights, role.rights),
        *told("append-only", facts.unguarded, role.unguarded),
        rules.clock(facts.clock),
        server.listen(facts, config),
        *told("idle in transaction", facts.sessions, activity.sessions),
        *told("append lock", facts.append_lock, activity.append_lock),
        *told("partitions", facts.partitions, activity.partitions),
        *told("snapshots", facts.snapshots, rules.snapshots),
        *told(
            "replicas",
            facts.standbys,
            lambda each: replicas.standbys(each, facts.server),
        ),
        *replicas.read_replica(facts.read_replica, config.postgres.read_replica.ratio),
        *told("dead rows", facts.tables, activity.tables),
    ]


def _reachable(config: PostgresConfig) -> Check:
    where = config.host if config.host[0] == "/" else f"{config.host}:{config.port}"
    return ok("reachable", f"{where}, database {config.db_name}, role {config.user}")
