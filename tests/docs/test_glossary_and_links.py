"""Links lead somewhere, words are used as the glossary has them, no page names a machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from docs.blocks import ROOT, anchors, pages, prose

if TYPE_CHECKING:
    from pathlib import Path

LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
OF_ONE_MACHINE = re.compile(r"(?<![\w.])/(?:work|root|home|tmp/[\w-]+/)[\w/]*")
EVERY_PAGE = pytest.mark.parametrize(
    "page", pages(), ids=lambda page: str(page.relative_to(ROOT))
)


def rows(page: Path) -> list[list[str]]:
    """Return the cells of all tables of a page, but their heads."""
    lines = page.read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


@EVERY_PAGE
def test_relative_links_resolve(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{page} links to {target}"


@EVERY_PAGE
def test_no_page_names_a_path_of_one_machine(page: Path) -> None:
    assert not OF_ONE_MACHINE.findall(page.read_text(encoding="utf-8"))


def test_every_page_of_the_docs_can_be_reached_from_the_index() -> None:
    docs = ROOT / "docs"
    seen: set[Path] = set()
    waiting = [docs / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = [target.partition("#")[0] for target in LINK.findall(prose(page))]
        waiting += [
            (page.parent / target).resolve()
            for target in targets
            if target and not re.match(r"\w+:", target)
        ]
    assert set(docs.rglob("*.md")) <= seen


def test_the_glossary_has_each_word_once() -> None:
    words = [word for word, *_ in rows(ROOT / "docs" / "glossary.md")]
    words = [word for word in words if word != "word"]
    assert len(words) == len(set(words))


@EVERY_PAGE
def test_revision_is_not_used_for_version_or_position(page: Path) -> None:
    if page.name != "glossary.md":
        # But for the name of a parameter, of an upcaster's own revision.
        text = re.sub(r"`[^`]*`", "", prose(page))
        assert not re.search(r"\brevisions?\b", text, re.IGNORECASE)
