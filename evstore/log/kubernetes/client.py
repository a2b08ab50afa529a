"""Requests to the API server, and what their answers mean.

kubernetes_asyncio knows where the server is and who we are; the bytes go through its
aiohttp session as they are, without its models.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp
import anyio
import msgspec
from aiohttp.http_exceptions import HttpProcessingError

from evstore.clock import boot_microseconds
from evstore.errors import ConfigError, SchemaError, StoreError, UnavailableError

from .answers import (
    FORBIDDEN,
    NOT_FOUND,
    OK,
    TOO_MANY,
    UNAUTHORIZED,
    Answer,
    GoneError,
    LostError,
    Status,
)
from .connection import CONNECT_SECONDS_MAX, JSON, LINE_BYTES_MAX, Connection, Request
from .dates import microseconds_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from kubernetes_asyncio.client import Configuration

    from evstore.config import KubernetesConfig

_SERVER_FAULT: Final = 500
# No status tells it, only these words of etcd.
_FULL: Final = "database space exceeded"

_LIMITS: Final = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX)
_RETRY_SECONDS_DEFAULT: Final = 1.0
_VERBS: Final = {"POST": "create", "PUT": "update", "DELETE": "delete", "GET": "get"}


ContentT = TypeVar("ContentT")


class _UntrustedError(UnavailableError):
    """Nothing was sent: one side does not accept the certificates of the other."""


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
        self._connection = Connection(config)
        self._under_way: set[anyio.CancelScope] = set()
        self.failures = 0

    @property
    def namespace(self) -> str:
        """The namespace that holds the log."""
        return self._config.system_namespace

    @property
    def address(self) -> str:
        """Where the server is, as far as is known."""
        return self._connection.address

    @property
    def access(self) -> Configuration:
        """Address, certificates and credentials of an open client."""
        return self._connection.access

    @property
    def proxy(self) -> str | None:
        """The proxy by which the server is reached, perhaps with a password in it."""
        return self._connection.proxy

    @property
    def under_way(self) -> int:
        """How many requests wait for their answers."""
        return len(self._under_way)

    async def open(self) -> None:
        """Read how the cluster is reached, unless that is known.

        Raises:
            ConfigError: that cannot be known from the settings.
            UnavailableError: the credentials did not come in time.
        """
        await self._connection.open()

    def abort(self) -> None:
        """Break off what is under way; the server may still do it."""
        for scope in list(self._under_way):
            scope.cancel()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._connection.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        accept: str = JSON,
    ) -> Answer:
        """Ask, and return the answer, whatever it is but for want of the server.

        A server that has too much to do is asked again when it says so; a refused token
        is read again once.

        Raises:
            LostError: no answer came in time, or the server failed.
            UnavailableError: nothing was sent, or nothing was done.
        """
        asked = Request(method, path, query, body, accept)
        deadline = anyio.current_time() + self.seconds
        with anyio.CancelScope(deadline=deadline) as scope:
            self._under_way.add(scope)
            try:
                return await self._insist(asked)
            finally:
                self._under_way.discard(scope)
        if anyio.current_time() < deadline:
            raise self._lost("was not waited for")
        raise self._lost(f"did not answer in {self.seconds:g} s")

    async def _insist(self, asked: Request) -> Answer:
        renewed = False
        while True:
            readings = self._connection.readings
            try:
                answer, headers = await self._exchange(asked)
            except _UntrustedError:
                # Nothing was sent. Perhaps either side has new certificates.
                if renewed or not readings:
                    raise
                renewed = True
                await self._connection.renew(readings)
                continue
            if answer.status == TOO_MANY:
                await self._hold_back(headers)
            elif answer.status == UNAUTHORIZED and not renewed:
                renewed = True
                await self._connection.renew(readings)
            elif answer.status == FORBIDDEN and not await self._is_ready():
                # It does not know yet who may do what.
                message = f"the API server {self.address} is not ready"
                raise UnavailableError(f"{message}: {answer.explanation().message}")
            elif answer.status >= _SERVER_FAULT:
                raise self._failed(answer.explanation().message)
            else:
                return answer

    async def _is_ready(self) -> bool:
        answer, _ = await self._exchange(Request("GET", "/readyz", accept="*/*"))
        # Not every proxy in front of a server lets that through.
        return answer.ok or answer.status == NOT_FOUND

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

    async def _exchange(self, asked: Request) -> tuple[Answer, Mapping[str, str]]:
        sent = boot_microseconds()
        request = await self._connection.begin(asked, _LIMITS)
        try:
            async with request as reply:
                content = await reply.read()
                self._tell_time(reply.headers, sent)
                answer = Answer(reply.status, content, asked.path, asked.method)
                return answer, reply.headers
        except aiohttp.ClientSSLError as error:
            self.failures += 1
            message = (
                f"the API server {self.address} cannot be trusted: {_words(error)}"
            )
            raise _UntrustedError(message) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self.failures += 1
            message = (
                f"the API server {self.address} cannot be reached: {_words(error)}"
            )
            raise UnavailableError(message) from error
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            self._check_runtime(error)
            raise self._lost(f"did not answer: {_words(error)}") from error

    def _check_runtime(self, error: Exception) -> None:
        """Raise what is no failure of the connection, but a fault of ours."""
        # aiohttp says so where a session is closed in the middle of a request.
        if isinstance(error, RuntimeError) and not self._connection.closed:
            raise error

    def _tell_time(self, headers: Mapping[str, str], sent: int) -> None:
        date = headers.get("Date")
        if date and self._measure is not None:
            try:
                theirs = microseconds_of(date)
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
        accept: str = JSON,
    ) -> AsyncGenerator[AsyncGenerator[bytes]]:
        """Ask for a watch, and give its lines as they come.

        Raises:
            GoneError: the server has forgotten the moment to begin at.
            UnavailableError: the watch was refused, broke off, or was silent too long.
        """
        limits = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS_MAX, sock_read=silence
        )
        asked = Request("GET", path, query, accept=accept)
        readings = self._connection.readings
        async with AsyncExitStack() as stack:
            try:
                # The answer begins at once, also where nothing is to be told for long.
                with anyio.fail_after(self.seconds):
                    request = await self._connection.begin(asked, limits)
                    reply = await stack.enter_async_context(request)
                    if reply.status not in OK:
                        answer = Answer(reply.status, await reply.read(), path, "WATCH")
                        if reply.status == UNAUTHORIZED:
                            await self._connection.renew(readings)
                        raise self.refusal(answer)
                stack.callback(_hang_up, reply)
                yield _lines(reply)
            except (aiohttp.ClientError, OSError, RuntimeError) as error:
                self._check_runtime(error)
                self.failures += 1
                message = f"the watch of the API server {self.address} broke off"
                raise UnavailableError(f"{message}: {_words(error)}") from error

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
                return self._not_there(answer, status)
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

    def _not_there(self, answer: Answer, status: Status) -> SchemaError:
        message = status.message.strip()
        if message == f'namespaces "{self.namespace}" not found':
            return SchemaError(
                f"store.kubernetes.systemNamespace: the cluster has no namespace "
                f"{self.namespace}: create it"
            )
        return SchemaError(
            f'the cluster has no {answer.url}: {message}. Run "evstore migrate up", and '
            f"make sure that the namespace {self.namespace} is there"
        )

    def _forbidden(self, answer: Answer, status: Status) -> StoreError:
        verb = _VERBS.get(answer.method, "watch")
        message = f"we may not {verb} {answer.url}: {status.message}"
        return ConfigError(
            f'store.kubernetes: {message}. "evstore migrate manifests" prints the roles'
        )

    def _failed(self, message: str) -> UnavailableError:
        if _FULL in message:
            # etcd has refused it, and refuses everything until somebody makes room.
            advice = "compact and defragment it or raise its quota, disarm its alarm"
            return UnavailableError(
                f"etcd is full: {message}. To make room, {advice}; then evstore compact"
            )
        return self._lost(f"failed: {message}")

    def _lost(self, what: str) -> LostError:
        self.failures += 1
        return LostError(f"the API server {self.address} {what}")


def _hang_up(reply: aiohttp.ClientResponse) -> None:
    """Without a farewell: whoever closes the client would not wait for it."""
    transport = None if reply.connection is None else reply.connection.transport
    if transport is not None and not transport.is_closing():
        transport.abort()


async def _lines(reply: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    while True:
        try:
            line = await reply.content.readline()
        except (ValueError, HttpProcessingError) as error:
            # Not told: it begins with what others have written.
            message = f"a watch has told of more than {LINE_BYTES_MAX} bytes at once"
            raise UnavailableError(message) from error
        if not line:
            return
        yield line


def _words(error: Exception) -> str:
    # What aiohttp says of connections names objects of its own.
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        error = error.certificate_error
    elif isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    return str(error) or type(error).__name__
