"""The bookmark: where a watcher stands, in which log, on which history of it."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

import msgspec

from .errors import InvalidError

_HASH_BYTES: Final = 32
_POSITION_MAX: Final = 2**63 - 1
_FORM: Final = "LOG:POSITION:HASH, as str() of a bookmark gives it"
_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


class Bookmark(msgspec.Struct, frozen=True, kw_only=True):
    """A place in one log: everything up to `position` has been seen.

    `hash` is that of the event at the position, so a bookmark tells another log, and one
    that lost its end and issued the position again, from the log that it was made in.
    Position 0 is the place before the first event. `str()` gives a text of printable
    ASCII without spaces, which `parse` takes back.
    """

    log: UUID
    position: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.log}:{self.position}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> Bookmark:
        """Return the bookmark that a text stands for.

        Raises:
            InvalidError: it is none; the message says which part is wrong.
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise _wrong(f"must be a text, not {type(text).__name__}")
        parts = text.split(":")
        if len(parts) != 3:  # noqa: PLR2004 - the fields above
            raise _wrong(f"has {len(parts)} parts and not three; must be {_FORM}")
        log, position, digest = parts
        return cls(log=_log(log), position=_position(position), hash=_hash(digest))


def _log(text: str) -> UUID:
    try:
        log = UUID(text)
    except ValueError:
        raise _wrong(f"begins with {text!r}, which is no id of a log") from None
    if str(log) != text:
        raise _wrong(f"begins with {text!r}; must be written {str(log)!r}")
    return log


def _position(text: str) -> int:
    if not _DIGITS.fullmatch(text) or int(text) > _POSITION_MAX:
        raise _wrong(f"has {text!r} in the middle, which is no position")
    return int(text)


def _hash(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        raise _wrong("ends with a hash that is not hexadecimal") from None
    if digest.hex() != text or len(digest) != _HASH_BYTES:
        message = f"ends with a hash that is not {2 * _HASH_BYTES} small hex digits"
        raise _wrong(message)
    return digest


def _wrong(message: str) -> InvalidError:
    return InvalidError(message, path="bookmark")
