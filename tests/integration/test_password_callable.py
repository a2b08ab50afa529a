"""A password that is a callable: called for each connection, so that it may change."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

import evstore
from evstore.config import PostgresConfig, StoreType, TlsConfig, TlsMode
from evstore.errors import ConfigError, UnavailableError
from evstore.maintenance import migrate_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evstore import Config
    from tls.server import SecureServer

DATABASE: Final = "rotating"
SECRET: Final = "hunter2"


def with_password(config: Config, password: str | Callable[[], str]) -> Config:
    """Return the configuration with this password."""
    postgres = msgspec.structs.replace(config.postgres, password=password)
    return msgspec.structs.replace(config, postgres=postgres)


@pytest.fixture
def config(debian_postgres: SecureServer) -> Iterator[Config]:
    """Return the settings for a database of the test's own."""
    server = debian_postgres
    server.psql(f"CREATE DATABASE {DATABASE} OWNER kuma")
    yield evstore.Config(
        type=StoreType.POSTGRES,
        postgres=PostgresConfig(
            host="localhost",
            port=server.port,
            user="kuma",
            password=server.password,
            db_name=DATABASE,
            tls=TlsConfig(mode=TlsMode.VERIFY_NONE),
        ),
    )
    server.psql(f"DROP DATABASE {DATABASE} WITH (FORCE)")
    server.psql(f"ALTER ROLE kuma PASSWORD '{server.password}'")


async def test_a_store_outlives_a_change_of_its_password(
    debian_postgres: SecureServer, config: Config
) -> None:
    await migrate_up(config)
    current, threads = [debian_postgres.password], set[int]()

    def password() -> str:
        threads.add(threading.get_ident())
        return current[0]

    async with evstore.open(with_password(config, password)) as store:
        await store.create("Mesh", "default", spec={})
        assert threads
        assert threading.get_ident() not in threads  # the event loop does not wait
        current[0] = "another"
        debian_postgres.psql("ALTER ROLE kuma PASSWORD 'another'")
        debian_postgres.psql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            f" WHERE datname = '{DATABASE}'"
        )
        assert (await store.create("Mesh", "other", spec={})).version == 2
        assert [each.position async for each in store.events()] == [1, 2]
    with pytest.raises(ConfigError, match="authentication") as caught:
        async with evstore.open(with_password(config, lambda: SECRET)):
            pytest.fail("it connected")
    assert SECRET not in str(caught.value)


NOWHERE: Final = evstore.Config(
    type=StoreType.POSTGRES, postgres=PostgresConfig(port=1, connection_timeout=1)
)


async def test_a_callable_that_fails_is_named_by_its_error_alone() -> None:
    def password() -> str:
        raise KeyError(SECRET)

    with pytest.raises(UnavailableError) as caught:
        async with evstore.open(with_password(NOWHERE, password)):
            pytest.fail("it connected")
    message = "store.postgres.password: its callable raised KeyError"
    assert str(caught.value) == message
    assert isinstance(caught.value.__cause__, KeyError)


async def test_a_callable_that_returns_no_text_is_a_mistake() -> None:
    for wrong in (b"bytes", None, SECRET + "\0"):
        # The types forbid it; programs without types do it all the same.
        password: Callable[[], str] = lambda wrong=wrong: wrong  # type: ignore[misc] # noqa: E731
        with pytest.raises(ConfigError, match="returned what is not UTF-8") as caught:
            async with evstore.open(with_password(NOWHERE, password)):
                pytest.fail("it connected")
        assert SECRET not in str(caught.value)


@pytest.mark.slow
async def test_a_callable_that_does_not_return_is_waited_for_in_bounds() -> None:
    released = threading.Event()

    def password() -> str:
        released.wait()
        return ""

    try:
        with pytest.raises(UnavailableError, match="has not returned in 2 s"):
            async with evstore.open(with_password(NOWHERE, password)):
                pytest.fail("it connected")
    finally:
        released.set()
