"""Sections that are made in code are checked as those read from files are."""

from __future__ import annotations

from typing import Any

import pytest

import evstore.config as package
from evstore.config import (
    Config,
    EvstoreConfig,
    KubernetesConfig,
    Limits,
    PostgresConfig,
    ReadReplicaConfig,
    TlsConfig,
    TlsMode,
    UpsertConfig,
)
from evstore.errors import ConfigError


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda: Config(type="sqlite"),  # type: ignore[arg-type]
            "Config.type: 'sqlite' is not memory, postgres or kubernetes",
        ),
        (
            lambda: Config(type=1),  # type: ignore[arg-type]
            "Config.type: 1 is not memory, postgres or kubernetes",
        ),
        (
            lambda: Config(postgres={"host": "db"}),  # type: ignore[arg-type]
            "Config.postgres: not a PostgresConfig",
        ),
        (
            lambda: PostgresConfig(port=70000),
            "PostgresConfig.port: 70000 is not a whole number from 1 to 65535",
        ),
        (
            lambda: PostgresConfig(port=True),
            "PostgresConfig.port: True is not a whole number from 1 to 65535",
        ),
        (
            lambda: PostgresConfig(connection_timeout="5s"),  # type: ignore[arg-type]
            (
                "PostgresConfig.connection_timeout: '5s' is not a number of seconds,"
                " 0 or more"
            ),
        ),
        (
            lambda: Limits(append_timeout=float("inf")),
            "Limits.append_timeout: inf is not a number of seconds, more than 0",
        ),
        (
            lambda: Limits(command_timeout=float("nan")),
            "Limits.command_timeout: nan is not a number of seconds, more than 0",
        ),
        (
            lambda: EvstoreConfig(notify=1),  # type: ignore[arg-type]
            "EvstoreConfig.notify: 1 is not True or False",
        ),
        (
            lambda: UpsertConfig(conflict_retry_base_backoff=-0.1),
            (
                "UpsertConfig.conflict_retry_base_backoff: -0.1 is not a number of seconds,"
                " 0 or more"
            ),
        ),
        (
            lambda: KubernetesConfig(system_namespace="Kuma"),
            (
                "KubernetesConfig.system_namespace: 'Kuma' is not a Kubernetes namespace: up"
                " to 63 lower-case letters, digits and hyphens"
            ),
        ),
        (
            lambda: ReadReplicaConfig(ratio=-1),
            "ReadReplicaConfig.ratio: -1 is not a whole number from 0 to 100",
        ),
        (
            lambda: TlsConfig(mode=TlsMode.VERIFY_FULL),
            "TlsConfig.mode: verifyFull needs TlsConfig.ca_path too",
        ),
        (
            lambda: PostgresConfig(
                host="/run/postgresql", tls=TlsConfig(mode=TlsMode.VERIFY_NONE)
            ),
            (
                "PostgresConfig.tls.mode: verifyNone is impossible through a socket folder,"
                " which is in PostgresConfig.host; disable is allowed there"
            ),
        ),
        (
            lambda: TlsConfig(key_path="/key"),
            "TlsConfig.key_path: needs TlsConfig.cert_path too",
        ),
        (
            lambda: PostgresConfig(max_open_connections=1, min_open_connections=2),
            (
                "PostgresConfig.min_open_connections: 2 is more than 1, the value of"
                " PostgresConfig.max_open_connections"
            ),
        ),
        (
            lambda: PostgresConfig(password=1),  # type: ignore[arg-type]
            (
                "PostgresConfig.password: the value is not UTF-8 text without NUL"
                " characters, or a callable that returns it"
            ),
        ),
    ],
)
def test_sections_made_in_code_are_checked_the_same_way(
    make: Any, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == expected


def test_mistakes_in_code_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        PostgresConfig(host="", port=0)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "PostgresConfig.host",
        "PostgresConfig.port",
    ]


def test_the_package_offers_what_it_says() -> None:
    assert package.__all__ == sorted(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)
