"""message-db's write_message, by pgbench: a stream for each client, versions expected.

Its package holds its SQL, which is installed as its own script does it, less the
extension pgcrypto: the functions use what PostgreSQL itself has by now.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import SCRATCH, pgbench, wanted
from .pgbench import SPEC_LITERAL

if TYPE_CHECKING:
    from pathlib import Path

    from evstore.embedded import EmbeddedServer

    from . import Outcome

SOURCE = SCRATCH / "node_modules" / "@eventide" / "message-db" / "database"
SCRIPTS = ("install-functions.sh", "install-indexes.sh")

WRITE = f"""\
SELECT message_store.write_message(gen_random_uuid()::varchar, CATEGORY
    || '-' || (:run)::text || 'c' || (:client_id)::text, 'Updated', '{SPEC_LITERAL}'::jsonb,
    NULL, :version);
\\set version :version + 1
"""


class MessageDb:
    """All streams in one category, as all dataplanes would be: they have one order."""

    name = "message-db"
    database = "message_db"
    category = "'dataplane'"

    def prepare(self, running: EmbeddedServer) -> None:
        self._running = running
        self._run = 0
        version = wanted(SOURCE / "VERSION.txt").read_text().strip()
        self.about = self._about(version)
        running.create_database(self.database)
        self._execute("CREATE SCHEMA message_store")
        self._execute(
            f"ALTER DATABASE {self.database} SET search_path = message_store, public"
        )
        for path in (SOURCE / "tables" / "messages.sql", *_installed()):
            self._execute(path.read_text())

    def _about(self, version: str) -> str:
        return (
            f"{version}: write_message with an expected version, by pgbench, prepared;"
            " all streams in one category, within which there is an order"
        )

    def changes(self, clients: int, seconds: float) -> Outcome:
        self._run += 1
        before = self._kept()
        outcome = pgbench.run(
            self._running,
            self.database,
            WRITE.replace("CATEGORY", self.category),
            clients=clients,
            seconds=seconds,
            variables={"version": -1, "run": self._run},
        )
        assert self._kept() - before == outcome.count
        return outcome

    def close(self) -> None:
        pass

    def _kept(self) -> int:
        return int(self._execute("SELECT count(*) FROM message_store.messages"))

    def _execute(self, statement: str) -> str:
        return self._running.psql(statement, database=self.database)


class MessageDbCategories(MessageDb):
    """Each client in a category of its own: no common lock, and no common order."""

    name = "message-db, categories"
    database = "message_db_categories"
    category = "'dataplane' || (:client_id)::text"

    def _about(self, version: str) -> str:
        return f"{version}: as above, a category for each client: no order among them"


def _installed() -> list[Path]:
    """Return the files that message-db's own scripts run, in their order."""
    return [
        SOURCE / found
        for script in SCRIPTS
        for found in re.findall(
            r"run_psql_file \$base/(\S+)", (SOURCE / script).read_text()
        )
    ]
