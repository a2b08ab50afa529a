"""The library reference lists exactly the public names, methods and parameters."""

from __future__ import annotations

import inspect
import re

import evstore
from docs.blocks import ROOT
from evstore import Store

TEXT = (ROOT / "docs" / "reference" / "library.md").read_text(encoding="utf-8")
WHO_AND_WHY = {"actor", "reason", "request_id"}


def public(kind: type) -> set[str]:
    """Return the public attributes of a class."""
    return {name for name in dir(kind) if not name.startswith("_")}


def headings() -> dict[str, str]:
    """Return the signatures in the headings by the name of the method."""
    found = re.findall(r"^### `(\w+)\((.*)\)`$", TEXT, re.MULTILINE)
    return dict(found)


def test_every_public_name_is_listed() -> None:
    missing = [name for name in evstore.__all__ if not re.search(rf"\b{name}\b", TEXT)]
    assert not missing


def test_every_method_of_the_store_is_listed() -> None:
    missing = [name for name in public(Store) if f"`{name}" not in TEXT]
    assert not missing


def test_methods_are_listed_with_all_their_parameters() -> None:
    for name, listed in headings().items():
        method = getattr(Store, name)
        actual = set(inspect.signature(method).parameters) - {"self"}
        if listed.endswith("..."):
            actual -= WHO_AND_WHY
        names = set(re.findall(r"(?<![\w.\"])([a-z_]+)(?==|,|$)", listed))
        assert names - {"None", "False"} == actual, name


def test_every_attribute_of_values_is_listed() -> None:
    for kind in (evstore.Resource, evstore.Event, evstore.Page):
        section = re.split(rf"^### `{kind.__name__}`$", TEXT, flags=re.MULTILINE)[1]
        section = section.split("\n#", maxsplit=1)[0]
        inner = {"record", "stored"}  # what the store itself uses
        missing = [
            n for n in public(kind) - inner if not re.search(rf"\b{n}\b", section)
        ]
        assert not missing, kind
