"""Emmett's event store for PostgreSQL, in Node.js: appendToStream, versions expected."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from harness import SPEC_JSON

from . import SCRATCH, MissingError, Outcome, client, wanted

if TYPE_CHECKING:
    from evstore.embedded import EmbeddedServer

DATABASE = "emmett"
MODULES = SCRATCH / "node_modules"
PROGRAM = Path(__file__).with_name("emmett.cjs")


class Emmett:
    """A loop and a connection for each client, each with a stream of its own."""

    name = "emmett"

    def prepare(self, running: EmbeddedServer) -> None:
        package = MODULES / "@event-driven-io" / "emmett-postgresql" / "package.json"
        version = json.loads(wanted(package).read_text())["version"]
        if shutil.which("node") is None:
            raise MissingError("no node on the path")
        self.about = (
            f"{version}: appendToStream of one event with an expected version, a pool"
            " with a connection for each client; one Node.js process"
        )
        self._running = running
        running.create_database(DATABASE)

    def changes(self, clients: int, seconds: float) -> Outcome:
        before = self._kept()
        host = self._running.host.replace("/", "%2F")
        found = client(
            *(
                "node",
                PROGRAM,
                f"postgresql://postgres@{host}:{self._running.port}/{DATABASE}",
            ),
            *(str(clients), str(seconds * 1e3), SPEC_JSON),
            environment={**os.environ, "NODE_PATH": str(MODULES)},
        )
        outcome = Outcome(found["count"], found["seconds"], found["latencies"])
        # What was under way at the end is kept as well, and not counted.
        assert outcome.count <= self._kept() - before <= outcome.count + 2 * clients
        return outcome

    def close(self) -> None:
        pass

    def _kept(self) -> int:
        if not self._running.psql(
            "SELECT to_regclass('emt_messages')", database=DATABASE
        ):
            return 0
        statement = "SELECT count(*) FROM emt_messages"
        return int(self._running.psql(statement, database=DATABASE))
