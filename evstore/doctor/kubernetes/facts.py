"""What was seen at an API server, without a word on what it means.

The probes of the Kubernetes log fill these in, `judgement` says what they mean. Ages and
times that are left are in seconds, by the server's clock.
"""

from __future__ import annotations

import msgspec

from evstore.doctor.facts import (  # noqa: TC001 - types of fields
    Clock,
    Snapshots,
    Unknown,
)


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How the server is reached: its address, and whether who it is was checked.

    `verified` is None for a connection that is not encrypted. `proxy` is an address
    without credentials, or empty.
    """

    address: str
    verified: bool | None
    proxy: str = ""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Who we are to the server; `told_by` says who says so."""

    name: str
    told_by: str


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """When the token of our account expires, and for how long it was made, where told."""

    seconds_left: float
    seconds_whole: float | None


class Namespace(msgspec.Struct, frozen=True, kw_only=True):
    """The namespace of the log, and whether it is being removed with all it holds."""

    name: str
    there: bool
    terminating: bool = False


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of object as the cluster knows it; version 0 stands for none.

    `served` says that objects of the version that we use can be read and written,
    `terminating` that the kind is being removed with all its objects.
    """

    name: str
    version: int
    served: bool
    terminating: bool = False


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    """What our account lacks of what a store takes, and what it may do to the log.

    A right reads `create changes.evstore.dev`. `mirror` are those that only showing the
    current state takes. `everything` says that it may do whatever there is.
    """

    missing: tuple[str, ...]
    mirror: tuple[str, ...]
    beyond: tuple[str, ...]
    everything: bool


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """What a watch brought: an event, or an end that is not a break, or neither."""

    event: bool
    ended: bool


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """The changes of a log, up to its head or the first that does not follow.

    `copy_bytes` is what an instance takes in
    memory for it, about; `memory_bytes` is what this machine, or the container, has,
    None where that is not told. `gap` is the position that the first change behind the
    head should have had, `behind` are those changes by name. `problem` says why the
    change after the head does not follow it. `damaged` are the changes that cannot be
    read. `below` counts changes at or below the floor that are an hour old. `redactions`
    are positions of which one was announced and is not done.
    """

    objects: int
    events: int
    head: int
    head_seconds: float | None
    copy_bytes: int
    memory_bytes: int | None
    gap: int | None = None
    behind: tuple[str, ...] = ()
    problem: str = ""
    damaged: tuple[str, ...] = ()
    below: int = 0
    redactions: tuple[int, ...] = ()


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """Where the history begins, and what is wrong with the state that is stored there."""

    position: int
    seconds: float
    problem: str = ""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """The last heartbeat of an instance: how far it was, and how long ago."""

    instance: str
    code_version: str
    position: int
    seconds: float


class Turns(msgspec.Struct, frozen=True, kw_only=True):
    """How many wait for the turn to append, and whether nobody moves."""

    waiting: int
    stalled: bool


class Mirror(msgspec.Struct, frozen=True, kw_only=True):
    """Who shows the current state, and when that was last renewed; "" for nobody."""

    holder: str
    seconds: float | None


class Leftovers(msgspec.Struct, frozen=True, kw_only=True):
    """Chunks that nothing refers to and that are an hour old."""

    chunks: int
    snapshot_chunks: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that was seen of one cluster.

    What needs the kinds is None where they are missing, and what is compared with the
    log where that is not known. `version` is that of the server, `ready` what it
    lacks to work, or ""; `token` is None where it
    tells nothing of its end. `writable` says why a change is not taken, or "" if it is.
    `watch` is None as well where instances do not listen, `floor` where nothing was
    removed, and `leftovers` where our account may not look for it.
    """

    way: Way
    version: str | Unknown
    ready: str | Unknown
    account: Account | Unknown | None
    token: Token | None
    namespace: Namespace | Unknown
    kinds: tuple[Kind, ...] | Unknown
    kinds_needed: int
    rights: Rights | Unknown
    clock: Clock | Unknown
    writable: str | Unknown | None
    watch: Watch | Unknown | None
    log: Log | Unknown | None
    floor: Floor | Unknown | None
    snapshots: Snapshots | Unknown | None
    instances: tuple[Heartbeat, ...] | Unknown
    turns: Turns | Unknown | None
    mirror: Mirror | Unknown | None
    leftovers: Leftovers | Unknown | None
