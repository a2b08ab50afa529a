"""The processes under torture: started, killed, started again, and ended for sure."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Final, Generic

import anyio
import msgspec
from anyio.streams.text import TextReceiveStream

from fault.history import until

from .ground import WayT
from .worker import OPEN, QUIET, UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import Process

    from .assignment import Assignment
_TESTS: Final = Path(__file__).parents[2]
START_SECONDS: Final = 60.0
RESTART_SECONDS: Final = 0.2


class Instance(Generic[WayT]):
    """One instance of a control plane, in a process of its own with its own way."""

    def __init__(self, assignment: Assignment, way: WayT) -> None:
        self.name: Final = assignment.name
        self.way: Final = way
        self.lives = 0
        self._assignment = assignment
        self._process: Process | None = None
        self._stopping = False
        self._open = False
        self._quiet = anyio.Event()
        self.ended = anyio.Event()

    @property
    def pid(self) -> int | None:
        """The id of the process while it is there."""
        process = self._process
        return None if process is None else process.pid

    async def opened(self) -> None:
        """Return once this life, or a later one, has opened its store."""
        await until(lambda: self._open, seconds=START_SECONDS)

    def kill(self) -> None:
        """End the process by SIGKILL; it is started again."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def stop_writing(self) -> None:
        """Return once the process does not write any more."""
        await self.opened()
        self._stopping = True
        assert self._process is not None
        assert self._process.stdin is not None
        await self._process.stdin.send(b"stop\n")
        with anyio.fail_after(START_SECONDS):
            await self._quiet.wait()

    async def run(self) -> None:
        """Keep a process running until it ends after it was told to stop."""
        while True:
            async with self._life() as process:
                code = await process.wait()
            if code == 0 and self._stopping:
                self.ended.set()
                return
            if code not in {-signal.SIGKILL, UNAVAILABLE} or self._stopping:
                message = f"{self.name} ended with {code}: {self._last_words()}"
                raise RuntimeError(message)
            await anyio.sleep(RESTART_SECONDS)

    @asynccontextmanager
    async def _life(self) -> AsyncGenerator[Process]:
        assignment = msgspec.structs.replace(self._assignment, life=self.lives)
        self.lives += 1
        with self._errors.open("ab") as errors:
            process = await anyio.open_process(
                [sys.executable, "-m", "fault.torture.worker"],
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                env=os.environ | {"PYTHONPATH": _python_path()},
                start_new_session=True,
            )
        try:
            assert process.stdin is not None
            with suppress(OSError, anyio.BrokenResourceError):  # killed already
                await process.stdin.send(msgspec.json.encode(assignment) + b"\n")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._listen, process)
                self._process = process
                yield process
                tasks.cancel_scope.cancel()
        finally:
            self._process = None
            self._open = False
            with suppress(ProcessLookupError):
                process.kill()  # SIGKILL ends a stopped process as well
            with anyio.CancelScope(shield=True):
                await process.aclose()

    async def _listen(self, process: Process) -> None:
        assert process.stdout is not None
        said = ""
        async for text in TextReceiveStream(process.stdout):
            said += text
            if OPEN in said:
                self._open = True
            if QUIET in said:
                self._quiet.set()

    @property
    def _errors(self) -> Path:
        return Path(self._assignment.folder) / f"{self.name}.errors"

    def _last_words(self) -> str:
        return self._errors.read_text(errors="replace")[-4000:]


def _python_path() -> str:
    """Return where a process finds these tests, and all that this one was told of."""
    return os.pathsep.join([str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
