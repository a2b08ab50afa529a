"""A policy of newer API servers: what was appended stays as it is. As data; no I/O.

Rights cannot say that: who may do everything may do this as well. A policy holds for
whoever asks. Users who are exempt still need the rights.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import yaml

from .objects import CHANGES, CHUNKS, GROUP, VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

API: Final = "admissionregistration.k8s.io/v1"
_NAME: Final = "evstore-changes-stay"
_COMMENT: Final = """\
---
# Needs Kubernetes 1.30 or later. Not tested: the servers that evstore is tested with do
# not know these two kinds yet. Try it where nothing is lost first.
"""


def policy(namespace: str, *, exempt: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the policy for one namespace, and the binding without which it is idle."""
    name = f"{_NAME}-{namespace}"
    rule = {
        "apiGroups": [GROUP],
        "apiVersions": [VERSION],
        "operations": ["UPDATE", "DELETE"],
        "resources": [CHANGES, CHUNKS],
    }
    validation = {
        "expression": _expression(exempt),
        "message": "what evstore has appended stays as it is",
        "reason": "Forbidden",
    }
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return [
        {
            "apiVersion": API,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [validation],
            },
        },
        {
            "apiVersion": API,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": selector},
            },
        },
    ]


def _expression(exempt: Sequence[str]) -> str:
    """Return in CEL who may; its strings are written as those of JSON are."""
    if not exempt:
        return "false"
    names = ", ".join(json.dumps(each, ensure_ascii=False) for each in exempt)
    return f"request.userInfo.username in [{names}]"


def as_yaml(namespace: str, *, exempt: Sequence[str] = ()) -> str:
    """Return the policy as documents that follow others."""
    documents = policy(namespace, exempt=exempt)
    return _COMMENT + yaml.safe_dump_all(documents, sort_keys=False)
