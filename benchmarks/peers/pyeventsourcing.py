"""pyeventsourcing's recorder for PostgreSQL in its default, locking mode, by threads.

Its database functions would be faster, but with them readers can miss events.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from . import SCRATCH, Outcome, client, wanted

if TYPE_CHECKING:
    from evstore.embedded import EmbeddedServer

DATABASE = "pyeventsourcing"
PROGRAM = Path(__file__).with_name("pyeventsourcing_client.py")


class PyEventSourcing:
    """A thread and a connection for each client, each with an aggregate of its own."""

    name = "pyeventsourcing"

    def prepare(self, running: EmbeddedServer) -> None:
        self._python = wanted(SCRATCH / "venv" / "bin" / "python")
        installed = list(SCRATCH.glob("venv/lib/python*/site-packages/eventsourcing-*"))
        wanted(installed[0] if installed else SCRATCH / "venv" / "eventsourcing")
        version = installed[0].name.removeprefix("eventsourcing-").split(".dist")[0]
        self.about = (
            f"{version}: PostgresApplicationRecorder.insert_events, one event each,"
            " table lock (the default), psycopg with its C part; threads"
        )
        self._running = running
        running.create_database(DATABASE)

    def changes(self, clients: int, seconds: float) -> Outcome:
        before = self._kept()
        environment = {
            **os.environ,
            "POSTGRES_HOST": self._running.host,
            "POSTGRES_PORT": str(self._running.port),
            "POSTGRES_DBNAME": DATABASE,
            "POSTGRES_USER": "postgres",
            "POSTGRES_PASSWORD": "none asked for",
            "POSTGRES_POOL_SIZE": str(clients),
            "POSTGRES_MAX_OVERFLOW": "0",
        }
        found = client(
            *(self._python, PROGRAM, str(clients), str(seconds)),
            environment=environment,
        )
        outcome = Outcome(found["count"], found["seconds"], found["latencies"])
        # What was under way at the end is kept as well, and not counted.
        assert outcome.count <= self._kept() - before <= outcome.count + 2 * clients
        return outcome

    def close(self) -> None:
        pass

    def _kept(self) -> int:
        if not self._running.psql(
            "SELECT to_regclass('stored_events')", database=DATABASE
        ):
            return 0
        statement = "SELECT count(*) FROM stored_events"
        return int(self._running.psql(statement, database=DATABASE))
