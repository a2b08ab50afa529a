"""A process that is about to append, and is stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from evstore.clock import boot_microseconds

if TYPE_CHECKING:
    from collections.abc import Generator

    from evstore.config import Config

CONFIRMED_SECONDS: Final = 0.5


class Writer:
    """The process, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    async def hear(self) -> str:
        assert self._process.stdout is not None
        line = await anyio.to_thread.run_sync(self._process.stdout.readline)
        return line.strip()

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    @contextmanager
    def stopped(self) -> Generator[None]:
        """Stop it, for longer than its look at the log's end counts for."""
        began = boot_microseconds()
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
            while boot_microseconds() - began < CONFIRMED_SECONDS * 2e6:
                time.sleep(0.01)
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def writing(
    config: Config, name: str, *, chunk_characters: int = 0
) -> Generator[Writer]:
    """Run a process that is about to create a resource, with chunks if they have a size."""
    asked = {
        "namespace": config.kubernetes.system_namespace,
        "kubeconfig": config.kubernetes.kubeconfig,
        "confirmed_seconds": CONFIRMED_SECONDS,
        "name": name,
        "chunk_characters": chunk_characters,
    }
    program = Path(__file__).with_name("late_writer.py")
    with subprocess.Popen(
        [sys.executable, str(program), json.dumps(asked)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Writer(process)
        finally:
            process.kill()
