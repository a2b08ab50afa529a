"""What the page for clusters lists is what the command does."""

from __future__ import annotations

import re

from docs.blocks import ROOT
from unit.test_doctor_kubernetes import CHECKS

PAGE = ROOT / "docs" / "howto" / "kubernetes.md"


def test_every_check_of_a_cluster_is_listed_in_its_order() -> None:
    text = PAGE.read_text(encoding="utf-8").partition("\n## Ask the doctor\n")[2]
    section = text.partition("\n## ")[0]
    assert re.findall(r"^\| `([\w -]+)` \|", section, re.MULTILINE) == CHECKS
