"""The way to the API server: a session, with credentials that are read again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp
import anyio

from evstore.errors import UnavailableError

from .access import bare, load_access, proxy_of, tls_context, token_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from kubernetes_asyncio.client import Configuration

    from evstore.config import KubernetesConfig

CONNECT_SECONDS_MAX: Final = 5.0
# A plugin may ask somebody; a request under way waits no longer than for its answer.
CREDENTIALS_SECONDS_MAX: Final = 60
# A line of a watch is an object; etcd takes none above 1.5 MiB.
LINE_BYTES_MAX: Final = 2 * 1024 * 1024
JSON: Final = "application/json"


class Request(NamedTuple):
    """What is asked of the server."""

    method: str
    path: str
    query: Mapping[str, str] | None = None
    body: bytes | None = None
    accept: str = JSON


class Connection:
    """A session with one cluster, whose credentials and certificates may change.

    Certificates go with each request: what is under way when they are replaced goes on
    over connections with the old ones, and whatever follows gets new connections.
    """

    def __init__(self, config: KubernetesConfig) -> None:
        self._config = config
        self._access: Configuration | None = None
        self._session: aiohttp.ClientSession | None = None
        self.proxy: str | None = None
        self._tls: ssl.SSLContext | None = None
        self._material: tuple[object, ...] = ()
        self._reading = anyio.Lock()
        self.closed = False
        # How often the credentials were read.
        self.readings = 0

    @property
    def address(self) -> str:
        """Where the server is, as far as is known, and without a password."""
        return "of the cluster" if self._access is None else bare(self._access.host)

    @property
    def access(self) -> Configuration:
        """Address, certificates and credentials, once this is open."""
        assert self._access is not None, "it is open"
        return self._access

    async def open(self) -> None:
        """Read how the cluster is reached, unless that is known.

        Raises:
            ConfigError: that cannot be known from the settings.
            UnavailableError: the credentials did not come in time, or this is closed.
        """
        if self._session is None:
            await self.renew(0)

    async def renew(self, readings: int) -> None:
        """Read everything again, unless that was done since there were `readings`.

        Tokens and certificates are replaced while instances run.

        Raises:
            ConfigError, UnavailableError: as `open` does; all is as it was.
        """
        async with self._reading:
            if self.closed:
                message = "the log is closed"
                raise UnavailableError(message)
            if self.readings == readings:
                await self._read()

    async def _read(self) -> None:
        try:
            with anyio.fail_after(CREDENTIALS_SECONDS_MAX):
                access = await load_access(self._config)
        except TimeoutError:
            message = f"the credentials did not come in {CREDENTIALS_SECONDS_MAX} s"
            raise UnavailableError(message) from None
        material = _material_of(access)
        if self._tls is None or material != self._material:
            self._tls, self._material = tls_context(access), material
        self._access, self.proxy = access, proxy_of(access)
        if self._session is None and not self.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=LINE_BYTES_MAX,
            )
        self.readings += 1

    async def begin(
        self, asked: Request, limits: aiohttp.ClientTimeout
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Return a request that is sent when it is entered.

        Raises:
            ConfigError, UnavailableError: as `open` does, or the token cannot be read.
        """
        await self.open()
        assert self._access is not None
        token = await token_of(self._access)
        session, access, tls = self._session, self._access, self._tls
        if session is None or tls is None:
            message = "the log is closed"
            raise UnavailableError(message)
        headers = {"Accept": asked.accept, "Content-Type": JSON}
        if token:
            headers["Authorization"] = token
        more: dict[str, Any] = {}
        if access.tls_server_name:
            more["server_hostname"] = access.tls_server_name
        return session.request(
            asked.method,
            f"{access.host}{asked.path}",
            params=asked.query,
            data=asked.body,
            headers=headers,
            proxy=self.proxy,
            timeout=limits,
            allow_redirects=False,
            ssl=tls,
            **more,
        )

    async def aclose(self) -> None:
        """Close all connections; waits for nobody."""
        self.closed = True
        session, self._session = self._session, None
        if session is not None:
            if session.connector is not None:
                # Without a farewell, which could take as long as the server likes.
                await session.connector.close(abort_ssl=True)
            await session.close()


def _material_of(access: Configuration) -> tuple[object, ...]:
    """Return what tells whether connections have to be made in another way."""
    paths = (access.ssl_ca_cert, access.cert_file, access.key_file)
    return (*map(_content_of, paths), access.verify_ssl)


def _content_of(path: str | None) -> bytes | None:
    try:
        return Path(path).read_bytes() if path else None
    except OSError:
        return b""  # told when it is used
