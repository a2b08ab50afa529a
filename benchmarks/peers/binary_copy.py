"""Raw binary COPY, the ceiling: one client that does nothing but send rows.

Into a table of the shape of evstore.events: the same columns, checks, primary key and
index on the key, but neither partitions nor triggers. The bytes are prepared before.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

import psycopg
from harness import fresh

from . import Outcome
from .bare_insert import BODY

if TYPE_CHECKING:
    from evstore.config import Config
    from evstore.embedded import EmbeddedServer

DATABASE = "binary_copy"
ROWS = 1_000  # a transaction
BLOCKS = 100  # prepared at a time; then the table is emptied, outside of what is timed
MICROSECONDS = 800_000_000_000_000  # since 2000, as PostgreSQL counts
HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
TRAILER = struct.pack("!h", -1)


def _field(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


# What stands in a row after its position and commit.
REST = b"".join(
    [
        _field(struct.pack("!q", MICROSECONDS)),  # recorded_at
        _field(bytes(range(16))),  # tx
        _field(struct.pack("!i", 1)),  # schema_version
        _field(struct.pack("!i", len(BODY))),  # size
        *(_field(word) for word in (b"bench", b"updated", b"Dataplane", b"default")),
        _field(b"dp-000000"),
        _field(b"\xab" * 16),  # salt
        _field(b"\xcd" * 32),  # hash
        struct.pack("!i", -1),  # body_digest
        _field(b"{}"),  # metadata
        _field(BODY.encode()),
    ]
)
START = struct.Struct("!hiqiq")  # columns, then two fields of eight bytes


def block(first: int) -> bytes:
    """Return the COPY data of one transaction."""
    rows = (
        START.pack(16, 8, position, 8, first + ROWS - 1) + REST
        for position in range(first, first + ROWS)
    )
    return HEADER + b"".join(rows) + TRAILER


class BinaryCopy:
    """One connection."""

    name = "binary COPY"
    about = f"{ROWS:,} rows a transaction, the bytes prepared before; one connection"

    def prepare(self, running: EmbeddedServer) -> None:
        self._config: Config = fresh(running, DATABASE)
        statement = "CREATE TABLE copied (LIKE evstore.events INCLUDING ALL)"
        running.psql(statement, database=DATABASE)
        self._blocks = [block(1 + ROWS * index) for index in range(BLOCKS)]

    def changes(self, clients: int, seconds: float) -> Outcome:
        assert clients == 1
        postgres = self._config.postgres
        count = 0
        taken = 0.0
        with psycopg.connect(
            host=postgres.host,
            port=postgres.port,
            user="postgres",
            dbname=DATABASE,
            autocommit=True,
        ) as connection:
            while taken < seconds:
                connection.execute("TRUNCATE copied")
                began = time.perf_counter()
                sent = 0
                for data in self._blocks:
                    with (
                        connection.cursor() as cursor,
                        cursor.copy("COPY copied FROM STDIN (FORMAT binary)") as copy,
                    ):
                        copy.write(data)
                    sent += ROWS
                    if taken + time.perf_counter() - began >= seconds:
                        break
                taken += time.perf_counter() - began
                kept = connection.execute("SELECT count(*) FROM copied").fetchone()
                assert kept == (sent,), (kept, sent)
                count += sent
        return Outcome(count, taken)

    def close(self) -> None:
        pass
