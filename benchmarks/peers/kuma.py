"""Kuma's own statements on Kuma's own table, without Kuma around them.

Source: kumahq/kuma, pkg/plugins/resources/postgres/pgx_store.go. Kuma is at its best
here: prepared statements, no Go code, no listener, and no row that two clients want.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from . import pgbench
from .pgbench import SPEC_LITERAL

if TYPE_CHECKING:
    from evstore.embedded import EmbeddedServer

    from . import Outcome

DATABASE = "kuma_peer"
DDL = Path(__file__).with_name("kuma.sql")

UPDATE = f"""\
\\set next :version + 1
UPDATE resources SET spec = '{SPEC_LITERAL}', version = :next, modification_time = now(),
    labels = '{{}}', status = '{{}}'
WHERE name = 'dp-' || (:client_id)::text AND mesh = 'default' AND type = 'Dataplane'
    AND version = :version;
\\set version :next
"""
INSERT = f"""\
\\set next :number + 1
INSERT INTO resources (name, mesh, type, version, spec, creation_time,
    modification_time, owner_name, owner_mesh, owner_type, labels, status)
VALUES ('dp-' || (:client_id)::text || '-' || (:number)::text, 'default', 'Dataplane',
    0, '{SPEC_LITERAL}', now(), now(), NULL, NULL, NULL, '{{}}', '{{}}');
\\set number :next
"""
GET = """\
\\set mesh random(0, :meshes - 1)
\\set number random(0, :each - 1)
SELECT spec, version, creation_time, modification_time, labels, status FROM resources
WHERE name = 'dp-' || lpad((:number)::text, 6, '0') AND mesh = 'mesh-' || (:mesh)::text
    AND type = 'Dataplane';
"""
LIST = """\
SELECT name, mesh, spec, version, creation_time, modification_time, labels, status
FROM resources WHERE type = 'Dataplane' AND mesh = 'mesh-1' ORDER BY name, mesh;
"""


def create(running: EmbeddedServer, database: str) -> None:
    """Make a database with Kuma's table and trigger."""
    running.create_database(database)
    running.psql(DDL.read_text(), database=database)


class KumaUpdate:
    """Updates with a version check, each client of a row of its own."""

    name = "Kuma, UPDATE"
    about = (
        "Kuma's table, indexes and NOTIFY trigger; its UPDATE with a version check;"
        " pgbench, prepared; nobody listens"
    )
    database = f"{DATABASE}_update"

    def prepare(self, running: EmbeddedServer) -> None:
        self._running = running
        create(running, self.database)

    def changes(self, clients: int, seconds: float) -> Outcome:
        rows = f"""
            TRUNCATE resources;
            INSERT INTO resources (name, mesh, type, version, spec)
            SELECT 'dp-' || n, 'default', 'Dataplane', 0, '{SPEC_LITERAL}'
            FROM generate_series(0, {clients - 1}) AS n"""
        self._running.psql(rows, database=self.database)
        self._running.psql("VACUUM ANALYZE resources", database=self.database)
        outcome = pgbench.run(
            self._running,
            self.database,
            UPDATE,
            clients=clients,
            seconds=seconds,
            variables={"version": 0},
        )
        kept = self._running.psql(
            "SELECT sum(version) FROM resources", database=self.database
        )
        assert int(kept) == outcome.count, (kept, outcome.count)
        return outcome

    def close(self) -> None:
        pass


class KumaInsert(KumaUpdate):
    """Inserts of new resources."""

    name = "Kuma, INSERT"
    about = "as above; its INSERT"
    database = f"{DATABASE}_insert"

    def changes(self, clients: int, seconds: float) -> Outcome:
        self._running.psql("TRUNCATE resources", database=self.database)
        outcome = pgbench.run(
            self._running,
            self.database,
            INSERT,
            clients=clients,
            seconds=seconds,
            variables={"number": 0},
        )
        kept = self._running.psql(
            "SELECT count(*) FROM resources", database=self.database
        )
        assert int(kept) == outcome.count, (kept, outcome.count)
        return outcome
