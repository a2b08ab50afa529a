"""Logs on the move: import, export, restore, and a Kuma database made into a log."""

from evstore.log import open_log

from .export import begin_export
from .exported import read_header
from .interchange import read_lines
from .restore import restore

__all__ = ["begin_export", "open_log", "read_header", "read_lines", "restore"]
