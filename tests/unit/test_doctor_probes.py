"""What the doctor of clusters knows without asking: tokens, addresses, memory, words."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from evstore.log.kubernetes import access
from evstore.log.kubernetes.dates import DatedClock
from evstore.log.kubernetes.probes import machine
from evstore.log.kubernetes.probes.known import briefly
from evstore.log.kubernetes.probes.token import claims_of
from evstore.log.kubernetes.rights import Right, rights_of

if TYPE_CHECKING:
    from pathlib import Path


def jwt(claims: object) -> str:
    text = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"Bearer e30.{text}.c2lnbmVk"


def test_a_token_tells_whose_it_is_and_when_it_ends() -> None:
    claims = claims_of(jwt({"sub": "cp", "iat": 1, "exp": 3601.5, "aud": ["x"]}))
    assert claims is not None
    assert (claims.sub, claims.iat, claims.exp) == ("cp", 1, 3601.5)
    legacy = claims_of(jwt({"sub": "system:serviceaccount:a:b"}))
    assert legacy is not None
    assert legacy.exp is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        "Bearer opaque",
        "Bearer a.b",
        "Bearer a.!!.c",
        "Bearer a.bm90IGpzb24.c",
        "Bearer a.gICA.c",
        jwt([1, 2]),
        jwt({"exp": "tomorrow"}),
    ],
)
def test_of_any_other_token_nothing_is_told(token: str) -> None:
    assert claims_of(token) is None


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://10.0.0.1:6443", "https://10.0.0.1:6443"),
        ("https://alice:secret@host/k8s/c-1/", "https://host/k8s/c-1"),
        ("http://[::1]:8001", "http://[::1]:8001"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_address_is_shown_without_credentials(
    address: str | None, shown: str
) -> None:
    assert access.bare(address) == shown


def test_a_refusal_is_told_without_path_and_roles() -> None:
    who = (
        'User "cp" cannot list resource "leases" in API group "x" in the namespace "y"'
    )
    whole = (
        f"store.kubernetes: we may not get /apis/x: leases.x is forbidden: {who}. "
        '"evstore migrate manifests" prints the roles'
    )
    assert briefly(whole) == who
    assert briefly(f'namespaces "y" is forbidden: {who}') == who
    early = f"the API server https://a is not ready: {who}"
    assert briefly(early) == "the API server https://a is not ready"
    assert briefly("store.kubernetes: something else") == "something else"


def test_the_memory_is_that_of_the_container_where_it_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = machine.memory_bytes()
    assert whole is not None
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "_LIMITS", (limit, tmp_path / "nowhere"))
    limit.write_text("max\n")
    most = machine.memory_bytes()
    assert most is not None
    assert most >= whole
    limit.write_text("123456\n")
    assert machine.memory_bytes() == 123456


def test_rights_of_a_role_are_told_in_words() -> None:
    rules: list[dict[str, Any]] = [
        {
            "apiGroups": ["evstore.dev"],
            "resources": ["logs"],
            "verbs": ["get", "create"],
        },
        {
            "apiGroups": [""],
            "resources": ["events"],
            "resourceNames": ["one"],
            "verbs": ["get"],
        },
    ]
    found = rights_of(rules)
    assert [str(each) for each in found] == [
        "get logs.evstore.dev",
        "create logs.evstore.dev",
        "get events",
    ]
    assert found[2] == Right("get", "events", "", "one")


def test_a_clock_that_was_never_told_a_date_knows_nothing_of_the_servers() -> None:
    assert DatedClock().ahead() is None
