"""What the cluster must know: kinds, and who may do what. As data; no I/O."""

from __future__ import annotations

from typing import Any, Final

import yaml

from .objects import (
    CHANGES,
    CHUNKS,
    GROUP,
    KINDS,
    LOGS,
    RESOURCES,
    SNAPSHOT_CHUNKS,
    SNAPSHOTS,
    VERSION,
)

SCHEMA_VERSION: Final = 1
VERSION_ANNOTATION: Final = f"{GROUP}/schema-version"
RUNTIME: Final = "evstore-runtime"
OWNER: Final = "evstore-owner"
COMPACTOR: Final = "evstore-compactor"
SCHEMA_READER: Final = "evstore-schema-reader"
MIRROR: Final = "evstore-mirror"

_STRING: Final = {"type": "string"}
_INTEGER: Final = {"type": "integer", "format": "int64", "minimum": 0}
_HASH: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_UUID: Final = {"type": "string", "pattern": "^[0-9a-f-]{36}$"}
_NAMES: Final = {"type": "array", "items": _STRING}

_CHANGE: Final = {
    "log": _UUID,
    "first": _INTEGER,
    "position": _INTEGER,
    "events": _INTEGER,
    "after": _HASH,
    "hash": _HASH,
    "time": _STRING,
    "actor": _STRING,
    "summary": _STRING,
    "encoding": {"type": "string", "enum": ["json", "zstd"]},
    "payload": _STRING,
    "chunks": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "digest"],
            "properties": {"name": _STRING, "digest": _HASH},
        },
    },
}
_SNAPSHOT: Final = {
    "snapshot": _STRING,
    "projection": _STRING,
    "position": _INTEGER,
    "bytes": _INTEGER,
    "pieces": {"type": "array", "items": _NAMES},
}
_CHUNK: Final = {"payload": _STRING}
_ANYTHING: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_KEY: Final = {"type": _STRING, "mesh": _STRING, "name": _STRING}
_RESOURCE: Final = {
    **_KEY,
    "version": _INTEGER,
    "createdAt": _STRING,
    "modifiedAt": _STRING,
    # Not told to be strings: some API servers take empty ones for null.
    "labels": _ANYTHING,
    "owner": {"type": "object", "properties": _KEY},
    "spec": _ANYTHING,
    "status": _ANYTHING,
    "omitted": _STRING,
}
_FLOOR: Final = {
    "type": "object",
    "required": ["position", "hash", "time", "digest", "pieces"],
    "properties": {
        "position": _INTEGER,
        "hash": _HASH,
        "time": _INTEGER,
        "digest": _HASH,
        "pieces": _NAMES,
    },
}
_AGE: Final = ("Age", "date", ".metadata.creationTimestamp", 0)


