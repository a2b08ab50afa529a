"""Every setting under its names in YAML and in the environment.

What the sections declare is listed here, with the few settings that are no field of a
section: the file that holds the password, and those of Kuma that have no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from .kinds import TEXT
from .section import Field, Section, field_of
from .shapes import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = "store"
PATH_SEPARATOR: Final = "."

Path = tuple[str, ...]


class Declaration(msgspec.Struct, frozen=True):
    """A setting: its path through the sections, its key in YAML and its default."""

    path: Path
    key: str
    field: Field
    default: object

    def variable(self, prefix: str) -> str:
        """Return the name of its environment variable."""
        return variable_of(self.path, prefix)


class Ignored(msgspec.Struct, frozen=True):
    """A setting of Kuma that is accepted and has no effect, and why.

    A key that ends with `.*` stands for everything in that section.
    """

    key: str
    reason: str


def variable_of(path: Path, prefix: str) -> str:
    """Return the name of the environment variable of a path through the sections."""
    return "_".join((prefix, ROOT, *path)).upper()


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _declared(
    section: type[Section], path: Path = (), key: str = ROOT
) -> Iterator[Declaration]:
    for info in msgspec.structs.fields(section):
        field = field_of(info.type)
        name = field.yaml if field and field.yaml else _camel_case(info.name)
        here, key_here = (*path, info.name), f"{key}{PATH_SEPARATOR}{name}"
        if field is None:
            yield from _declared(info.type, here, key_here)
            continue
        yield Declaration(here, key_here, field, info.default)
        if here == PASSWORD:
            yield Declaration(
                PASSWORD_FILE, f"{key_here}File", _PASSWORD_FILE_FIELD, ""
            )


PASSWORD: Final = ("postgres", "password")
PASSWORD_FILE: Final = ("postgres", "password_file")
_PASSWORD_FILE_FIELD: Final = Field(
    TEXT,
    "File that holds the password, in place of `password`; one newline at its end does"
    " not count.",
)

SETTINGS: Final = tuple(_declared(Config))
BY_PATH: Final = {declaration.path: declaration for declaration in SETTINGS}

IGNORED: Final = (
    Ignored(
        "store.postgres.driverName",
        "It chooses among Kuma's two drivers for Go; evstore has one, psycopg.",
    ),
    Ignored(
        "store.postgres.maxListQueryElements",
        "It bounds Kuma's queries for what has changed; evstore answers lists from"
        " memory, without a query.",
    ),
    Ignored(
        "store.postgres.minReconnectInterval",
        "It paces the reconnects of one of Kuma's drivers; evstore has its own pace.",
    ),
    Ignored(
        "store.postgres.maxReconnectInterval",
        "As `minReconnectInterval`.",
    ),
    Ignored(
        "store.cache.*",
        "It bounds how stale Kuma's cache of query results may be; evstore's state in"
        " memory follows the log, so there is nothing to expire.",
    ),
    Ignored(
        "store.unsafeDelete",
        "It switches off Kuma's checks before a delete; in evstore what an owner owns"
        " is always deleted with it, in one transaction.",
    ),
)
