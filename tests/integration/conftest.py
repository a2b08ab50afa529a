"""Where the stores of a test live: memory and PostgreSQL, or one of them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

import evstore
from doctoring import as_user, role_of
from evstore.config import Config
from evstore.log import MemoryLog
from evstore.maintenance import grant
from evstore.schemas import AS_STORED
from evstore.store.opening import open_with
from fault.history import adjusted
from tls.server import secure_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
    from contextlib import AbstractAsyncContextManager

    from evstore import Schema, Store, Upcaster
    from tls.server import SecureServer


class Backend:
    """Opens any number of stores on one log."""

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self.config = config

    def open(
        self,
        *,
        types: Iterable[type[Any] | Schema] = (),
        upcasters: Iterable[Upcaster] = (),
        projections: Iterable[evstore.Projection[Any]] = (),
        **settings: object,
    ) -> AbstractAsyncContextManager[Store]:
        """Open a store on the log; `settings` are evstore's own."""
        config = adjusted(self.config, **settings)
        return evstore.open(
            config, types=types, upcasters=upcasters, projections=projections
        )

    def open_as_stored(self) -> AbstractAsyncContextManager[Store]:
        """Open a store as the command does, which knows no types."""
        return open_with(self.config, AS_STORED)


@pytest.fixture(params=["memory", "postgres", "kubernetes"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    if request.param != "memory":
        config = request.getfixturevalue(f"{request.param}_config")
        return Backend(request.param, config)
    log = MemoryLog()

    @asynccontextmanager
    async def the_one_log(_: Config) -> AsyncGenerator[MemoryLog]:
        yield log

    # A memory log lives and ends with its store; here several have it, in turn as well.
    monkeypatch.setattr("evstore.store.opening.open_log", the_one_log)
    return Backend(request.param, Config())


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    """Return a store on an empty log."""
    async with backend.open() as opened:
        yield opened


@pytest.fixture
async def other(backend: Backend, store: Store) -> AsyncIterator[Store]:
    """Return a second store on the same log."""
    async with backend.open() as opened:
        assert opened.identity == store.identity
        yield opened


@pytest.fixture
async def runtime(postgres_config: Config) -> AsyncIterator[Config]:
    """Return the configuration for a role that has what it needs, and no more."""
    async with role_of(postgres_config) as name:
        await grant(postgres_config, name)
        yield as_user(postgres_config, name)


@pytest.fixture(scope="session")
def debian_postgres() -> Iterator[SecureServer]:
    """Return a server with TLS, from Debian's package."""
    with secure_server() as server:
        yield server
