"""What the README shows runs, and what it promises at its top is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from docs.blocks import ROOT, Block, blocks
from evstore import codec, schemas
from evstore.commit import arguments, commands
from evstore.config import Limits
from evstore.folds import requests
from evstore.watching import tail

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


def test_the_limits_are_those_of_the_code() -> None:
    kib, mib = 1024, 1024 * 1024
    limits = Limits()
    text = README.read_text(encoding="utf-8")
    section = text.split("## Limits")[1].split("\n## ")[0]
    for row in (
        f"| name of a resource | {arguments.NAME_CHARACTERS_MAX} characters",
        f"| mesh | {arguments.MESH_CHARACTERS_MAX} characters",
        f"| type | {schemas.TYPE_CHARACTERS_MAX} letters",
        f"| spec, and status | {arguments.SPEC_BYTES_MAX // mib} MiB each",
        f"| {codec.DEPTH_MAX} levels |",
        f"| labels of a resource | {arguments.LABELS_BYTES_MAX // kib} KiB |",
        (
            f"| {arguments.ACTOR_CHARACTERS_MAX} / {arguments.REASON_CHARACTERS_MAX:,}"
            f" / {arguments.REQUEST_ID_CHARACTERS_MAX} characters |"
        ),
        (
            f"| {commands.TRANSACTION_EVENTS_MAX:,} events,"
            f" {commands.TRANSACTION_BYTES_MAX // mib} MiB of bodies |"
        ),
        (
            f"last {requests.MEMORY_MICROSECONDS // 3_600_000_000} hours,"
            f" {requests.MEMORY_REQUESTS_MAX:,} of them |"
        ),
        f"| commands that wait | {limits.queue_commands_max:,} (",
        (
            f"| commands in one append | {limits.batch_commands_max:,}, or"
            f" {limits.batch_bytes_max // mib} MiB"
        ),
        f"| {limits.command_timeout:.0f} s / {limits.append_timeout:.0f} s (",
        f"| {limits.page_size_max:,} (`pageSizeMax`) |",
        f"| {limits.tail_events_max:,}, or {tail.TAIL_BYTES_MAX // mib} MiB (",
    ):
        assert row in section


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
