"""What callers ask for: changes, what they require, and commands. Shapes only.

`arguments` makes them from what a caller gives, `commands` decides them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from evstore.model import Record

NULL: Final = b"null"


class Precondition(msgspec.Struct, frozen=True, gc=False):
    """The version that a resource must be at; with a hash, of that very log."""

    version: int
    hash: bytes | None = None

    def holds(self, record: Record | None) -> bool:
        """Whether `record` is at that version."""
        return (
            record is not None
            and record.version == self.version
            and (self.hash is None or record.hash == self.hash)
        )


class Owner(msgspec.Struct, frozen=True, gc=False):
    """The owner that a new resource gets; with a version, that very incarnation.

    A resource that was handed out names its incarnation by `created_version`. Its own
    version and hash show, as far as they can, that it is of this very log.
    """

    key: str
    created_version: int | None = None
    version: int = 0
    hash: bytes = b""

    def is_incarnation_of(self, record: Record) -> bool:
        """Whether `record` is the owner that is meant, perhaps changed since."""
        if self.created_version is None:
            return True
        same_log = record.version > self.version or (
            record.version == self.version and record.hash == self.hash
        )
        return same_log and record.created_version == self.created_version


class Create(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Make a resource that does not exist; the parts are canonical JSON."""

    key: str
    spec: bytes
    status: bytes = NULL
    labels: bytes = b"{}"
    owner: Owner | None = None

    @property
    def size(self) -> int:
        """Bytes of what is to be written."""
        return len(self.spec) + len(self.status) + len(self.labels)


class Update(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Change a resource; what is None stays as it is."""

    key: str
    precondition: Precondition | None = None
    spec: bytes | None = None
    status: bytes | None = None
    labels: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes of what is to be written."""
        return len(self.spec or b"") + len(self.status or b"") + len(self.labels or b"")


class Delete(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Remove a resource and all that it owns; `alone`: only if it owns nothing."""

    key: str
    precondition: Precondition | None = None
    alone: bool = False

    @property
    def size(self) -> int:
        """Bytes of what is to be written."""
        return 0


class Redact(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Announce that parts of an event's body go; `Log.redact` then replaces it."""

    key: str
    position: int
    fields: tuple[str, ...]
    old_digest: bytes
    new_digest: bytes

    @property
    def size(self) -> int:
        """Bytes of what is to be written."""
        return sum(map(len, self.fields))


Change = Create | Update | Delete | Redact


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks for: all of these changes, or none.

    `time` is set where the change happened earlier, elsewhere: an import keeps it.
    `required` are the keys of resources that are not changed, and what must hold of
    them: a fenced transaction requires its lease. `reverts` says what a revert takes
    back, for the metadata of its events: a `commit`, or all since a position (`to`).
    `shapes` are schema versions of bodies, by key, where they are not the usual ones:
    of what is made again as it was once stored.
    """

    changes: tuple[Change, ...]
    actor: str = ""
    reason: str = ""
    request_id: str | None = None
    request_digest: str = ""
    time: int | None = None
    required: tuple[tuple[str, Precondition], ...] = ()
    reverts: tuple[Literal["commit", "to"], int] | None = None
    shapes: tuple[tuple[str, int], ...] = ()
