"""What the README shows runs, and what it promises at its top is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from docs.blocks import ROOT, Block, blocks

if TYPE_CHECKING:
    from evstore.config import Config

README = ROOT / "README.md"
PYTHON = blocks(README, "python")
NEEDS_POSTGRES = "load_config"


def test_the_two_commands_stand_at_the_top_and_exist() -> None:
    first = blocks(README, "console")[0]
    assert first.line < 12
    commands = [line.split(" #")[0].strip() for line in first.text.splitlines()]
    assert commands == ["$ make demo", "$ make test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\ndemo:" in makefile
    assert "\ntest:" in makefile


def test_the_first_example_is_short() -> None:
    assert len(PYTHON[0].text.splitlines()) <= 25


@pytest.mark.parametrize(
    "block",
    [each for each in PYTHON if NEEDS_POSTGRES not in each.text],
    ids=lambda block: block.name,
)
def test_examples_run_in_memory(
    block: Block, capsys: pytest.CaptureFixture[str]
) -> None:
    block.run()
    assert "bob updated Dataplane web-1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "block",
    [each for each in PYTHON if NEEDS_POSTGRES in each.text],
    ids=lambda block: block.name,
)
def test_examples_run_in_postgres(
    block: Block,
    postgres_config: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    postgres = postgres_config.postgres
    monkeypatch.setenv("KUMA_STORE_TYPE", "postgres")
    monkeypatch.setenv("KUMA_STORE_POSTGRES_HOST", postgres.host)
    monkeypatch.setenv("KUMA_STORE_POSTGRES_PORT", str(postgres.port))
    monkeypatch.setenv("KUMA_STORE_POSTGRES_USER", postgres.user)
    monkeypatch.setenv("KUMA_STORE_POSTGRES_DB_NAME", postgres.db_name)
    block.run()
    assert capsys.readouterr().out == "3 updated MeshTimeout slow in mesh demo\n"
