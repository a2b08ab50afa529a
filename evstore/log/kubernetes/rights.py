"""What our account may do, asked of the API server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from evstore.errors import ConfigError

from .manifests import COMPACTOR, OWNER
from .objects import CHANGES, CHUNKS, GROUP, LOGS, SNAPSHOT_CHUNKS, SNAPSHOTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .client import Client

_PATH: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
# Nothing that runs a control plane, restores or redacts needs these.
_UNWANTED: Final = (("delete", CHANGES), ("deletecollection", CHANGES))


class _Verdict(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Verdict


_decode: Final = msgspec.json.Decoder(_Review).decode


class Right(msgspec.Struct, frozen=True):
    """A verb on a resource: in the log's namespace, or of the cluster where `whole`.

    `name` narrows it to one object.
    """

    verb: str
    resource: str
    group: str = GROUP
    name: str = ""
    whole: bool = False

    def __str__(self) -> str:
        """Return it in words: `create changes.evstore.dev`."""
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {what}"


def rights_of(rules: Iterable[dict[str, Any]], *, whole: bool = False) -> list[Right]:
    """Return the rights that rules of a role give."""
    return [
        Right(verb, resource, group, name, whole)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", ("",))
        for verb in rule["verbs"]
    ]


async def may(client: Client, verb: str, plural: str) -> bool:
    """Whether our account may do this to objects of the log's namespace."""
    return await allowed(client, Right(verb, plural))


async def allowed(client: Client, right: Right) -> bool:
    """Whether our account has a right."""
    attributes = {
        "group": right.group,
        "resource": right.resource,
        "verb": right.verb,
        "name": right.name,
        "namespace": "" if right.whole else client.namespace,
    }
    body = msgspec.json.encode(
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
    )
    answer = await client.request("POST", _PATH, body=body)
    return client.content(answer, _decode).status.allowed


async def unguarded(client: Client) -> list[str]:
    """Return the rights of our account that only a compaction should have."""
    return [
        f"this account may {verb} {plural}.{GROUP}"
        for verb, plural in _UNWANTED
        if await may(client, verb, plural)
    ]


async def check_redactor(client: Client) -> None:
    """Check that our account may redact.

    Raises:
        ConfigError: it has not got the rights of the owner.
    """
    needed = (("update", CHANGES), ("delete", CHUNKS), ("delete", SNAPSHOTS))
    for verb, plural in needed:
        await _require(client, verb, plural, "redacting")


async def check_restorer(client: Client) -> None:
    """Check that our account may give the log another identity.

    Raises:
        ConfigError: it has not got the rights of the owner.
    """
    await _require(client, "update", LOGS, "restoring into an empty log")


async def check_compactor(client: Client) -> None:
    """Check that our account may compact.

    Raises:
        ConfigError: it has not got the rights of that role.
    """
    needed = (
        ("update", LOGS),
        ("delete", CHANGES),
        *(("delete", CHUNKS), ("list", CHUNKS), ("list", SNAPSHOT_CHUNKS)),
    )
    for verb, plural in needed:
        await _require(client, verb, plural, "compacting", role=COMPACTOR)


async def _require(
    client: Client, verb: str, plural: str, purpose: str, *, role: str = OWNER
) -> None:
    if not await may(client, verb, plural):
        message = (
            f"store.kubernetes: we may not {verb} {plural}.{GROUP} in namespace "
            f"{client.namespace}: {purpose} takes the role {role}"
        )
        raise ConfigError(f'{message}; "evstore migrate manifests" prints it')
