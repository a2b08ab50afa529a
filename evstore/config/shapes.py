"""The settings themselves: every one is declared here, and nowhere else.

All durations are floats in seconds. The sections can be made in code as well as read
from files, and check themselves either way.
"""

import enum
from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from .kinds import (
    HOSTS,
    HOSTS_OR_NONE,
    NAME,
    NAMESPACE,
    PASSWORD,
    TEXT,
    Choice,
    Flag,
    Span,
    Whole,
)
from .section import (
    MASK,
    Field,
    Needed,
    NotAbove,
    OverNetwork,
    Section,
    Together,
)

_CONNECTIONS_DEFAULT: Final = 50
_CONNECTION_TIMEOUT_DEFAULT: Final = 5.0
_CONNECTIONS_MAX: Final = 262_143  # what max_connections of PostgreSQL can be
_KUMA: Final = "kuma"
_PORT: Final = Whole(1, 65_535)
_PERCENT: Final = Whole(0, 100)
_COUNT: Final = Whole(1, 100_000_000)
_QUEUE_BYTES_MAX: Final = 1 << 40
_BATCH_BYTES_MAX: Final = (
    512 * 1024 * 1024
)  # half of what one value in PostgreSQL may be


class StoreType(enum.StrEnum):
    """Where the log lives."""

    MEMORY = "memory"
    POSTGRES = "postgres"
    KUBERNETES = "kubernetes"


class TlsMode(enum.StrEnum):
    """What is encrypted and what is checked on the way to PostgreSQL."""

    DISABLE = "disable"
    VERIFY_NONE = "verifyNone"
    VERIFY_CA = "verifyCa"
    VERIFY_FULL = "verifyFull"


class TlsConfig(Section, frozen=True, kw_only=True):
    """TLS to PostgreSQL; a certificate and its key together give mutual TLS."""

    RULES = (
        Needed("ca_path", "mode", frozenset({TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL})),
        Together("cert_path", "key_path"),
    )

    mode: Annotated[
        TlsMode,
        Field(
            Choice(TlsMode),
            "`disable`, `verifyNone`, `verifyCa` or `verifyFull`; below.",
        ),
    ] = TlsMode.DISABLE
    ca_path: Annotated[
        str,
        Field(
            TEXT,
            "Certificates of the authorities that the server's is checked against.",
        ),
    ] = ""
    cert_path: Annotated[
        str, Field(TEXT, "The client's certificate; only together with `keyPath`.")
    ] = ""
    key_path: Annotated[
        str, Field(TEXT, "The client's private key; only together with `certPath`.")
    ] = ""
    disable_sslsni: Annotated[
        bool,
        Field(
            Flag(),
            "Do not name the host while the encryption is set up.",
            yaml="disableSSLSNI",
        ),
    ] = False


class ReadReplicaConfig(Section, frozen=True, kw_only=True):
    """A second server that answers reads of the past."""

    host: Annotated[
        str, Field(HOSTS_OR_NONE, "Host of the read replica; empty: there is none.")
    ] = ""
    port: Annotated[int, Field(_PORT, "Port of the read replica.")] = 5432
    ratio: Annotated[
        int,
        Field(
            _PERCENT, "Percentage of suitable reads that the replica answers; 0: none."
        ),
    ] = 100


