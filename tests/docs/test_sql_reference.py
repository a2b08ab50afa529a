"""The reference of the tables lists exactly what is in the database."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docs.blocks import ROOT, blocks

if TYPE_CHECKING:
    from evstore.config import Config
    from evstore.embedded import EmbeddedServer

PAGE = ROOT / "docs" / "reference" / "sql.md"
COLUMNS = """
    SELECT table_name, column_name, CASE data_type
        WHEN 'ARRAY' THEN ltrim(udt_name, '_') || '[]' ELSE data_type END
    FROM information_schema.columns
    WHERE table_schema = 'evstore' AND table_name !~ '^events_\\d+$'
"""
FUNCTIONS = """
    SELECT p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = 'evstore'
"""
SHORT = {"timestamp with time zone": "timestamptz"}


def listed_columns() -> set[tuple[str, str, str]]:
    """Return table, column and type of every row in the tables of the page."""
    found: set[tuple[str, str, str]] = set()
    text = PAGE.read_text(encoding="utf-8")
    for section in re.split(r"^## `evstore\.", text, flags=re.MULTILINE)[1:]:
        table = section.split("`", maxsplit=1)[0]
        for line in re.findall(
            r"^\| (`.*?) \| `([\w\[\]]+)` \|", section, re.MULTILINE
        ):
            found |= {
                (table, name, line[1]) for name in re.findall(r"`(\w+)`", line[0])
            }
    return found


def test_every_column_is_listed_with_its_type(
    server: EmbeddedServer, postgres_config: Config
) -> None:
    database = postgres_config.postgres.db_name
    lines = server.psql(COLUMNS, database=database).splitlines()
    columns = [line.split("|") for line in lines]
    actual = {(table, name, SHORT.get(kind, kind)) for table, name, kind in columns}
    assert listed_columns() == actual


def test_every_function_is_listed(
    server: EmbeddedServer, postgres_config: Config
) -> None:
    database = postgres_config.postgres.db_name
    text = PAGE.read_text(encoding="utf-8")
    for name in server.psql(FUNCTIONS, database=database).splitlines():
        assert f"`evstore.{name}(" in text


def test_statements_in_the_docs_run(
    server: EmbeddedServer, postgres_config: Config
) -> None:
    database = postgres_config.postgres.db_name
    server.psql(
        "DO $$ BEGIN CREATE ROLE kuma_run; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    for page in (PAGE, ROOT / "docs" / "howto" / "operate.md"):
        statements = blocks(page, "sql")
        assert statements
        for statement in statements:
            server.psql(statement.text, database=database)
