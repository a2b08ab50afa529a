"""The facade: what an embedding control plane sees."""

from .facade import Store
from .opening import open  # noqa: A004 - evstore.open reads as it should

__all__ = ["Store", "open"]
