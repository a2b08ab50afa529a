"""A PostgreSQL server: facts about it, and what they mean."""

from .judgement import judge, unreachable

__all__ = ["judge", "unreachable"]
