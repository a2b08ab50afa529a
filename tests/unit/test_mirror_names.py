"""What the objects of a mirror are called: valid, stable, and never alike."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, strategies as st

from evstore.mirror.content import is_mirrored, name_of
from evstore.model import LEASE_TYPE, Key

# As the API server checks names of objects.
SUBDOMAIN = re.compile(
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
)
CHARACTERS_MAX = 128
SEGMENT = st.from_regex(r"[a-z0-9](?:[-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(SEGMENT, min_size=1, max_size=8).map(".".join)
TYPES = st.from_regex(r"[A-Z][A-Za-z0-9]{0,60}", fullmatch=True)
KEYS = st.builds(Key, type=TYPES, mesh=st.just("") | NAMES, name=NAMES).map(
    lambda key: key.text
)
NEARLY_ALIKE = st.tuples(*[st.sampled_from(["a", "A", "-", ".", "a-a", "a.a", ""])] * 3)


@given(KEYS | st.text())
@example("Dataplane/default/" + "x" * 253)
@example("Dataplane/default/" + "-" * 253)
@example("")
def test_every_name_is_valid(key: str) -> None:
    name = name_of(key)
    assert SUBDOMAIN.fullmatch(name)
    assert len(name) <= CHARACTERS_MAX


@given(st.sets(KEYS | NEARLY_ALIKE.map("/".join), max_size=50))
def test_no_two_keys_have_one_name(keys: set[str]) -> None:
    assert len({name_of(key) for key in keys}) == len(keys)


def test_what_only_a_digest_tells_apart_is_told_apart() -> None:
    keys = ["Mesh//a-b", "Mesh/a/b", "Mesh//a.b", "MESH//a-b", f"Mesh//{'x' * 250}"]
    keys += [f"Mesh//{'x' * 249}{last}" for last in "yz"]
    assert len({name_of(key) for key in keys}) == len(keys)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("Mesh//default", "mesh-default-l55eaonh47mllbu6"),
        ("Dataplane/default/web-1", "dataplane-default-web-1-ltjk6d5p6kow3kyj"),
        ("Zone//a", "zone-a-32ruxgcczgj4gval"),
    ],
)
def test_names_stay_as_they_are(key: str, name: str) -> None:
    """A release that names them otherwise would write every object anew."""
    assert name_of(key) == name


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("Zone//a", True),
        ("SecretPolicy/m/a", True),
        ("Secret/m/a", False),
        ("GlobalSecret//a", False),
        (f"{LEASE_TYPE}//a", False),
    ],
)
def test_secrets_and_what_is_the_stores_own_are_left_out(
    key: str, *, shown: bool
) -> None:
    assert is_mirrored(key) is shown
