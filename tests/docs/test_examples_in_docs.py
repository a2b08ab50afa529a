"""Every Python block in docs/ runs, in memory."""

from __future__ import annotations

import pytest

from docs.blocks import ROOT, Block, blocks, pages

EXAMPLES = [
    block
    for page in pages()
    if page.is_relative_to(ROOT / "docs")
    for block in blocks(page, "python")
]


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.name)
def test_example_runs(
    block: Block,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KUMA_STORE_TYPE", "memory")
    block.run()
    assert "Traceback" not in capsys.readouterr().out
