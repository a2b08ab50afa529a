"""What clients write down, one line a fact: asked, told, refused; seen by a watch.

A history is what one session, the life of one process or store, has written down. Times
come from the host's clock since boot, so those of all processes can be compared.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

import msgspec

from evstore.model import Filter

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

CREATE, UPDATE, DELETE, UPSERT = "create", "update", "delete", "upsert"


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is asked for one resource; without `expected`, whatever its version."""

    what: str
    key: str
    expected: int | None = None


class _Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """A fact."""


class Opening(_Record):
    """A store is about to be opened; from here on its session counts."""

    at: int


class Asked(_Record):
    """One attempt of a write begins.

    `token` is unique to the write: it is the reason in its events, and in their specs.
    Where the write has a request id, that is the token too, and the same write may be
    asked for again.
    """

    id: int
    at: int
    token: str
    changes: list[Change]
    request: bool = False


class Told(_Record):
    """A write was acknowledged: the version of each change, None for a deletion.

    None as a whole where the call tells no versions.
    """

    id: int
    at: int
    versions: list[int | None] | None = None


class Refused(_Record):
    """A write was answered by an error that says: nothing was applied."""

    id: int
    at: int
    error: str
    key: str | None = None
    actual: int | None = None


class Unknown(_Record):
    """A write ended without an outcome, or its caller went away."""

    id: int
    at: int
    why: str


class Reading(_Record):
    """A read begins."""

    id: int
    at: int
    key: str
    consistent: bool = False


class Got(_Record):
    """A read was answered: the version that is there, None for nothing."""

    id: int
    at: int
    version: int | None = None


class Folded(_Record):
    """How far a store had folded the log, and the digest of its state there."""

    position: int
    digest: str


class Watching(_Record):
    """A watcher begins, or goes on in another session, after a position.

    With `initial`, it begins with everything that exists.
    """

    watcher: str
    at: int
    after: int
    initial: bool = False
    where: Filter = Filter()


class Seen(_Record):
    """A watcher was given an event."""

    watcher: str
    position: int
    commit: int
    key: str
    operation: str
    hash: str


class Marked(_Record):
    """A watcher was given a bookmark."""

    watcher: str
    position: int
    hash: str


class Ended(_Record):
    """A watch ended: by an error, or without one because nothing more is to come."""

    watcher: str
    at: int
    error: str = ""


Record = (
    Opening
    | Asked
    | Told
    | Refused
    | Unknown
    | Reading
    | Got
    | Folded
    | Watching
    | Seen
    | Marked
    | Ended
)
Outcome = Told | Refused | Unknown

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


class History(msgspec.Struct):
    """What one session has written down, in order."""

    session: str
    records: list[Record] = []


class HistoryFile:
    """A history that outlives its writer: a line is in the file once it is recorded.

    A writer that is killed leaves at most the beginning of one line more.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def record(self, record: Record) -> None:
        line = _encoder.encode(record) + b"\n"
        written = os.write(self._file, line)
        if written != len(line):
            message = f"{written} of {len(line)} bytes recorded"
            raise OSError(message)


def read_history(path: Path) -> History:
    """Return a history from its file, without a line that was never finished."""
    lines = path.read_bytes().split(b"\n")
    return History(path.stem, [_decoder.decode(line) for line in lines[:-1]])
