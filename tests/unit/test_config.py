"""What the settings are, and which source of them wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest

from evstore.config import (
    Config,
    EvstoreConfig,
    KubernetesConfig,
    Limits,
    PostgresConfig,
    ReadReplicaConfig,
    Setting,
    SnapshotsConfig,
    StoreType,
    TlsConfig,
    TlsMode,
    UpsertConfig,
    describe,
    load_config,
)
from evstore.config.catalog import BY_PATH, SETTINGS, Declaration
from evstore.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2"


class Sample(NamedTuple):
    variable: str
    text: str
    value: object
    with_it: dict[str, str] = {}  # noqa: RUF012  # a tuple's default, never changed


SAMPLES = {
    "store.type": Sample("TYPE", "postgres", StoreType.POSTGRES),
    "store.postgres.host": Sample("POSTGRES_HOST", "db-1,db-2", "db-1,db-2"),
    "store.postgres.port": Sample("POSTGRES_PORT", "5432", 5432),
    "store.postgres.user": Sample("POSTGRES_USER", "mesh", "mesh"),
    "store.postgres.password": Sample("POSTGRES_PASSWORD", SECRET, SECRET),
    "store.postgres.dbName": Sample("POSTGRES_DB_NAME", "mesh", "mesh"),
    "store.postgres.connectionTimeout": Sample("POSTGRES_CONNECTION_TIMEOUT", "7", 7.0),
    "store.postgres.maxOpenConnections": Sample(
        "POSTGRES_MAX_OPEN_CONNECTIONS", "20", 20
    ),
    "store.postgres.minOpenConnections": Sample(
        "POSTGRES_MIN_OPEN_CONNECTIONS", "3", 3
    ),
    "store.postgres.maxIdleConnections": Sample(
        "POSTGRES_MAX_IDLE_CONNECTIONS", "-1", -1
    ),
    "store.postgres.maxConnectionLifetime": Sample(
        "POSTGRES_MAX_CONNECTION_LIFETIME", "2h30m", 9000.0
    ),
    "store.postgres.maxConnectionLifetimeJitter": Sample(
        "POSTGRES_MAX_CONNECTION_LIFETIME_JITTER", "0", 0.0
    ),
    "store.postgres.maxConnectionIdleTime": Sample(
        "POSTGRES_MAX_CONNECTION_IDLE_TIME", "99s", 99.0
    ),
    "store.postgres.healthCheckInterval": Sample(
        "POSTGRES_HEALTH_CHECK_INTERVAL", "1.5s", 1.5
    ),
    "store.postgres.readReplica.host": Sample(
        "POSTGRES_READ_REPLICA_HOST", "ro.host", "ro.host"
    ),
    "store.postgres.readReplica.port": Sample(
        "POSTGRES_READ_REPLICA_PORT", "35432", 35432
    ),
    "store.postgres.readReplica.ratio": Sample("POSTGRES_READ_REPLICA_RATIO", "0", 0),
    "store.postgres.tolerateNewerDBVersions": Sample(
        "POSTGRES_TOLERATE_NEWER_DB_VERSIONS", "true", value=True
    ),
    "store.postgres.tls.mode": Sample(
        "POSTGRES_TLS_MODE", "verifyNone", TlsMode.VERIFY_NONE
    ),
    "store.postgres.tls.caPath": Sample("POSTGRES_TLS_CA_PATH", "/ca", "/ca"),
    "store.postgres.tls.certPath": Sample(
        "POSTGRES_TLS_CERT_PATH", "/crt", "/crt", {"POSTGRES_TLS_KEY_PATH": "/key"}
    ),
    "store.postgres.tls.keyPath": Sample(
        "POSTGRES_TLS_KEY_PATH", "/key", "/key", {"POSTGRES_TLS_CERT_PATH": "/crt"}
    ),
    "store.postgres.tls.disableSSLSNI": Sample(
        "POSTGRES_TLS_DISABLE_SSLSNI", "T", value=True
    ),
    "store.kubernetes.systemNamespace": Sample(
        "KUBERNETES_SYSTEM_NAMESPACE", "mesh-system", "mesh-system"
    ),
    "store.kubernetes.kubeconfig": Sample(
        "KUBERNETES_KUBECONFIG", "/etc/kube/config", "/etc/kube/config"
    ),
    "store.kubernetes.context": Sample("KUBERNETES_CONTEXT", "east", "east"),
    "store.kubernetes.mirror.enabled": Sample(
        "KUBERNETES_MIRROR_ENABLED", "true", value=True
    ),
    "store.kubernetes.mirror.rate": Sample("KUBERNETES_MIRROR_RATE", "5", 5),
    "store.upsert.conflictRetryBaseBackoff": Sample(
        "UPSERT_CONFLICT_RETRY_BASE_BACKOFF", "50ms", 0.05
    ),
    "store.upsert.conflictRetryMaxTimes": Sample(
        "UPSERT_CONFLICT_RETRY_MAX_TIMES", "0", 0
    ),
    "store.upsert.conflictRetryJitterPercent": Sample(
        "UPSERT_CONFLICT_RETRY_JITTER_PERCENT", "100", 100
    ),
    "store.evstore.actor": Sample("EVSTORE_ACTOR", "cp-1", "cp-1"),
    "store.evstore.notify": Sample("EVSTORE_NOTIFY", "false", value=False),
    "store.evstore.pollInterval": Sample("EVSTORE_POLL_INTERVAL", "250ms", 0.25),
    "store.evstore.heartbeatInterval": Sample("EVSTORE_HEARTBEAT_INTERVAL", "0", 0.0),
    "store.evstore.snapshots.everyEvents": Sample(
        "EVSTORE_SNAPSHOTS_EVERY_EVENTS", "0", 0
    ),
    "store.evstore.limits.queueCommandsMax": Sample(
        "EVSTORE_LIMITS_QUEUE_COMMANDS_MAX", "7", 7
    ),
    "store.evstore.limits.queueBytesMax": Sample(
        "EVSTORE_LIMITS_QUEUE_BYTES_MAX", "4096", 4096
    ),
    "store.evstore.limits.batchCommandsMax": Sample(
        "EVSTORE_LIMITS_BATCH_COMMANDS_MAX", "7", 7
    ),
    "store.evstore.limits.batchBytesMax": Sample(
        "EVSTORE_LIMITS_BATCH_BYTES_MAX", "65536", 65536
    ),
    "store.evstore.limits.commandTimeout": Sample(
        "EVSTORE_LIMITS_COMMAND_TIMEOUT", "1m", 60.0
    ),
    "store.evstore.limits.appendTimeout": Sample(
        "EVSTORE_LIMITS_APPEND_TIMEOUT", "2s", 2.0
    ),
    "store.evstore.limits.readTimeout": Sample(
        "EVSTORE_LIMITS_READ_TIMEOUT", "2m", 120.0
    ),
    "store.evstore.limits.startTimeout": Sample(
        "EVSTORE_LIMITS_START_TIMEOUT", "0", 0.0
    ),
    "store.evstore.limits.tailEventsMax": Sample(
        "EVSTORE_LIMITS_TAIL_EVENTS_MAX", "7", 7
    ),
    "store.evstore.limits.pageSizeMax": Sample("EVSTORE_LIMITS_PAGE_SIZE_MAX", "7", 7),
}
DECLARED = {declaration.key: declaration for declaration in SETTINGS}


def value_at(config: Config, declaration: Declaration) -> object:
    value: Any = config
    for name in declaration.path:
        value = getattr(value, name)
    return value


def yaml_of(key: str, text: str) -> str:
    """Return a file that gives one setting."""
    *sections, last = key.split(".")
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(sections)]
    return "\n".join((*lines, f"{'  ' * len(sections)}{last}: {text}"))


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(content: str) -> Path:
        path = tmp_path / "kuma-cp.yaml"
        path.write_text(content, encoding="utf-8")
        return path

    return write


def test_there_is_a_sample_of_every_setting() -> None:
    assert set(SAMPLES) | {"store.postgres.passwordFile"} == set(DECLARED)


def test_the_defaults_are_the_documented_ones() -> None:
    config = load_config(environ={})
    assert config == Config()
    assert config.type is StoreType.MEMORY
    assert config.postgres == PostgresConfig(
        host="127.0.0.1",
        port=15432,
        user="kuma",
        password="kuma",
        db_name="kuma",
        connection_timeout=5.0,
        max_open_connections=50,
        min_open_connections=0,
        max_idle_connections=50,
        max_connection_lifetime=3600.0,
        max_connection_lifetime_jitter=60.0,
        max_connection_idle_time=1800.0,
        health_check_interval=30.0,
        read_replica=ReadReplicaConfig(host="", port=5432, ratio=100),
        tolerate_newer_db_versions=False,
        tls=TlsConfig(
            mode=TlsMode.DISABLE,
            ca_path="",
            cert_path="",
            key_path="",
            disable_sslsni=False,
        ),
    )
    assert config.kubernetes == KubernetesConfig(system_namespace="kuma-system")
    assert config.upsert == UpsertConfig(
        conflict_retry_base_backoff=0.2,
        conflict_retry_max_times=10,
        conflict_retry_jitter_percent=30,
    )
    assert config.evstore == EvstoreConfig(
        actor="",
        notify=True,
        poll_interval=1.0,
        heartbeat_interval=10.0,
        snapshots=SnapshotsConfig(every_events=10_000),
        limits=Limits(
            queue_commands_max=10_000,
            queue_bytes_max=256 * 1024 * 1024,
            batch_commands_max=1_000,
            batch_bytes_max=8 * 1024 * 1024,
            command_timeout=30.0,
            append_timeout=10.0,
            read_timeout=60.0,
            start_timeout=10.0,
            tail_events_max=10_000,
            page_size_max=100_000,
        ),
    )


@pytest.mark.parametrize("key", SAMPLES)
def test_a_setting_comes_from_its_variable(key: str) -> None:
    sample = SAMPLES[key]
    environ = {
        f"KUMA_STORE_{name}": text
        for name, text in ({sample.variable: sample.text} | sample.with_it).items()
    }
    found = value_at(load_config(environ=environ), DECLARED[key])
    assert found == sample.value
    assert type(found) is type(sample.value)


@pytest.mark.parametrize("key", SAMPLES)
@pytest.mark.parametrize("change", [str, str.lower, str.upper])
def test_a_setting_comes_from_its_key_in_any_case(
    key: str, change: Any, write: Any
) -> None:
    sample = SAMPLES[key]
    environ = {f"KUMA_STORE_{name}": text for name, text in sample.with_it.items()}
    path = write(yaml_of(change(key), sample.text))
    assert value_at(load_config(path, environ=environ), DECLARED[key]) == sample.value


@pytest.mark.parametrize("key", SAMPLES)
def test_an_empty_variable_is_unset_except_the_password(key: str, write: Any) -> None:
    sample = SAMPLES[key]
    others = {f"KUMA_STORE_{name}": text for name, text in sample.with_it.items()}
    environ = others | {f"KUMA_STORE_{sample.variable}": ""}
    path = write(yaml_of(key, sample.text))
    found = value_at(load_config(path, environ=environ), DECLARED[key])
    assert found == ("" if key == "store.postgres.password" else sample.value)


@pytest.mark.parametrize("key", SAMPLES)
def test_the_environment_wins_over_the_file_even_where_that_is_wrong(
    key: str, write: Any
) -> None:
    sample = SAMPLES[key]
    environ = {
        f"KUMA_STORE_{name}": text
        for name, text in ({sample.variable: sample.text} | sample.with_it).items()
    }
    path = write(yaml_of(key, '"not \\0 at all"'))
    found = value_at(load_config(path, environ=environ), DECLARED[key])
    assert found == sample.value


def test_without_an_environ_that_of_the_process_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUMA_STORE_EVSTORE_ACTOR", "alice")
    assert load_config().evstore.actor == "alice"
    assert load_config(environ={}).evstore.actor == ""


def test_another_prefix_takes_the_place_of_kuma() -> None:
    environ = {"KUMA_STORE_TYPE": "kubernetes", "MY_CP_STORE_TYPE": "postgres"}
    assert load_config(environ=environ, prefix="MY_CP").type is StoreType.POSTGRES


@pytest.mark.parametrize("prefix", ["", "kuma", "KUMA_", "KU-MA"])
def test_a_prefix_that_no_variable_can_have_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="prefix"):
        load_config(environ={}, prefix=prefix)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "# nothing\n",
        "---\n",
        "store:\n",
        "store: {postgres: , evstore: {limits: ~}}",
        "store: {postgres: {host: , password: ~, tls: {caPath: }}}",
        "general: {store: {type: none}}\napiServer: [1, 2]\n",
        "\ufeffstore: {type: memory}",
    ],
)
def test_what_is_not_given_keeps_its_default(content: str, write: Any) -> None:
    assert load_config(write(content), environ={}) == Config()


def test_anchors_and_merge_keys_work_and_ones_own_keys_win(write: Any) -> None:
    path = write(
        "shared: &shared {host: db, port: 1}\n"
        "more: &more {user: mesh, <<: *shared}\n"
        "store:\n"
        "  postgres:\n"
        "    <<: [{port: 2}, *more]\n"
        "    host: other\n"
    )
    found = load_config(path, environ={}).postgres
    assert (found.host, found.port, found.user) == ("other", 2, "mesh")


def test_mappings_that_merge_themselves_end(write: Any) -> None:
    path = write("a: &a {<<: *a}\nstore: &s\n  <<: [*a, *s]\n  type: memory\n")
    assert load_config(path, environ={}) == Config()


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("off", False),
        ("No", False),
        ("FALSE", False),
        ("f", False),
        ("0", False),
        ("on", True),
        ("Yes", True),
        ("TRUE", True),
        ("t", True),
        ("1", True),
    ],
)
def test_booleans_in_files_are_those_of_go_and_of_yaml(
    word: str, *, value: bool, write: Any
) -> None:
    path = write(yaml_of("store.evstore.notify", word))
    assert load_config(path, environ={}).evstore.notify is value


@pytest.mark.parametrize("field", ["max_open_connections", "max_idle_connections"])
def test_zero_connections_means_our_own_bound(field: str) -> None:
    variable = BY_PATH["postgres", field].variable("KUMA")
    config = load_config(environ={variable: "0"})
    assert getattr(config.postgres, field) == 50
    assert getattr(msgspec.structs.replace(PostgresConfig(), **{field: 0}), field) == 50


@pytest.mark.parametrize("text", ["0", "0s"])
def test_no_time_to_connect_means_our_own_bound(text: str) -> None:
    environ = {"KUMA_STORE_POSTGRES_CONNECTION_TIMEOUT": text}
    assert load_config(environ=environ).postgres.connection_timeout == 5.0
    assert PostgresConfig(connection_timeout=0).connection_timeout == 5.0


def test_settings_of_kuma_without_effect_are_accepted(write: Any) -> None:
    path = write(
        "store:\n"
        "  unsafeDelete: true\n"
        "  cache: {enabled: true, expirationTime: 1s, anything: []}\n"
        "  postgres:\n"
        "    driverName: pgx\n"
        "    maxListQueryElements: 111\n"
        "    minReconnectInterval: 10s\n"
        "    maxReconnectInterval: 60s\n"
    )
    environ = {
        "KUMA_STORE_CACHE_ENABLED": "maybe",
        "KUMA_STORE_POSTGRES_DRIVER_NAME": "postgres",
        "KUMA_STORE_POSTGRES_PORT_5432_TCP": "tcp://10.0.0.1:5432",
    }
    assert load_config(path, environ=environ) == Config()


def test_describe_tells_where_each_setting_comes_from(write: Any) -> None:
    path = write("store:\n  postgres:\n    PORT: 1\n    healthCheckInterval: 90s\n")
    environ = {
        "KUMA_STORE_TYPE": "postgres",
        "KUMA_STORE_POSTGRES_PASSWORD": SECRET,
        "KUMA_STORE_POSTGRES_MAX_OPEN_CONNECTIONS": "0",
    }
    settings = describe(path, environ=environ)
    assert [setting.key for setting in settings] == [found.key for found in SETTINGS]
    found = {setting.key: setting for setting in settings}
    for key, value, origin in (
        ("store.type", "postgres", "environment KUMA_STORE_TYPE"),
        ("store.postgres.port", "1", f"file {path}, line 3"),
        ("store.postgres.healthCheckInterval", "1m30s", f"file {path}, line 4"),
        (
            "store.postgres.password",
            "***",
            "environment KUMA_STORE_POSTGRES_PASSWORD",
        ),
        (
            "store.postgres.maxOpenConnections",
            "50",
            "environment KUMA_STORE_POSTGRES_MAX_OPEN_CONNECTIONS",
        ),
        ("store.postgres.tls.disableSSLSNI", "false", "default"),
        ("store.postgres.passwordFile", "", "default"),
    ):
        assert found[key] == Setting(key=key, value=value, origin=origin)


def test_sections_can_be_made_in_code_and_keep_what_they_mean() -> None:
    config = Config(
        type="postgres",  # type: ignore[arg-type]
        postgres=PostgresConfig(host="/run/postgresql", connection_timeout=3),
    )
    assert config.type is StoreType.POSTGRES
    assert type(config.postgres.connection_timeout) is float
    with pytest.raises(AttributeError):
        config.type = StoreType.MEMORY  # type: ignore[misc]
