"""Counting a short range of a long log looks at that range alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg
import pytest

from events import History, creations
from evstore.log import open_log
from evstore.log.postgres import statements
from evstore.log.postgres.connections import parameters

if TYPE_CHECKING:
    from evstore.config import Config

pytestmark = pytest.mark.slow


async def test_a_short_range_is_found_by_the_primary_key(
    postgres_config: Config,
) -> None:
    async with open_log(postgres_config) as log:
        history = History(log.genesis)
        for part in range(20):
            creations(history, (f"n{part}-{number}" for number in range(500)))
        await log.restore(history.events, after=log.genesis, identity=log.identity)
    connection = await psycopg.AsyncConnection.connect(
        **parameters(postgres_config.postgres, purpose="test"), autocommit=True
    )
    async with connection:
        await connection.execute("ANALYZE evstore.events")
        cursor = await connection.execute(
            b"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " + statements.ACTIVITY,
            {"after": 9_000, "until": 9_100, "top": 3},
        )
        plan = "\n".join([row[0] for row in await cursor.fetchall()])
    assert "Seq Scan" not in plan
    scans = re.findall(r"Index Scan using (\w+_pkey).*rows=(\d+)", plan)
    assert [int(rows) for _, rows in scans] == [100], plan
