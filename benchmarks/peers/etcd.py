"""etcd, one server, by its own Go client: etcd.go, which the installer compiles.

A change is a transaction that compares when the key was last changed, as Kubernetes does it.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import SPEC_JSON

from . import SCRATCH, MissingError, Outcome, Watched, client, wanted

if TYPE_CHECKING:
    from evstore.embedded import EmbeddedServer

START_SECONDS = 20
QUOTA_BYTES = 8 * 2**30


class Etcd:
    """A connection for each client, each with a key of its own."""

    name = "etcd"

    def prepare(self, running: EmbeddedServer | None = None) -> None:  # noqa: ARG002
        self._program = wanted(SCRATCH / "etcd-client")
        found = shutil.which("etcd")
        if found is None:
            raise MissingError("no etcd on the path: apt-get install etcd-server")
        words = subprocess.run(
            [found, "--version"], capture_output=True, check=True, text=True
        ).stdout.split()
        self.about = (
            f"{words[2]}, one server: a transaction that compares when the key was last changed;"
            " etcd's own Go client, a connection for each client"
        )
        self._runs = 0
        # Beside the data of PostgreSQL: on the same disk.
        self._folder = tempfile.TemporaryDirectory(prefix="evstore-bench-etcd-")
        self.address = f"127.0.0.1:{_free_port()}"
        peers = f"http://127.0.0.1:{_free_port()}"
        with (Path(self._folder.name) / "log").open("wb") as log:
            self._server = subprocess.Popen(
                [
                    *(found, "--data-dir", str(Path(self._folder.name) / "data")),
                    *("--listen-client-urls", f"http://{self.address}"),
                    *("--advertise-client-urls", f"http://{self.address}"),
                    *("--listen-peer-urls", peers),
                    *("--initial-advertise-peer-urls", peers),
                    *("--initial-cluster", f"default={peers}"),
                    *("--quota-backend-bytes", str(QUOTA_BYTES)),
                    *("--logger", "zap", "--log-level", "warn"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._server.poll() is not None or time.monotonic() > deadline:
                reason = (Path(self._folder.name) / "log").read_text()[-500:]
                self.close()
                raise MissingError(f"etcd did not start: {reason}")
            time.sleep(0.05)

    def changes(self, clients: int, seconds: float) -> Outcome:
        self._runs += 1
        prefix = f"/bench-{self._runs}"
        size = len(SPEC_JSON)
        found = self.ask("put", round(seconds * 1e3), clients, prefix, size)
        return Outcome(found["count"], found["seconds"], found["latencies"])

    def watched(self, seconds: float, pause: float, rate: int) -> Watched:
        """Return how long each put took from its call until a watcher had it."""
        words = (round(seconds * 1e3), round(pause * 1e3), rate, len(SPEC_JSON))
        found = self.ask("watch", *words)
        assert len(found["latencies"]) == round(seconds / pause)
        return Watched(found["latencies"], found["load"])

    def ask(self, command: str, *words: object) -> dict[str, Any]:
        """Run the client program with one of its commands."""
        return client(self._program, command, self.address, *map(str, words))

    def close(self) -> None:
        self._server.terminate()
        self._server.wait()
        self._folder.cleanup()

    def _answers(self) -> bool:
        host, _, port = self.address.partition(":")
        try:
            socket.create_connection((host, int(port))).close()
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
