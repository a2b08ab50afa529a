"""What a type may be called."""

from __future__ import annotations

import re
from typing import Final

from evstore.codec import check_text
from evstore.errors import InvalidError
from evstore.model import RESERVED_TYPES

TYPE_CHARACTERS_MAX: Final = 63

_TYPE: Final = re.compile(r"[A-Z][A-Za-z0-9]*")


def check_type(name: str, path: str) -> None:
    """Check the name of a type.

    Raises:
        InvalidError: it does not fit the pattern, or is too long.
    """
    check_text(name, path, characters_max=TYPE_CHARACTERS_MAX)
    if not _TYPE.fullmatch(name):
        rule = "a capital letter, then letters and digits"
        raise InvalidError(f"{name!r} is not allowed; use {rule}", path=path)


def check_free(type_: str, path: str) -> None:
    """Check that a type is not one of the store's own.

    Raises:
        InvalidError: it is.
    """
    if type_ in RESERVED_TYPES:
        message = f"{type_} is reserved for the store's own resources"
        raise InvalidError(message, path=path)
