"""Finds what the documentation is made of: pages, code blocks, headings, links."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


class Block(NamedTuple):
    """A code block: its language, its first line in the file, its text."""

    page: Path
    language: str
    line: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def run(self) -> None:
        """Execute it as a script, so that tracebacks name the page and its line."""
        source = "\n" * (self.line - 1) + self.text
        exec(compile(source, str(self.page), "exec"), {"__name__": "__main__"})


def pages() -> list[Path]:
    """Return every page of the documentation."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks(page: Path, language: str) -> list[Block]:
    """Return the code blocks of a page in one language."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, found[1], text.count("\n", 0, found.start(2)) + 1, found[2])
        for found in _BLOCK.finditer(text)
        if found[1] == language
    ]


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return what a link can point to inside a page."""
    return {_anchor(found[1]) for found in _HEADING.finditer(prose(page))}


def _anchor(heading: str) -> str:
    plain = unicodedata.normalize("NFC", re.sub(r"[`*]", "", heading)).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
