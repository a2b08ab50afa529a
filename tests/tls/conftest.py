"""The servers of the matrix, once for all tests of TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servers import debian_programs, short_folder
from tls.kinds import Kind, Servers, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import DebianServer
    from tls.kinds import Make


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Return servers from Debian's package, of every kind."""
    programs = debian_programs()
    with short_folder() as folder:
        made = Servers(programs, folder)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def right(servers: Servers) -> DebianServer:
    """Return the server whose certificate is right."""
    return servers[Kind.RIGHT]


@pytest.fixture
def make(servers: Servers, right: DebianServer) -> Make:
    """Return a maker of settings for the right server, which trust the right root."""

    def config(*arguments: object, **given: object) -> object:
        trusted = {"ca_path": str(servers.root.ca_path)}
        return settings(right.port, *arguments, **(trusted | given))

    return config
