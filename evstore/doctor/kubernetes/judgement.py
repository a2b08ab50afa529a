"""What facts about a cluster mean: a line each, and what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstore.doctor import rules
from evstore.doctor.checks import Check, fail, told
from evstore.doctor.facts import Unknown
from evstore.errors import ConfigError

from . import activity, log, way

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evstore.config import Config
    from evstore.errors import StoreError

    from .facts import Facts


def unreachable(error: StoreError) -> list[Check]:
    """Return what is to be said of a cluster that cannot be asked anything."""
    if isinstance(error, ConfigError):
        advice = "correct store.kubernetes.kubeconfig and context, or what it holds"
    else:
        advice = (
            "start the server, or correct its address, proxy and "
            "certificate-authority in the kubeconfig"
        )
    return [fail("reachable", str(error), advice)]


def judge(facts: Facts, config: Config) -> list[Check]:
    """Return the checks of a cluster that was reached, always in the same order."""
    account = None if isinstance(facts.account, Unknown) else facts.account
    return [
        way.reachable(facts.way, config.kubernetes.system_namespace),
        *told("version", facts.version, way.version),
        *told("ready", facts.ready, way.ready),
        way.tls(facts.way),
        *_account(facts),
        *told("token", facts.token, way.token),
        *told("namespace", facts.namespace, way.namespace),
        *told("kinds", facts.kinds, lambda each: way.kinds(each, facts.kinds_needed)),
        *told("rights", facts.rights, lambda each: way.rights(each, account)),
        *told("append-only", facts.rights, way.append_only),
        *told("clock", facts.clock, rules.clock),
        *told("append", facts.writable, activity.append),
        *_log(facts, config),
        *told(
            "instances",
            facts.instances,
            lambda each: activity.instances(each, facts.log),
        ),
        *told("turns", facts.turns, activity.turns),
        *told(
            "mirror",
            facts.mirror,
            lambda each: activity.mirror(
                each, running=activity.any_runs(facts.instances)
            ),
        ),
        *told("leftovers", facts.leftovers, log.leftovers),
    ]


def _account(facts: Facts) -> Iterator[Check]:
    if facts.account is None:
        yield way.account(None)
    yield from told("account", facts.account, way.account)


def _log(facts: Facts, config: Config) -> Iterator[Check]:
    if facts.log is None:
        return
    poll_interval = config.evstore.poll_interval
    if config.evstore.notify:
        yield from told(
            "watch", facts.watch, lambda each: activity.watch(each, poll_interval)
        )
    else:
        yield activity.watch(None, poll_interval)
    yield from told("log", facts.log, log.log)
    known = None if isinstance(facts.log, Unknown) else facts.log
    if known is not None and (known.head or known.behind):
        yield log.order(known, config.kubernetes.system_namespace)
        yield from (log.size(known), log.redactions(known))
    yield from told("floor", facts.floor, lambda each: log.floor(each, known))
    yield from told("snapshots", facts.snapshots, rules.snapshots)
