"""Databases in PostgreSQL of Debian's package, which brings its `pg_dump`."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

from evstore.config import Config, PostgresConfig, StoreType
from servers import DebianServer, debian_programs

if TYPE_CHECKING:
    from pathlib import Path

_RANDOM: Final = ("\\restrict", "\\unrestrict")  # newer ones guard a dump by a word


class Databases:
    """A server, and empty databases in it."""

    def __init__(self, folder: Path) -> None:
        self._programs: Final = debian_programs()
        self._numbers: Final = count(1)
        self.server: Final = DebianServer(self._programs, folder)
        self.server.initialise()
        self.server.start("", {})
        self.server.psql("CREATE ROLE kuma LOGIN")

    def make(self) -> Config:
        """Return the configuration of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        self.server.psql(f"CREATE DATABASE {name} OWNER kuma")
        return Config(
            type=StoreType.POSTGRES,
            postgres=PostgresConfig(
                host=str(self.server.folder),
                port=self.server.port,
                user="kuma",
                password="",
                db_name=name,
            ),
        )

    def drop(self, config: Config) -> None:
        """Drop a database that nobody uses any more."""
        self.server.psql(f"DROP DATABASE {config.postgres.db_name}")

    def dump(self, config: Config) -> str:
        """Return all that a database has, except for its rows."""
        text = self.server.run(
            *(self._programs / "pg_dump", "--schema-only", "-h", self.server.folder),
            *("-p", str(self.server.port), "-U", "postgres", config.postgres.db_name),
        )
        lines = text.splitlines()
        return "\n".join(line for line in lines if not line.startswith(_RANDOM))
