"""Requests to the API server, and what their answers mean.

kubernetes_asyncio knows where the server is and who we are; the bytes go through its
aiohttp session as they are, without its models.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import aiohttp
import anyio
import msgspec

from evstore.clock import boot_microseconds, to_microseconds
from evstore.errors import ConfigError, SchemaError, StoreError, UnavailableError

from .access import load_access, proxy_of, tls_context

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from kubernetes_asyncio.client import Configuration

    from evstore.config import KubernetesConfig

UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409
GONE: Final = 410
TOO_LARGE: Final = 413
UNPROCESSABLE: Final = 422
TOO_MANY: Final = 429
_OK: Final = range(200, 300)
_SERVER_FAULT: Final = 500

CONNECT_SECONDS_MAX: Final = 5.0
# A line of a watch is an object; etcd takes none above 1.5 MiB.
LINE_BYTES_MAX: Final = 2 * 1024 * 1024
_LIMITS: Final = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX)
_RETRY_SECONDS_DEFAULT: Final = 1.0
_JSON: Final = "application/json"
_VERBS: Final = {"POST": "create", "PUT": "update", "DELETE": "delete", "GET": "get"}


class LostError(UnavailableError):
    """No answer came: what was asked for may have been done, now or in a moment."""


class GoneError(Exception):
    """The server has forgotten the moment that was asked for; it said where to go on."""

    def __init__(self, token: str) -> None:
        super().__init__("the server has forgotten that moment")
        self.token = token


class _ListMeta(msgspec.Struct, rename={"token": "continue"}):
    token: str = ""


class Status(msgspec.Struct):
    """What the API server says when it does not do what was asked."""

    message: str = ""
    reason: str = ""
    code: int = 0
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)


class Answer(msgspec.Struct, frozen=True):
    """A status and the bytes that came with it."""

    status: int
    body: bytes
    url: str
    method: str

    @property
    def ok(self) -> bool:
        """Whether what was asked for was done."""
        return self.status in _OK

    def explanation(self) -> Status:
        """Return the Status that the body holds, if it is one."""
        try:
            return _decode_status(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            text = self.body[:200].decode(errors="replace").strip()
            return Status(message=text or f"status {self.status}")


ContentT = TypeVar("ContentT")
_decode_status: Final = msgspec.json.Decoder(Status).decode


class Client:
    """A session with one cluster; of any number of tasks at a time.

    `measure` is told each Date that an answer has, in microseconds, and between which
    moments of the boot clock the server wrote it.
    """

    def __init__(
        self,
        config: KubernetesConfig,
        *,
        seconds: float,
        measure: Callable[[int, int, int], None] | None = None,
    ) -> None:
        self._config = config
        self.seconds: Final = seconds
        self._measure = measure
        self._access: Configuration | None = None
        self._session: aiohttp.ClientSession | None = None
        self._proxy: str | None = None
        self._opening = anyio.Lock()
        self._closed = False
        self._under_way: set[anyio.CancelScope] = set()
        self.failures = 0

    @property
    def namespace(self) -> str:
        """The namespace that holds the log."""
        return self._config.system_namespace

    @property
    def access(self) -> Configuration:
        """Address, certificates and credentials of an open client."""
        assert self._access is not None, "it is open"
        return self._access

    @property
    def proxy(self) -> str | None:
        """The proxy by which the server is reached, perhaps with a password in it."""
        return self._proxy

    @property
    def under_way(self) -> int:
        """How many requests wait for their answers."""
        return len(self._under_way)

    async def open(self) -> None:
        """Read how the cluster is reached, unless that is known.

        Raises:
            ConfigError: that cannot be known from the settings.
        """
        async with self._opening:
            if self._closed:
                message = "the log is closed"
                raise UnavailableError(message)
            if self._session is None:
                self._access = await load_access(self._config)
                self._proxy = proxy_of(self._access)
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=tls_context(self._access)),
                    read_bufsize=LINE_BYTES_MAX,
                )

    async def renew(self) -> None:
        """Read the credentials again: tokens change while instances run."""
        async with self._opening:
            self._access = await load_access(self._config)

    def abort(self) -> None:
        """Break off what is under way; the server may still do it."""
        for scope in list(self._under_way):
            scope.cancel()

    async def aclose(self) -> None:
        """Close all connections."""
        async with self._opening:
            self._closed = True
            session, self._session = self._session, None
            if session is not None:
                if session.connector is not None:
                    # Without a farewell, which could take as long as the server likes.
                    await session.connector.close(abort_ssl=True)
                await session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        accept: str = _JSON,
    ) -> Answer:
        """Ask, and return the answer, whatever it is but for want of the server.

        A server that has too much to do is asked again when it says so; a refused token
        is read again once.

        Raises:
            LostError: no answer came in time, or the server failed.
            UnavailableError: nothing was sent, or nothing was done.
        """
        with anyio.CancelScope() as scope:
            self._under_way.add(scope)
            try:
                with anyio.fail_after(self.seconds):
                    return await self._insist(method, path, query, body, accept)
            except TimeoutError:
                raise self._lost(f"did not answer in {self.seconds:g} s") from None
            finally:
                self._under_way.discard(scope)
        raise self._lost("was not waited for")

    async def _insist(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        accept: str,
    ) -> Answer:
        renewed = False
        while True:
            answer, headers = await self._exchange(method, path, query, body, accept)
            if answer.status == TOO_MANY:
                await self._hold_back(headers)
            elif answer.status == UNAUTHORIZED and not renewed:
                renewed = True
                await self.renew()
            elif answer.status == FORBIDDEN and not await self._is_ready():
                # It does not know yet who may do what.
                message = f"the API server {self.address} is not ready"
                raise UnavailableError(f"{message}: {answer.explanation().message}")
            elif answer.status >= _SERVER_FAULT:
                raise self._lost(f"failed: {answer.explanation().message}")
            else:
                return answer

    async def _is_ready(self) -> bool:
        answer, _ = await self._exchange("GET", "/readyz", None, None, "*/*")
        return answer.ok

    async def _hold_back(self, headers: Mapping[str, str]) -> None:
        """Wait as long as the server wants; where that is too long, say so at once."""
        try:
            pause = float(headers.get("Retry-After", ""))
        except ValueError:
            pause = _RETRY_SECONDS_DEFAULT
        if anyio.current_effective_deadline() < anyio.current_time() + pause:
            message = f"the API server {self.address} has too much to do"
            raise UnavailableError(message)
        await anyio.sleep(pause)

    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        accept: str,
    ) -> tuple[Answer, Mapping[str, str]]:
        sent = boot_microseconds()
        try:
            async with await self._begin(method, path, query, body, accept) as reply:
                content = await reply.read()
                self._tell_time(reply.headers, sent)
                return Answer(reply.status, content, path, method), reply.headers
        except aiohttp.ClientConnectorError as error:
            self.failures += 1
            message = f"the API server {self.address} cannot be reached: {error}"
            raise UnavailableError(message) from error
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            self._check_runtime(error)
            raise self._lost(f"did not answer: {_words(error)}") from (error)

    def _check_runtime(self, error: Exception) -> None:
        """Raise what is no failure of the connection, but a fault of ours."""
        # aiohttp says so where a session is closed in the middle of a request.
        if isinstance(error, RuntimeError) and not self._closed:
            raise error

    async def _begin(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        accept: str,
        limits: aiohttp.ClientTimeout = _LIMITS,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if self._session is None:
            await self.open()
        assert self._access is not None
        assert self._session is not None
        headers = {"Accept": accept, "Content-Type": _JSON}
        token = await self._access.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        more: dict[str, Any] = {}
        if self._access.tls_server_name:
            more["server_hostname"] = self._access.tls_server_name
        return self._session.request(
            method,
            f"{self._access.host}{path}",
            params=query,
            data=body,
            headers=headers,
            proxy=self._proxy,
            timeout=limits,
            allow_redirects=False,
            **more,
        )

    def _tell_time(self, headers: Mapping[str, str], sent: int) -> None:
        date = headers.get("Date")
        if date and self._measure is not None:
            try:
                theirs = to_microseconds(parsedate_to_datetime(date))
            except ValueError:
                return
            self._measure(theirs, sent, boot_microseconds())

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        query: Mapping[str, str],
        silence: float,
        accept: str = _JSON,
    ) -> AsyncGenerator[AsyncGenerator[bytes]]:
        """Ask for a watch, and give its lines as they come.

        Raises:
            GoneError: the server has forgotten the moment to begin at.
            UnavailableError: the watch was refused, broke off, or was silent too long.
        """
        limits = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS_MAX, sock_read=silence
        )
        try:
            request = await self._begin("GET", path, query, None, accept, limits)
            async with request as reply:
                if reply.status == UNAUTHORIZED:
                    await self.renew()
                if reply.status not in _OK:
                    answer = Answer(reply.status, await reply.read(), path, "WATCH")
                    raise self.refusal(answer)
                yield _lines(reply)
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            self._check_runtime(error)
            self.failures += 1
            message = f"the watch of the API server {self.address} broke off: {error}"
            raise UnavailableError(message) from error

    @property
    def address(self) -> str:
        """Where the server is, as far as is known."""
        if self._access is None:
            return "of the cluster"
        return self._access.host or ""

    def refusal(self, answer: Answer) -> Exception:
        """Return what an answer means that nobody expects; nothing was done."""
        status = answer.explanation()
        match answer.status:
            case 410:
                return GoneError(status.metadata.token)
            case 401:
                message = f"the API server {self.address} does not accept who we are"
                return ConfigError(f"store.kubernetes: {message}: {status.message}")
            case 403:
                return self._forbidden(answer, status)
            case 404:
                return SchemaError(
                    f"the cluster has no {answer.url}: {status.message.strip()}. "
                    'Run "evstore migrate up", and make sure that the namespace '
                    f"{self.namespace} is there"
                )
            case _:
                message = f"the API server {self.address} refused to"
                what = f"{_VERBS.get(answer.method, 'watch')} {answer.url}"
                return UnavailableError(f"{message} {what}: {status.message}")

    def content(self, answer: Answer, decode: Callable[[bytes], ContentT]) -> ContentT:
        """Return what an answer holds that is as expected.

        Raises:
            StoreError: it is not, or holds something else.
        """
        if not answer.ok:
            error = self.refusal(answer)
            raise (
                UnavailableError(str(error)) if isinstance(error, GoneError) else error
            )
        try:
            return decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"what answers at {self.address} is no API server: {error}"
            raise UnavailableError(message) from error

    def _forbidden(self, answer: Answer, status: Status) -> StoreError:
        verb = _VERBS.get(answer.method, "watch")
        message = f"we may not {verb} {answer.url}: {status.message}"
        return ConfigError(
            f'store.kubernetes: {message}. "evstore migrate manifests" prints the roles'
        )

    def _lost(self, what: str) -> LostError:
        self.failures += 1
        return LostError(f"the API server {self.address} {what}")


async def _lines(reply: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    while line := await reply.content.readline():
        yield line


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