class PostgresConfig(Section, frozen=True, kw_only=True):
    """The PostgreSQL server and the connections to it.

    The password is an ordinary attribute, but neither `repr` nor `str` shows it. In code it
    may be a callable: it is called for each connection, in a thread of its own, and has
    `connection_timeout` to return; so a password that changes needs no new store.
    """

    RULES = (
        NotAbove("min_open_connections", "max_open_connections"),
        NotAbove("max_connection_lifetime_jitter", "max_connection_lifetime"),
        # libpq sends nothing encrypted through a socket, whatever it is told.
        OverNetwork("host", "tls.mode", off=TlsMode.DISABLE),
        OverNetwork("read_replica.host", "tls.mode", off=TlsMode.DISABLE),
    )

    host: Annotated[
        str,
        Field(
            HOSTS,
            "Host name or address; a value that begins with `/` is a socket folder;"
            " several, separated by commas, are tried for the primary in turn.",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Field(_PORT, "Port, the same on each host.")] = 15432
    user: Annotated[str, Field(NAME, "Role to connect as.")] = _KUMA
    password: Annotated[
        str | Callable[[], str],
        Field(
            PASSWORD,
            "Password of the role; may be empty, and is never shown.",
            secret=True,
        ),
    ] = _KUMA
    db_name: Annotated[str, Field(NAME, "Name of the database.")] = _KUMA
    connection_timeout: Annotated[
        float,
        Field(
            Span(bare=True, zero=_CONNECTION_TIMEOUT_DEFAULT),
            "Time to wait for a connection; a bare number is seconds; 0, which is no"
            " limit in Kuma, is 5s here.",
        ),
    ] = _CONNECTION_TIMEOUT_DEFAULT
    max_open_connections: Annotated[
        int,
        Field(
            Whole(0, _CONNECTIONS_MAX, zero=_CONNECTIONS_DEFAULT),
            "Most connections at a time; 0, which is no limit in Kuma, is 50 here; fewer"
            " than 4 are 4.",
        ),
    ] = _CONNECTIONS_DEFAULT
    min_open_connections: Annotated[
        int, Field(Whole(0, _CONNECTIONS_MAX), "Connections that are always kept open.")
    ] = 0
    max_idle_connections: Annotated[
        int,
        Field(
            Whole(-1, _CONNECTIONS_MAX, zero=_CONNECTIONS_DEFAULT),
            "Most connections for reading that are kept while idle; 0: 50; -1: none.",
        ),
    ] = _CONNECTIONS_DEFAULT
    max_connection_lifetime: Annotated[
        float, Field(Span(), "Age at which a connection is replaced.")
    ] = 3600.0
    max_connection_lifetime_jitter: Annotated[
        float,
        Field(
            Span(),
            "Random time on top of that age, so that not all are replaced at once.",
        ),
    ] = 60.0
    max_connection_idle_time: Annotated[
        float, Field(Span(), "Time without use after which a connection is closed.")
    ] = 1800.0
    health_check_interval: Annotated[
        float, Field(Span(), "Time between checks of idle connections.")
    ] = 30.0
    read_replica: ReadReplicaConfig = msgspec.field(default_factory=ReadReplicaConfig)
    tolerate_newer_db_versions: Annotated[
        bool,
        Field(
            Flag(),
            "Start on a database that newer migrations have changed, where each of them"
            " declares that this version may read and write it.",
            yaml="tolerateNewerDBVersions",
        ),
    ] = False
    tls: TlsConfig = msgspec.field(default_factory=TlsConfig)

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({inner})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [
            (name, MASK if name == "password" else getattr(self, name))
            for name in self.__struct_fields__
        ]


class MirrorConfig(Section, frozen=True, kw_only=True):
    """The current state as objects that `kubectl` shows."""

    enabled: Annotated[
        bool,
        Field(
            Flag(), "Show the current state as objects, for `kubectl`; secrets aside."
        ),
    ] = False
    rate: Annotated[
        int, Field(Whole(1, 1_000), "Most writes of such objects a second.")
    ] = 20


class KubernetesConfig(Section, frozen=True, kw_only=True):
    """The cluster that the control plane runs in, or the one that a file names."""

    system_namespace: Annotated[
        str, Field(NAMESPACE, "Namespace that holds the log.")
    ] = "kuma-system"
    kubeconfig: Annotated[
        str,
        Field(
            TEXT,
            "File that says how the cluster is reached; empty: as the service account of"
            " the pod that this runs in.",
        ),
    ] = ""
    context: Annotated[
        str,
        Field(TEXT, "Context of that file; empty: the one that it calls current."),
    ] = ""
    mirror: MirrorConfig = msgspec.field(default_factory=MirrorConfig)


class UpsertConfig(Section, frozen=True, kw_only=True):
    """How an upsert is tried again after a conflict."""

    conflict_retry_base_backoff: Annotated[
        float, Field(Span(), "Pause before the first retry; it doubles each time.")
    ] = 0.2
    conflict_retry_max_times: Annotated[
        int, Field(Whole(0, 1_000_000), "Most retries after a conflict.")
    ] = 10
    conflict_retry_jitter_percent: Annotated[
        int, Field(_PERCENT, "Random part of each pause, up or down, in percent.")
    ] = 30


class Limits(Section, frozen=True, kw_only=True):
    """Bounds on what is held in memory, sent at once and waited for."""

    queue_commands_max: Annotated[
        int, Field(_COUNT, "Most commands that wait to be appended.")
    ] = 10_000
    queue_bytes_max: Annotated[
        int,
        Field(
            Whole(1, _QUEUE_BYTES_MAX),
            "Most bytes that wait to be appended; one command may always wait.",
        ),
    ] = 256 * 1024 * 1024
    batch_commands_max: Annotated[
        int, Field(_COUNT, "Most commands that are appended at once.")
    ] = 1_000
    batch_bytes_max: Annotated[
        int, Field(Whole(1, _BATCH_BYTES_MAX), "Most bytes that are appended at once.")
    ] = 8 * 1024 * 1024
    command_timeout: Annotated[
        float, Field(Span(positive=True), "Time that a command may take in all.")
    ] = 30.0
    append_timeout: Annotated[
        float, Field(Span(positive=True), "Time that one try to append may take.")
    ] = 10.0
    read_timeout: Annotated[
        float,
        Field(
            Span(positive=True),
            "Time that the server may say nothing while it is asked for events.",
        ),
    ] = 60.0
    start_timeout: Annotated[
        float,
        Field(
            Span(),
            "Time for which a start tries a server that cannot be used again; 0: it"
            " tries once.",
        ),
    ] = 10.0
    tail_events_max: Annotated[
        int, Field(_COUNT, "Newest events that are kept in memory for watchers.")
    ] = 10_000
    page_size_max: Annotated[
        int, Field(_COUNT, "Most resources on one page of a listing.")
    ] = 100_000


class SnapshotsConfig(Section, frozen=True, kw_only=True):
    """When the state is stored, so that a start need not read the whole log."""

    every_events: Annotated[
        int,
        Field(
            Whole(0, 1_000_000_000),
            "Events after which a snapshot is taken, and on close after a tenth of them;"
            " 0: none is.",
        ),
    ] = 10_000


class EvstoreConfig(Section, frozen=True, kw_only=True):
    """What the seed system has no settings for."""

    actor: Annotated[str, Field(TEXT, "Actor of the commands that name none.")] = ""
    notify: Annotated[
        bool,
        Field(
            Flag(),
            "Hear of appends at once, by NOTIFY or by a watch of the cluster; if not, poll.",
        ),
    ] = True
    poll_interval: Annotated[
        float,
        Field(Span(positive=True), "Longest time between looks at the log for news."),
    ] = 1.0
    heartbeat_interval: Annotated[
        float,
        Field(Span(), "Time between signs of life in `evstore.instances`; 0: none."),
    ] = 10.0
    snapshots: SnapshotsConfig = msgspec.field(default_factory=SnapshotsConfig)
    limits: Limits = msgspec.field(default_factory=Limits)


class Config(Section, frozen=True, kw_only=True):
    """All settings of a store, under `store` in the file."""

    type: Annotated[
        StoreType,
        Field(
            Choice(StoreType),
            "Where the log lives: `memory`, `postgres` or `kubernetes`.",
        ),
    ] = StoreType.MEMORY
    postgres: PostgresConfig = msgspec.field(default_factory=PostgresConfig)
    kubernetes: KubernetesConfig = msgspec.field(default_factory=KubernetesConfig)
    upsert: UpsertConfig = msgspec.field(default_factory=UpsertConfig)
    evstore: EvstoreConfig = msgspec.field(default_factory=EvstoreConfig)
