"""What was seen at a PostgreSQL server, without a word on what it means.

The probes of the PostgreSQL log fill these in, `judgement` says what they mean.
"""

from __future__ import annotations

import msgspec

from evstore.doctor.facts import (  # noqa: TC001 - types of fields
    Clock,
    Snapshots,
    Unknown,
)


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection is encrypted: `TLSv1.3` and the like, and the cipher."""

    version: str
    cipher: str


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The server and its settings, as a session of our role has them.

    `version_number` is that of PostgreSQL: 150004 is 15.4. `tls` is None for a plain
    connection. `synchronous_standbys` is `synchronous_standby_names`. `pooled` says that a
    pooler answers in the server's place.
    """

    version: str
    version_number: int
    tls: Tls | None
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    synchronous_standbys: str
    pooled: bool


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """The version of the database, the one that is needed, and why it cannot be used."""

    version: int
    needed: int
    problem: str | None = None


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    """What a role lacks of what running a store takes, and what it may do beyond.

    A right reads `INSERT on evstore.events`.
    """

    role: str
    superuser: bool
    owner: bool
    missing: tuple[str, ...]
    beyond: tuple[str, ...]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session of somebody's, and for how long it has been as it is, where told."""

    process: int
    role: str
    program: str
    seconds: float | None


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions that are idle in a transaction, and how many could not be looked at."""

    idle: tuple[Session, ...]
    hidden: int


class AppendLock(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the lock of turns: one alone in a turn, any number for an append."""

    turn: Session | None
    shared: tuple[Session, ...]
    waiting: int


class Partitions(msgspec.Struct, frozen=True, kw_only=True):
    """How far the partitions reach.

    `end` is the first position after all of them, `size` that of the next one.
    `covered` says whether the position after the head has one.
    """

    head: int
    end: int
    size: int
    covered: bool


class Standby(msgspec.Struct, frozen=True, kw_only=True):
    """A replica that is attached to the server; the rest is None where it is hidden."""

    name: str
    state: str | None
    synchrony: str | None
    bytes_behind: int | None
    seconds_behind: float | None


class ReadReplica(msgspec.Struct, frozen=True, kw_only=True):
    """The replica that the settings name, compared with the log."""

    address: str
    standby: bool
    same_log: bool
    events_behind: int
    seconds_behind: float


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a table, and versions of rows that are there and no longer seen."""

    name: str
    live: int
    dead: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that was seen of one server.

    Of a database without evstore's tables, what is in them is None. `heard` says whether
    one session hears another's NOTIFY; None where nobody is to listen.
    """

    server: Server | Unknown
    clock: Clock
    heard: bool | Unknown | None
    schema: Schema | Unknown
    rights: Rights | Unknown | None
    unguarded: tuple[str, ...] | Unknown | None
    sessions: Sessions | Unknown
    append_lock: AppendLock | Unknown
    partitions: Partitions | Unknown | None
    snapshots: Snapshots | Unknown | None
    standbys: tuple[Standby, ...] | Unknown
    read_replica: ReadReplica | Unknown | None
    tables: tuple[Table, ...] | Unknown | None
