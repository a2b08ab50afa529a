"""What is to be said of the way to the cluster, and of who we are there. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from evstore.doctor.checks import Check, fail, ok, warn
from evstore.doctor.words import ago, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .facts import Account, Kind, Namespace, Rights, Token, Way

VERSION_LEAST: Final = (1, 20)
# kubelet renews a pod's token when a fifth of its time is left.
TOKEN_SHARE_LEAST: Final = 0.15
TOKEN_SECONDS_LEAST: Final = 600.0
TOKEN_SECONDS_ENOUGH: Final = 7 * 86_400.0

_THIS_MACHINE: Final = ("127.", "::1", "localhost")
_NUMBERS: Final = re.compile(r"v?(\d+)\.(\d+)")
_MIGRATE: Final = 'run "evstore migrate up"'
_MANIFESTS: Final = '"evstore migrate manifests --account {}" prints the roles'


def reachable(way: Way, namespace: str) -> Check:
    """Tell where the server is, and by what proxy."""
    proxy = f" by the proxy {way.proxy}" if way.proxy else ""
    return ok("reachable", f"{way.address}{proxy}, namespace {namespace}")


def account(account: Account | None) -> Check:
    """Tell who we are."""
    if account is None:
        return ok("account", "the server does not tell who we are; newer ones do")
    return ok("account", f"{account.name}, as {account.told_by} says")


def version(version: str) -> Check:
    """Judge the version of the server."""
    numbers = _NUMBERS.match(version)
    found = f"Kubernetes {version}"
    # A server that was built without its version says 0.0.
    if numbers and (0, 0) < (int(numbers[1]), int(numbers[2])) < VERSION_LEAST:
        least = ".".join(map(str, VERSION_LEAST))
        advice = f"upgrade the cluster: evstore is tested from {least} on"
        return warn("version", found, advice)
    return ok("version", found)


def ready(lacking: str) -> Check:
    """Judge whether the server has what it needs itself."""
    if lacking:
        advice = "see the server's log; if it is etcd: its disk, its quorum, its space"
        return fail("ready", f"the server is not ready: {lacking}", advice)
    return ok("ready", "the server and its etcd are")


def tls(way: Way) -> Check:
    """Judge whether what crosses the network is encrypted, and with whom we speak."""
    if way.verified:
        return ok("tls", "encrypted, and the server's certificate is checked")
    if way.verified is None:
        if (urlsplit(way.address).hostname or "").startswith(_THIS_MACHINE):
            return ok("tls", "not encrypted, and does not leave this machine")
        found = "not encrypted: the token and specs cross the network as they are"
        return warn("tls", found, "use an https address in the kubeconfig")
    found = "insecure-skip-tls-verify: who is in between can pose as the server"
    advice = "give the kubeconfig the cluster's certificate-authority instead"
    return warn("tls", found, advice)


def token(token: Token) -> Check:
    """Judge whether the token of our account is renewed in time."""
    if token.seconds_left <= 0:
        found = f"expired {ago(-token.seconds_left)} ago, and is taken still"
    else:
        found = f"expires in {ago(token.seconds_left)}"
    if token.seconds_left < _token_seconds_least(token.seconds_whole):
        advice = (
            "in a pod: see why kubelet does not renew it; else get a new kubeconfig"
        )
        return warn("token", found, advice)
    return ok("token", found)


def _token_seconds_least(whole: float | None) -> float:
    if whole is None:
        return TOKEN_SECONDS_LEAST
    return min(TOKEN_SHARE_LEAST * whole, TOKEN_SECONDS_ENOUGH)


def namespace(namespace: Namespace) -> Check:
    """Judge whether the namespace of the log is there, and stays."""
    if not namespace.there:
        found = f"there is no namespace {namespace.name}"
        advice = (
            f"kubectl create namespace {namespace.name}, or correct "
            "store.kubernetes.systemNamespace"
        )
        return fail("namespace", found, advice)
    if namespace.terminating:
        found = f"{namespace.name} is being deleted, and the log with it"
        advice = 'save what there is with "evstore export", and restore it elsewhere'
        return fail("namespace", found, advice)
    return ok("namespace", f"{namespace.name} is there")


def kinds(kinds: Sequence[Kind], needed: int) -> Check:
    """Judge whether the cluster knows the kinds as this program does."""
    missing = [each.name for each in kinds if not each.version and not each.served]
    if missing:
        return fail("kinds", f"missing: {listed(missing)}", _MIGRATE)
    going = [each.name for each in kinds if each.terminating]
    if going:
        found = f"being deleted, with all their objects: {listed(going)}"
        advice = 'save what there is with "evstore export"; then "evstore migrate up"'
        return fail("kinds", found, advice)
    newer = [_versioned(each) for each in kinds if each.version > needed]
    if newer:
        found = f"newer than version {needed} of this evstore: {listed(newer)}"
        return fail("kinds", found, "install the newer evstore")
    older = [_versioned(each) for each in kinds if each.version < needed]
    if older:
        found = f"this evstore needs version {needed}: {listed(older)}"
        return fail("kinds", found, _MIGRATE)
    asleep = [each.name for each in kinds if not each.served]
    if asleep:
        found = f"not served: {listed(asleep)}"
        advice = f"wait a moment; else see kubectl describe crd {asleep[0]}"
        return fail("kinds", found, advice)
    return ok("kinds", f"all {len(kinds)} are served, at version {needed}")


def _versioned(kind: Kind) -> str:
    return f"{kind.name} at version {kind.version}"


def rights(rights: Rights, account: Account | None) -> Check:
    """Judge whether our account has what running a store takes."""
    who = account.name if account else "our account"
    _, of_a_pod, name = who.partition("system:serviceaccount:")
    advice = _MANIFESTS.format(name.rpartition(":")[2] if of_a_pod else "NAME")
    if rights.missing:
        found = f"{who} may not {grouped(rights.missing)}"
        return fail("rights", found, advice)
    if rights.mirror:
        found = f"for the mirror, {who} may not {grouped(rights.mirror)}"
        return warn("rights", found, f"{advice}, if it sees the mirror switched on")
    return ok("rights", f"{who} has what running a store takes")


def append_only(rights: Rights) -> Check:
    """Judge whether our account could change or remove what was appended."""
    advice = "run the store with the role evstore-runtime alone"
    if rights.everything:
        found = "this account may do whatever there is: nothing guards the log from it"
        return warn("append-only", found, advice)
    if rights.beyond:
        return warn("append-only", f"this account may {grouped(rights.beyond)}", advice)
    return ok("append-only", "this account can neither change nor remove a change")


def grouped(rights: Sequence[str]) -> str:
    """Return rights by what they are on: `create, get a; list b`."""
    verbs: dict[str, list[str]] = {}
    for each in rights:
        verb, _, what = each.partition(" ")
        verbs.setdefault(what, []).append(verb)
    return "; ".join(f"{', '.join(some)} {what}" for what, some in verbs.items())
