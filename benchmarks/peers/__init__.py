"""What a user would pick instead, each doing the same durable change its own way.

A peer that is not there says why, and nothing fails. `benchmarks/peers/install` fetches
what they need into `.bench/`; nothing of it becomes part of evstore.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evstore.embedded import EmbeddedServer

SCRATCH = Path(__file__).parents[2] / ".bench"
TIMEOUT_SECONDS = 120


class MissingError(Exception):
    """This peer cannot be had here; the message says why."""


class Outcome(NamedTuple):
    """Durable changes, and each one's latency in seconds where it was taken."""

    count: int
    seconds: float
    latencies: Sequence[float] = ()

    @property
    def rate(self) -> float:
        return self.count / self.seconds


class Watched(NamedTuple):
    """How long changes took to a watcher, beside how many others a second."""

    latencies: Sequence[float]
    load: float


class Peer(Protocol):
    """Changes of 350 bytes by some clients at once, each about a thing of its own."""

    name: str
    about: str

    def prepare(self, running: EmbeddedServer) -> None:
        """Set up what `changes` needs.

        Raises:
            MissingError: it cannot be had here.
        """
        ...

    def changes(self, clients: int, seconds: float) -> Outcome:
        """Make changes for so long, and assert that all of them were kept."""
        ...

    def close(self) -> None:
        """Stop what `prepare` started."""
        ...


def client(
    *command: str | Path, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a peer's client program and return its one line of JSON."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        check=False,
        env=None if environment is None else dict(environment),
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def wanted(path: Path) -> Path:
    """Return a path that the installer makes.

    Raises:
        MissingError: it has not.
    """
    if not path.exists():
        raise MissingError(
            f"{path.relative_to(SCRATCH.parent)} is not there: make bench-peers"
        )
    return path
