"""What an instance is told, and what its former lives have left it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from evstore import Bookmark
from evstore.config import (
    Config,
    EvstoreConfig,
    KubernetesConfig,
    Limits,
    MirrorConfig,
    PostgresConfig,
    StoreType,
    UpsertConfig,
)
from evstore.model import ANY, Filter, Key

from .records import Asked, Marked, Refused, Seen, Told, Watching, read_history

if TYPE_CHECKING:
    from uuid import UUID

    from .records import Record

HOT: Final = [
    Key(type="Policy", mesh="default", name=f"hot-{number}") for number in range(5)
]
SLOW_SECONDS: Final = 0.3
MIRROR_RATE: Final = 50


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What a watcher of each instance follows, and how."""

    where: Filter = ANY
    marks: bool = False
    initial: bool = False
    slow_seconds: float = 0.0


WATCHED: Final = {
    "all": Watched(),
    "slow": Watched(marks=True, slow_seconds=SLOW_SECONDS),
    "policies": Watched(where=Filter(type="Policy"), marks=True),
    "one": Watched(where=Filter(type="Policy", mesh="default", name=HOT[0].name)),
    "initial": Watched(marks=True, initial=True),
}


class Database(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A log in PostgreSQL, and how it is reached."""

    host: str
    port: int
    user: str
    db_name: str

    def configured(self, section: EvstoreConfig) -> Config:
        return Config(
            type=StoreType.POSTGRES,
            postgres=PostgresConfig(
                host=self.host, port=self.port, user=self.user, db_name=self.db_name
            ),
            upsert=_UPSERT,
            evstore=section,
        )


class Cluster(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A log in a cluster, and how it is reached.

    For so long a look at where the log ends counts, in place of half an hour.
    """

    namespace: str
    kubeconfig: str
    confirmed_seconds: float
    mirror: bool

    def configured(self, section: EvstoreConfig) -> Config:
        return Config(
            type=StoreType.KUBERNETES,
            kubernetes=KubernetesConfig(
                system_namespace=self.namespace,
                kubeconfig=self.kubeconfig,
                mirror=MirrorConfig(enabled=self.mirror, rate=MIRROR_RATE),
            ),
            upsert=_UPSERT,
            evstore=section,
        )


_UPSERT: Final = UpsertConfig(conflict_retry_base_backoff=0.001)


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance is to do, and how it finds the log.

    `patience` is how long an append may take; a command twice as long.
    """

    place: Database | Cluster
    patience: float
    number: int
    life: int
    seed: int
    folder: str

    @property
    def name(self) -> str:
        return f"instance-{self.number + 1}"

    @property
    def session(self) -> str:
        return self.history(self.life).stem

    @property
    def config(self) -> Config:
        """Short deadlines and pauses, and a tail that slow watchers fall out of."""
        limits = Limits(
            command_timeout=2 * self.patience,
            append_timeout=self.patience,
            tail_events_max=100,
        )
        section = EvstoreConfig(heartbeat_interval=0.5, limits=limits)
        return self.place.configured(section)

    def history(self, life: int) -> Path:
        """Return the file of one of its lives."""
        return Path(self.folder) / f"{self.name}.{life:04}.jsonl"


class Past:
    """What an instance's former lives have left: where watchers stood, open requests."""

    def __init__(self, assignment: Assignment) -> None:
        self.places: dict[str, tuple[int, str]] = {}
        self.unanswered: dict[str, Asked] = {}
        for path in map(assignment.history, range(assignment.life)):
            if path.exists():  # else it was killed before it could write anything
                self._read(read_history(path).records)

    def place(self, watcher: str, log: UUID) -> int | Bookmark | None:
        """Return where a watcher goes on."""
        watched = WATCHED[watcher]
        if watched.initial:
            return None  # it begins anew in each life
        position, digest = self.places.get(watcher, (0, ""))
        if not watched.marks or not digest:
            return position
        return Bookmark(log=log, position=position, hash=bytes.fromhex(digest))

    def _read(self, records: list[Record]) -> None:
        tokens: dict[int, str] = {}
        for record in records:
            match record:
                case Watching(after=after) if after:
                    watcher = record.watcher.split("/")[1]
                    # Where it goes on from a listing, nothing was given up to there.
                    if self.places.get(watcher, (0, ""))[0] != after:
                        self.places[watcher] = (after, "")
                case Seen() | Marked():
                    watcher = record.watcher.split("/")[1]
                    self.places[watcher] = (record.position, record.hash)
                case Asked(id=id_, token=token, request=True):
                    self.unanswered[token] = record
                    tokens[id_] = token
                case Told(id=id_) | Refused(id=id_):
                    self.unanswered.pop(tokens.get(id_, ""), None)
                case _:
                    pass
