"""A PostgreSQL server of one's own, in a folder: the extra `evstore[embedded]`.

`evstore dev`, the demo, the tests and the benchmarks run on it.
"""

from .server import EmbeddedServer

__all__ = ["EmbeddedServer"]
