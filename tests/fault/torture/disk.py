"""A disk of its own for the server, which can be full."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_ROOM: Final = "16g"  # a bound: memory is taken for what is stored


class Disk:
    """A file system in memory, whose size can be taken away and given back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fill(self) -> None:
        """Leave not one free page."""
        room = os.statvfs(self._folder)
        used = (room.f_blocks - room.f_bfree) * room.f_frsize
        self._resize(str(used))

    def clear(self) -> None:
        """Let there be room again."""
        self._resize(_ROOM)

    def _resize(self, size: str) -> None:
        _run("mount", "-o", f"remount,size={size}", str(self._folder))


@contextmanager
def own_disk(folder: Path) -> Generator[Disk | str]:
    """Mount a disk at a folder; without the right to do so, yield the reason."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        yield "only root can mount a small disk"
        return
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={_ROOM},mode=0755", "t", str(folder))
    except subprocess.CalledProcessError as error:
        yield f"a small disk cannot be mounted: {error.stderr.strip()}"
        return
    try:
        yield Disk(folder)
    finally:
        # Lazily: it goes when the last process of the server has gone.
        _run("umount", "--lazy", str(folder))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
