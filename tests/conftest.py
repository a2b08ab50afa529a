"""One server a session, one migrated template, one database a test."""

from __future__ import annotations

import os
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Final

import anyio
import hypothesis
import pytest

from apiserver import ApiServer, prepared, running_apiserver
from evstore.embedded import EmbeddedServer
from evstore.maintenance import migrate_up
from pooler import Pooler
from servers import short_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from evstore.config import Config

_TEMPLATE: Final = "migrated"
_database_numbers: Final = count(1)
_namespace_numbers: Final = count(1)

# `ci` runs the same examples each time and judges nothing by the clock; `dev` searches.
hypothesis.settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=100,
    database=None,
    print_blob=True,
)
hypothesis.settings.register_profile("dev", deadline=None, max_examples=50)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") == "true" else "dev")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    # psycopg is asyncio-only.
    return "asyncio"


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """Return an empty folder for a server that the test starts itself."""
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """Return the session's PostgreSQL; a test that kills one starts its own."""
    settings = {"max_connections": "200"}
    with short_folder() as folder, EmbeddedServer(folder, settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def migrated_template(server: EmbeddedServer) -> str:
    """Return the name of a migrated, empty database to copy from."""
    server.create_database(_TEMPLATE)
    anyio.run(migrate_up, server.config(_TEMPLATE))
    return _TEMPLATE


@pytest.fixture
def postgres_config(server: EmbeddedServer, migrated_template: str) -> Iterator[Config]:
    """Return the configuration of a migrated database of the test's own."""
    with _database(server, template=migrated_template) as config:
        yield config


@pytest.fixture(scope="session")
def pooler(server: EmbeddedServer) -> Iterator[Pooler]:
    """Return a pooler in transaction mode before the session's PostgreSQL."""
    with (
        short_folder() as folder,
        Pooler(folder, server.host, server.port) as running,
    ):
        yield running


@pytest.fixture
def pooled_config(postgres_config: Config, pooler: Pooler) -> Config:
    """Return the configuration of such a database, through the pooler."""
    return pooler.config(postgres_config)


@pytest.fixture
def unmigrated_config(server: EmbeddedServer) -> Iterator[Config]:
    """Return the configuration of an empty database of the test's own."""
    with _database(server, template=None) as config:
        yield config


@contextmanager
def _database(server: EmbeddedServer, *, template: str | None) -> Generator[Config]:
    name = f"test_{next(_database_numbers)}"
    server.create_database(name, template=template)
    try:
        yield server.config(name)
    finally:
        server.drop_database(name)


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ApiServer]:
    """Return the session's API server, whose kinds and roles are installed."""
    with running_apiserver() as running:
        prepared(running)
        yield running


@pytest.fixture
def namespaces(apiserver: ApiServer) -> Callable[[], Config]:
    """Return a maker of namespaces, which gives the configuration of each."""

    def make() -> Config:
        name = f"test-{next(_namespace_numbers)}"
        apiserver.create("/api/v1/namespaces", {"metadata": {"name": name}})
        return apiserver.config(name)

    return make


@pytest.fixture
def kubernetes_config(namespaces: Callable[[], Config]) -> Config:
    """Return the configuration of an empty namespace of the test's own."""
    return namespaces()
