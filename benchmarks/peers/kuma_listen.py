"""Kuma's LISTEN on its trigger: a notification with type, mesh and name of a resource.

Kuma would then read the resource; that is not counted, so Kuma is at its best.
"""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
from harness import SPEC_JSON, worker

from . import Watched, kuma, pgbench

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from evstore.embedded import EmbeddedServer

DATABASE = "kuma_listen"
LOAD_CLIENTS = 8
UPDATE = """\
UPDATE resources SET spec = %s, version = %s, modification_time = now(), labels = '{}',
    status = '{}'
WHERE name = %s AND mesh = 'default' AND type = 'HealthCheck' AND version = %s
"""


def listen(pipe: Connection, conninfo: str) -> None:
    """Listen in a process of its own; send what was seen up to each name received."""
    seen: dict[str, float] = {}
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("LISTEN resource_events")
        pipe.send("listening")
        while True:
            for notification in connection.notifies(timeout=0.05):
                now = time.perf_counter()
                seen[json.loads(notification.payload)["data"]["name"]] = now
            if pipe.poll():
                try:
                    last = pipe.recv()
                except EOFError:
                    return
                while last not in seen:
                    for notification in connection.notifies(stop_after=1):
                        now = time.perf_counter()
                        seen[json.loads(notification.payload)["data"]["name"]] = now
                pipe.send(seen)
                seen = {}


class KumaListen:
    """A listener in another process, by psycopg."""

    name = "Kuma's LISTEN"

    def prepare(self, running: EmbeddedServer) -> None:
        self._running = running
        kuma.create(running, DATABASE)
        self._conninfo = (
            f"host={running.host} port={running.port} user=postgres dbname={DATABASE}"
        )

    def watched(self, seconds: float, pause: float, rate: int) -> Watched:
        """Return how long each update took from its call until it was heard of."""
        changes = round(seconds / pause)
        statement = f"""
            TRUNCATE resources;
            INSERT INTO resources (name, mesh, type, version, spec)
            SELECT 'probe-' || n, 'default', 'HealthCheck', 0, '{SPEC_JSON}'
            FROM generate_series(0, {changes - 1}) AS n
            UNION ALL
            SELECT 'dp-' || n, 'default', 'Dataplane', 0, '{SPEC_JSON}'
            FROM generate_series(0, {LOAD_CLIENTS - 1}) AS n"""
        self._running.psql(statement, database=DATABASE)
        called: dict[str, float] = {}
        with (
            worker(listen, self._conninfo) as pipe,
            ThreadPoolExecutor(1) as load,
            psycopg.connect(
                self._conninfo, autocommit=True, prepare_threshold=0
            ) as connection,
        ):
            pipe.recv()
            loading = None
            if rate:
                loading = load.submit(
                    pgbench.run,
                    self._running,
                    DATABASE,
                    kuma.UPDATE,
                    clients=LOAD_CLIENTS,
                    seconds=math.ceil(seconds),
                    variables={"version": 0},
                    rate=rate,
                )
            due = time.perf_counter()
            for number in range(changes):
                name = f"probe-{number}"
                called[name] = time.perf_counter()
                done = connection.execute(UPDATE, (SPEC_JSON, 1, name, 0))
                assert done.rowcount == 1
                due += pause
                time.sleep(max(0.0, due - time.perf_counter()))
            pipe.send(name)
            seen = pipe.recv()
            load_rate = 0.0 if loading is None else loading.result().rate
        return Watched([seen[name] - at for name, at in called.items()], load_rate)

    def close(self) -> None:
        pass
