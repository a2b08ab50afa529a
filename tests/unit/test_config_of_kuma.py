"""What a team that runs Kuma or Kong Mesh has already, read as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evstore.config import Config, load_config
from evstore.config.catalog import IGNORED, ROOT, SETTINGS

if TYPE_CHECKING:
    from pathlib import Path

# Every key of Kuma's store, with its default; the sections beside it are cut short.
FILE: Final = """\
environment: universal
mode: standalone
store:
  type: memory
  kubernetes:
    systemNamespace: kuma-system
  postgres:
    host: 127.0.0.1
    port: 15432
    user: kuma
    password: kuma
    dbName: kuma
    driverName: pgx
    connectionTimeout: 5
    maxConnectionLifetime: "1h"
    maxConnectionLifetimeJitter: "1m"
    maxConnectionIdleTime: "30m"
    healthCheckInterval: "30s"
    minOpenConnections: 0
    maxOpenConnections: 50
    maxIdleConnections: 50
    maxListQueryElements: 0
    minReconnectInterval: "10s"
    maxReconnectInterval: "60s"
    tls:
      mode: disable
      certPath:
      keyPath:
      caPath:
      disableSSLSNI: false
    readReplica:
      host: ""
      port: 5432
      ratio: 100
    tolerateNewerDBVersions: false
  cache:
    enabled: true
    expirationTime: 1s
  upsert:
    conflictRetryBaseBackoff: 200ms
    conflictRetryMaxTimes: 10
    conflictRetryJitterPercent: 30
  unsafeDelete: false
apiServer:
  http:
    enabled: true
"""
VARIABLES: Final = {
    "TYPE": "memory",
    "KUBERNETES_SYSTEM_NAMESPACE": "kuma-system",
    "POSTGRES_HOST": "127.0.0.1",
    "POSTGRES_PORT": "15432",
    "POSTGRES_USER": "kuma",
    "POSTGRES_PASSWORD": "kuma",
    "POSTGRES_DB_NAME": "kuma",
    "POSTGRES_DRIVER_NAME": "pgx",
    "POSTGRES_CONNECTION_TIMEOUT": "5",
    "POSTGRES_MAX_CONNECTION_LIFETIME": "1h",
    "POSTGRES_MAX_CONNECTION_LIFETIME_JITTER": "1m",
    "POSTGRES_MAX_CONNECTION_IDLE_TIME": "30m",
    "POSTGRES_HEALTH_CHECK_INTERVAL": "30s",
    "POSTGRES_MIN_OPEN_CONNECTIONS": "0",
    "POSTGRES_MAX_OPEN_CONNECTIONS": "50",
    "POSTGRES_MAX_IDLE_CONNECTIONS": "50",
    "POSTGRES_MAX_LIST_QUERY_ELEMENTS": "0",
    "POSTGRES_MIN_RECONNECT_INTERVAL": "10s",
    "POSTGRES_MAX_RECONNECT_INTERVAL": "60s",
    "POSTGRES_TLS_MODE": "disable",
    "POSTGRES_TLS_CERT_PATH": "",
    "POSTGRES_TLS_KEY_PATH": "",
    "POSTGRES_TLS_CA_PATH": "",
    "POSTGRES_TLS_DISABLE_SSLSNI": "false",
    "POSTGRES_READ_REPLICA_HOST": "",
    "POSTGRES_READ_REPLICA_PORT": "5432",
    "POSTGRES_READ_REPLICA_RATIO": "100",
    "POSTGRES_TOLERATE_NEWER_DB_VERSIONS": "false",
    "CACHE_ENABLED": "true",
    "CACHE_EXPIRATION_TIME": "1s",
    "UPSERT_CONFLICT_RETRY_BASE_BACKOFF": "200ms",
    "UPSERT_CONFLICT_RETRY_MAX_TIMES": "10",
    "UPSERT_CONFLICT_RETRY_JITTER_PERCENT": "30",
    "UNSAFE_DELETE": "false",
}


def test_a_file_that_writes_out_all_defaults_of_kuma_changes_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "kuma-cp.yaml"
    path.write_text(FILE, encoding="utf-8")
    assert load_config(path, environ={}) == Config()


def test_variables_that_write_out_all_defaults_of_kuma_change_nothing() -> None:
    environ = {f"KUMA_STORE_{name}": text for name, text in VARIABLES.items()}
    assert load_config(environ=environ) == Config()


def test_every_setting_is_kumas_or_stands_among_our_own() -> None:
    ours = {
        setting.variable("KUMA").removeprefix("KUMA_STORE_")
        for setting in SETTINGS
        if not setting.key.startswith(f"{ROOT}.evstore.")
    }
    added = {
        "POSTGRES_PASSWORD_FILE",
        "KUBERNETES_KUBECONFIG",
        "KUBERNETES_CONTEXT",
        "KUBERNETES_MIRROR_ENABLED",
        "KUBERNETES_MIRROR_RATE",
    }
    without_effect = {
        "POSTGRES_DRIVER_NAME",
        "POSTGRES_MAX_LIST_QUERY_ELEMENTS",
        "POSTGRES_MIN_RECONNECT_INTERVAL",
        "POSTGRES_MAX_RECONNECT_INTERVAL",
        "CACHE_ENABLED",
        "CACHE_EXPIRATION_TIME",
        "UNSAFE_DELETE",
    }
    assert ours - added == VARIABLES.keys() - without_effect
    keys = {ignored.key.removesuffix(".*").rpartition(".")[2] for ignored in IGNORED}
    assert all(f"{key}:" in FILE for key in keys)
