"""A bare INSERT of one row into evstore.events itself: what one durable row costs.

In a database of its own: a migrated copy, with all columns, indexes and triggers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import SPEC, fresh

from . import pgbench
from .pgbench import literal

if TYPE_CHECKING:
    from evstore.embedded import EmbeddedServer

    from . import Outcome

DATABASE = "bare_insert"
BODY = literal({"labels": {}, "owner": None, "spec": SPEC, "status": None})
INSERT = f"""\
INSERT INTO evstore.events (position, commit, recorded_at, tx, schema_version, size,
    actor, operation, type, mesh, name, salt, hash, body_digest, metadata, body)
VALUES (:position, :position, now(), '6a1a12f2-9d5c-4f3e-8f3a-0f4d5f3e9b1c', 1,
    {len(BODY)}, 'bench', 'updated', 'Dataplane', 'default', 'dp-000000',
    '\\x{"ab" * 16}', '\\x{"cd" * 32}', NULL, '{{}}', '{BODY}');
\\set position :position + 1
"""


class BareInsert:
    """One client only: positions are its own count."""

    name = "bare INSERT, one row"
    about = "pgbench, prepared, into evstore.events of another migrated database"

    def prepare(self, running: EmbeddedServer) -> None:
        self._running = running
        fresh(running, DATABASE)

    def changes(self, clients: int, seconds: float) -> Outcome:
        assert clients == 1
        before = self._last()
        outcome = pgbench.run(
            self._running,
            DATABASE,
            INSERT,
            clients=1,
            seconds=seconds,
            variables={"position": before + 1},
        )
        assert self._last() - before == outcome.count
        return outcome

    def close(self) -> None:
        pass

    def _last(self) -> int:
        statement = "SELECT coalesce(max(position), 0) FROM evstore.events"
        return int(self._running.psql(statement, database=DATABASE))
