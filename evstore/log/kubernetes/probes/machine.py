"""How much memory there is here, for this machine or for the container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# Of control groups, version 2 and 1; "max", or more than there is, means no limit.
_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory_bytes() -> int | None:
    """Return what a process can have at most; None where the system does not tell."""
    try:
        most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
    for path in _LIMITS:
        try:
            most = min(most, int(path.read_text()))
        except (OSError, ValueError):
            continue
    return most
