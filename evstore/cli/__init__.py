"""The `evstore` command: what operators use; it stands on the library alone."""

from .main import app

__all__ = ["app"]
