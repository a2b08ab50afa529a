"""Somebody on the way between a store and PostgreSQL."""

from __future__ import annotations

import enum
import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import ByteStream, SocketStream

    from certificates import Certificate

# Eight bytes, with which a client asks for TLS: their length, and a number.
SSL_REQUEST: Final = bytes.fromhex("00000008 04d2162f")
_BROKEN: Final = (
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    OSError,  # ssl.SSLError is one
)


class Habit(enum.Enum):
    """What somebody on the way does."""

    LISTEN = "pass everything on"
    DENY = "say that the server has no TLS"
    CUT = "hang up on who asks for TLS"
    INTERCEPT = "end the TLS of the client, and speak TLS to the server"


class Wiretap:
    """Listens on a port of its own, and remembers what clients let it hear."""

    def __init__(self, habit: Habit, server_port: int, shown: Certificate) -> None:
        self._habit = habit
        self._server_port = server_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(shown.cert_path, shown.key_path)
        self._context.sni_callback = lambda _end, name, _context: self.names.append(
            name
        )
        self.names: Final[list[str | None]] = []
        self.greetings: Final[list[bytes]] = []
        self.heard: Final = bytearray()

    async def serve(self, client: SocketStream) -> None:
        """Serve one connection, until either side ends it."""
        with suppress(*_BROKEN):
            async with client:
                await self._serve(client)

    async def _serve(self, client: SocketStream) -> None:
        greeting = await _exactly(client, len(SSL_REQUEST))
        self.greetings.append(greeting)
        match self._habit:
            case Habit.LISTEN:
                async with await self._server() as server:
                    await server.send(greeting)
                    await self._join(client, server)
            case Habit.DENY:
                await client.send(b"N")
                while True:
                    self.heard.extend(await client.receive())
            case Habit.CUT:
                pass
            case Habit.INTERCEPT:
                await client.send(b"S")
                deceived = await TLSStream.wrap(
                    client,
                    server_side=True,
                    ssl_context=self._context,
                    standard_compatible=False,
                )
                async with await self._server() as server:
                    await self._join(deceived, await _encrypted(server))

    async def _server(self) -> SocketStream:
        return await anyio.connect_tcp("127.0.0.1", self._server_port)

    async def _join(self, client: ByteStream, server: ByteStream) -> None:
        async with anyio.create_task_group() as tasks:

            async def answers() -> None:
                with suppress(*_BROKEN):
                    while True:
                        await client.send(await server.receive())
                tasks.cancel_scope.cancel()

            tasks.start_soon(answers)
            with suppress(*_BROKEN):
                while True:
                    data = await client.receive()
                    self.heard.extend(data)
                    await server.send(data)
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def tapped(
    habit: Habit, server_port: int, shown: Certificate
) -> AsyncGenerator[tuple[Wiretap, int]]:
    """Put somebody before a server, who may show a certificate; yield it and its port."""
    tap = Wiretap(habit, server_port, shown)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, tap.serve)
        yield tap, listener.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


async def _encrypted(server: SocketStream) -> TLSStream:
    await server.send(SSL_REQUEST)
    assert await _exactly(server, 1) == b"S"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return await TLSStream.wrap(
        server, server_side=False, ssl_context=context, standard_compatible=False
    )


async def _exactly(stream: ByteStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await stream.receive(count - len(data))
    return data
