"""Migrations: numbered SQL files that change the tables, and the check at start.

A file that was applied must not change afterwards. How they are applied: `migrating`.
"""

from __future__ import annotations

import re
from hashlib import sha256
from importlib import resources
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from psycopg import errors as pg

from evstore.errors import SchemaError

from . import statements

if TYPE_CHECKING:
    from datetime import datetime
    from importlib.resources.abc import Traversable

    from .connections import Connection

_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_HEADER: Final = re.compile(
    r"-- evstore: readable_from (?P<readable>\d+), writable_from (?P<writable>\d+)\n"
)
_LOCKS: Final = re.compile(r"^-- locks: (.*\S)", re.MULTILINE)
_ADVICE: Final = 'Run "evstore migrate up"'


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One numbered file.

    A program that knows version `readable_from` or later may read a database after
    this migration, one that knows `writable_from` or later may write it. `locks` are
    those that it takes on what was there before, in the file's own words.
    """

    version: int
    name: str
    sql: str
    checksum: str
    locks: tuple[str, ...]
    readable_from: int
    writable_from: int


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """A migration as `schema_migration` has it."""

    version: int
    name: str
    checksum: str
    applied_at: datetime
    dirty: bool
    readable_from: int
    writable_from: int


def available() -> list[Migration]:
    """Return the migrations that this program brings, oldest first."""
    found = [
        _parse(file.name, file.read_text(encoding="utf-8"))
        for file in _folder().iterdir()
        if file.name.endswith(".sql")
    ]
    found.sort(key=lambda migration: migration.version)
    numbers = [migration.version for migration in found]
    assert numbers == list(range(1, len(found) + 1)), f"versions are {numbers}"
    return found


def _folder() -> Traversable:
    # A wheel carries the files inside the package. In a checkout, also an editable
    # install of one, the package resolves to the checkout and they lie beside it.
    packaged = resources.files("evstore") / "_migrations"
    if packaged.is_dir():
        return packaged
    return Path(__file__).parents[3] / "migrations"


def _parse(file_name: str, text: str) -> Migration:
    name = _NAME.fullmatch(file_name)
    header = _HEADER.match(text)
    assert name, f"{file_name} is not named like 0001_some_words.sql"
    assert header, f"{file_name} does not begin with its evstore header"
    return Migration(
        version=int(name[1]),
        name=name[2],
        sql=text,
        checksum=sha256(text.encode()).hexdigest(),
        locks=tuple(_LOCKS.findall(_head(text))),
        readable_from=int(header["readable"]),
        writable_from=int(header["writable"]),
    )


def _head(text: str) -> str:
    """Return the comment that a file begins with."""
    comment = takewhile(lambda line: line.startswith("--"), text.splitlines())
    return "\n".join(comment)


async def applied(connection: Connection) -> list[Applied]:
    """Return what has been applied, oldest first; nothing on an empty database."""
    try:
        # In binary: a role may write times in another style.
        cursor = await connection.execute(statements.VERSION, binary=True)
    except (pg.UndefinedTable, pg.InvalidSchemaName):
        return []
    return [
        Applied(
            version=row[0],
            name=row[1],
            checksum=row[2],
            applied_at=row[3],
            dirty=row[4],
            readable_from=row[5],
            writable_from=row[6],
        )
        for row in await cursor.fetchall()
    ]


def check_history(before: list[Applied]) -> None:
    """Check that what was applied is what this program would have applied.

    Raises:
        SchemaError: the database is dirty or newer, or an applied file has changed.
    """
    known = available()
    for done in before:
        if done.dirty:
            message = (
                f"migration {done.version} ({done.name}) was begun and not finished"
            )
            raise SchemaError(f"the database is dirty: {message}")
    if len(before) > len(known):
        raise _newer(before[-1].version, len(known))
    for done, migration in zip(before, known, strict=False):
        if done.checksum != migration.checksum:
            message = (
                f"migration {done.version} ({done.name}) was applied with other "
                "content than this program brings; restore the file, and put "
                "changes into a migration of its own"
            )
            raise SchemaError(message)


async def check_version(connection: Connection, *, tolerate_newer: bool) -> None:
    """Check at start that this program may use the database.

    Raises:
        SchemaError: it may not; the message names both versions and what to run.
    """
    done = await applied(connection)
    needed = len(available())
    if not done:
        message = (
            f"the database is not migrated: it is at version 0, this evstore needs "
            f"version {needed}"
        )
        raise SchemaError(f"{message}. {_ADVICE}")
    version = done[-1].version
    if version < needed:
        message = (
            f"the database is at version {version}, this evstore needs version {needed}"
        )
        raise SchemaError(f"{message}. {_ADVICE}")
    newer = [migration for migration in done if migration.version > needed]
    allowed = all(
        max(migration.readable_from, migration.writable_from) <= needed
        for migration in newer
    )
    if newer and not (tolerate_newer and allowed):
        raise _newer(version, needed)
    check_history([migration for migration in done if migration.version <= needed])


def _newer(version: int, needed: int) -> SchemaError:
    message = (
        f"the database is at version {version}, newer than version {needed} of this "
        f'evstore. Install the newer evstore, whose "evstore migrate up" made it'
    )
    return SchemaError(message)
