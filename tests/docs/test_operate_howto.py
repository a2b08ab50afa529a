"""What the page for operators lists is what the command does."""

from __future__ import annotations

import re

from docs.blocks import ROOT, blocks
from evstore.maintenance import grants
from unit.test_doctor_postgres import CHECKS

PAGE = ROOT / "docs" / "howto" / "operate.md"


def test_every_check_of_the_doctor_is_listed_in_its_order() -> None:
    text = PAGE.read_text(encoding="utf-8").partition("\n## Ask the doctor\n")[2]
    listed = re.findall(r"^\| `([\w -]+)` \|", text.partition("\n## ")[0], re.MULTILINE)
    # With a read replica, there is a check more.
    assert [name for name in listed if name != "read replica"] == CHECKS
    assert "read replica" in listed


def test_the_statements_that_grant_are_those_of_the_command() -> None:
    (first, *_) = blocks(PAGE, "sql")
    assert first.text.splitlines() == grants("kuma_run")
