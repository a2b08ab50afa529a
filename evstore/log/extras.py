"""Store types that need packages which not everybody installs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from evstore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def extra(name: str) -> Generator[None]:
    """Import what the extra `name` brings, in the body.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "evstore":
            raise
        message = f"store.type {name} needs the package {missing or 'of its extra'}"
        raise ConfigError(f"{message}: pip install 'evstore[{name}]'") from error