def definitions() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions that this program needs."""
    return [
        _definition(
            CHANGES,
            _CHANGE,
            ("Position", "integer", ".spec.position", 0),
            ("Time", "string", ".spec.time", 0),
            ("Actor", "string", ".spec.actor", 0),
            ("Summary", "string", ".spec.summary", 0),
            ("Events", "integer", ".spec.events", 1),
            required=["log", "first", "position", "after", "hash", "encoding"],
        ),
        _definition(CHUNKS, _CHUNK, _AGE, required=["payload"]),
        _definition(
            LOGS,
            {"identity": _UUID, "floor": _FLOOR},
            ("Identity", "string", ".spec.identity", 0),
            ("Floor", "integer", ".spec.floor.position", 0),
            _AGE,
            required=["identity"],
        ),
        _definition(
            SNAPSHOTS,
            _SNAPSHOT,
            ("Projection", "string", ".spec.projection", 0),
            ("Position", "integer", ".spec.position", 0),
            ("Bytes", "integer", ".spec.bytes", 0),
            _AGE,
            required=["snapshot"],
        ),
        _definition(SNAPSHOT_CHUNKS, _CHUNK, _AGE, required=["payload"]),
        _kind(
            RESOURCES,
            {
                "type": "object",
                "required": ["type", "name", "version"],
                "properties": _RESOURCE,
            },
            ("Type", "string", ".type", 0),
            ("Mesh", "string", ".mesh", 0),
            ("Name", "string", ".name", 0),
            ("Version", "integer", ".version", 0),
            ("Age", "date", ".createdAt", 0),
            ("Modified", "date", ".modifiedAt", 1),
        ),
    ]


def _definition(
    plural: str,
    properties: dict[str, Any],
    *columns: tuple[str, str, str, int],
    required: list[str],
) -> dict[str, Any]:
    spec = {"type": "object", "required": required, "properties": properties}
    schema = {"type": "object", "required": ["spec"], "properties": {"spec": spec}}
    return _kind(plural, schema, *columns)


def _kind(
    plural: str, schema: dict[str, Any], *columns: tuple[str, str, str, int]
) -> dict[str, Any]:
    kind = KINDS[plural]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "annotations": {VERSION_ANNOTATION: str(SCHEMA_VERSION)},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "additionalPrinterColumns": [
                        {"name": name, "type": type_, "jsonPath": path, "priority": low}
                        for name, type_, path, low in columns
                    ],
                }
            ],
        },
    }


def _rule(group: str, *resources: str, verbs: tuple[str, ...]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


def runtime_rules() -> list[dict[str, Any]]:
    """Return what a control plane may do in the namespace of its log, and no more."""
    return [
        _rule(GROUP, CHANGES, verbs=("create", "get", "list", "watch")),
        _rule(GROUP, LOGS, verbs=("create", "get")),
        _rule(GROUP, CHUNKS, verbs=("create", "get")),
        _rule(GROUP, SNAPSHOT_CHUNKS, verbs=("create", "get", "delete")),
        _rule(GROUP, SNAPSHOTS, verbs=("create", "get", "list", "delete")),
        _rule(
            "coordination.k8s.io",
            "leases",
            verbs=("create", "get", "list", "update", "delete"),
        ),
    ]


def owner_rules() -> list[dict[str, Any]]:
    """Return what restoring and redacting take besides."""
    return [
        *runtime_rules(),
        _rule(GROUP, CHANGES, LOGS, verbs=("update",)),
        _rule(GROUP, CHUNKS, verbs=("delete",)),
    ]


def mirror_rules() -> list[dict[str, Any]]:
    """Return what showing the current state takes besides, where that is switched on."""
    verbs = ("create", "get", "list", "watch", "update", "delete")
    return [
        _rule(GROUP, RESOURCES, verbs=verbs),
        _rule("", "events", verbs=("create", "update")),
    ]


def compactor_rules() -> list[dict[str, Any]]:
    """Return what `evstore compact` takes besides: who runs it can remove history."""
    return [
        *runtime_rules(),
        _rule(GROUP, LOGS, verbs=("update",)),
        _rule(GROUP, CHANGES, CHUNKS, verbs=("delete",)),
        _rule(GROUP, CHUNKS, SNAPSHOT_CHUNKS, verbs=("list",)),
    ]


def schema_rules() -> list[dict[str, Any]]:
    """Return what looking at the version of the kinds takes; they have no namespace."""
    names = [each["metadata"]["name"] for each in definitions()]
    rule = _rule("apiextensions.k8s.io", "customresourcedefinitions", verbs=("get",))
    return [rule | {"resourceNames": names}]


def roles(
    namespace: str, *, account: str, mirror: bool = False
) -> list[dict[str, Any]]:
    """Return the roles, with the runtime's bound to a service account.

    That of the mirror is bound to it as well where `mirror` says that it is switched on.
    """
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    mirrors = [_binding("RoleBinding", "Role", MIRROR, subject, namespace)]
    return [
        _role("Role", RUNTIME, runtime_rules(), namespace),
        _role("Role", OWNER, owner_rules(), namespace),
        _role("Role", COMPACTOR, compactor_rules(), namespace),
        _role("Role", MIRROR, mirror_rules(), namespace),
        _role("ClusterRole", SCHEMA_READER, schema_rules()),
        _binding("RoleBinding", "Role", RUNTIME, subject, namespace),
        _binding("ClusterRoleBinding", "ClusterRole", SCHEMA_READER, subject),
        *(mirrors if mirror else []),
    ]


def _role(
    kind: str, name: str, rules: list[dict[str, Any]], namespace: str | None = None
) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": _metadata(name, namespace),
        "rules": rules,
    }


def _binding(
    kind: str,
    role_kind: str,
    role: str,
    subject: dict[str, str],
    namespace: str | None = None,
) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": _metadata(role, namespace),
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": role_kind,
            "name": role,
        },
        "subjects": [subject],
    }


def _metadata(name: str, namespace: str | None) -> dict[str, str]:
    return {"name": name} | ({"namespace": namespace} if namespace else {})


def as_yaml(namespace: str, *, account: str, mirror: bool = False) -> str:
    """Return everything as one file for `kubectl apply`."""
    documents = [*definitions(), *roles(namespace, account=account, mirror=mirror)]
    return yaml.safe_dump_all(documents, sort_keys=False)
