"""Run by pyeventsourcing.py, in the virtual environment of the peers.

Usage: pyeventsourcing_client.py CLIENTS SECONDS; the environment names the database.
"""

import json
import os
import sys
import threading
import time
from uuid import uuid4

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresFactory

STATE = b"x" * 350


def main() -> None:
    clients, seconds = int(sys.argv[1]), float(sys.argv[2])
    latencies: list[float] = []
    barrier = threading.Barrier(clients + 1)
    with PostgresFactory(dict(os.environ)) as factory:
        recorder = factory.application_recorder()

        def caller() -> None:
            aggregate, version = uuid4(), 1
            first = StoredEvent(aggregate, version, "bench:Created", STATE)
            recorder.insert_events([first])
            barrier.wait()
            ended = began + seconds
            while (called := time.perf_counter()) < ended:
                version += 1
                event = StoredEvent(aggregate, version, "bench:Updated", STATE)
                assert recorder.insert_events([event])
                now = time.perf_counter()
                if now <= ended:
                    latencies.append(now - called)

        began = 0.0
        threads = [threading.Thread(target=caller) for _ in range(clients)]
        for thread in threads:
            thread.start()
        while barrier.n_waiting < clients:
            time.sleep(0.001)
        began = time.perf_counter()
        barrier.wait()
        for thread in threads:
            thread.join()
    found = {"count": len(latencies), "seconds": seconds, "latencies": latencies}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
