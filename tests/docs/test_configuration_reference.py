"""The configuration reference lists exactly the settings that the code has."""

from __future__ import annotations

import re
from pathlib import Path

from evstore.config import StoreType, TlsMode
from evstore.config.catalog import IGNORED, SETTINGS
from evstore.config.kinds import as_text

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"


def rows(heading: str) -> list[tuple[str, ...]]:
    """Return the cells of the tables between a heading and the next of its level."""
    level = heading.split(" ", maxsplit=1)[0]
    _, found, after = PAGE.read_text(encoding="utf-8").partition(f"\n{heading}\n")
    assert found, f"{PAGE} has no heading {heading!r}"
    section = re.split(rf"^{level} ", after, maxsplit=1, flags=re.MULTILINE)[0]
    return [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in section.splitlines()
        if line.startswith("| `")
    ]


def test_every_setting_is_listed_with_its_names_default_and_meaning() -> None:
    expected = [
        (
            f"`{setting.key}`",
            f"`{setting.variable('KUMA')}`",
            f"`{as_text(setting.default)}`" if setting.default != "" else "empty",
            setting.field.meaning,
        )
        for setting in SETTINGS
    ]
    assert sorted(rows("## Settings")) == sorted(expected)


def test_every_setting_without_effect_is_listed_with_its_reason() -> None:
    expected = [(f"`{setting.key}`", setting.reason) for setting in IGNORED]
    assert rows("## Settings without effect") == expected


def test_every_store_type_is_explained() -> None:
    listed = [name for name, *_ in rows("## Store types")]
    assert listed == [f"`{store_type}`" for store_type in StoreType]


def test_every_tls_mode_is_explained() -> None:
    assert [name for name, *_ in rows("## TLS modes")] == [f"`{m}`" for m in TlsMode]


def test_no_other_setting_is_named() -> None:
    page = PAGE.read_text(encoding="utf-8")
    known = {setting.key for setting in SETTINGS}
    known |= {setting.key.removesuffix(".*") for setting in IGNORED}
    sections = {key.rpartition(".")[0] for key in known}
    named = {key.removesuffix(".*") for key in re.findall(r"`(store\.[\w.*]+)`", page)}
    assert named <= known | sections
    variables = {setting.variable("KUMA") for setting in SETTINGS}
    assert set(re.findall(r"`(KUMA_\w+)`", page)) <= variables
