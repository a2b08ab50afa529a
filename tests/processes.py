"""Stopping and ending all processes of a server, as a machine that hangs or dies does."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Generator


def freeze(pid: int) -> list[int]:
    """Stop a process and its children by SIGSTOP; return all of them.

    The first is stopped first: from then on it makes no more of them.
    """
    os.kill(pid, signal.SIGSTOP)
    family = [pid, *(child.pid for child in psutil.Process(pid).children())]
    _signal(family, signal.SIGSTOP)
    return family


def thaw(family: list[int]) -> None:
    """Let processes go on that were stopped."""
    _signal(family, signal.SIGCONT)


def kill_family(pid: int) -> None:
    """End a process and its children by SIGKILL, with no time to say anything."""
    _signal(freeze(pid), signal.SIGKILL)


@contextmanager
def frozen(pid: int) -> Generator[None]:
    """Let a process and its children do nothing meanwhile."""
    family = freeze(pid)
    try:
        yield
    finally:
        thaw(family)


def _signal(family: list[int], number: signal.Signals) -> None:
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
